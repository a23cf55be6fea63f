"""Capture the source of a run from a checkout and freeze it into the run's folder.

The archive and the copy from which the run starts are written from a single read of each file, so they are equal even if a file is edited
in the meantime. A bundle is identified by the digest of the canonical JSON of its sorted `[path, executable, sha256]`, since the bytes of
the archive depend on the compressor's version. A commit is only an annotation.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical
from trainer.base.document import read_json_below
from trainer.base.errors import SourceError
from trainer.base.safe_folder import run_root
from trainer.source.archive import (
    LARGEST,
    SourceBundle,
    SourceFile,
    archive,
    bundle_digest,
    is_unpacked,
    read_archive,
    unpack,
)
from trainer.source.description import Project, Source
from trainer.source.read_folder import BAKED_MARK, NOT_LISTED, FileReader, allowed_paths, read_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trainer.base.git import CheckoutFiles

ARCHIVE: Final = "source.tar.gz"
COPY: Final = "source"
SOURCE_DESCRIPTION: Final = "captured.json"
"""The file with the description of a source that was written into a run's folder before the run started."""
PREPARED_RUN_VARIABLE: Final = "REPRISE_PREPARED_RUN"
"""The variable with the ID of the run whose folder and source another command prepared."""
NOTEBOOK: Final = "REPRISE_NOTEBOOK"
"""The variable with the path of the file with the cells of the notebook that started the run."""
CELLS: Final = "notebook/cells.py"
"""The path of the notebook's cells in the source."""
_MOUNTS: Final = Path("/proc/self/mountinfo")


def freeze(
    checkout: Path, into: Path, *, extra: Mapping[str, Path] | None = None, largest: int = LARGEST
) -> SourceBundle:
    """Capture `checkout` into the run's folder `into`, as `source.tar.gz` and unpacked as `source/`.

    The parent of `into` is never captured. `extra` maps paths in the bundle to files and projects elsewhere. Raise as `capture` does, and
    `DiskFullError` or `NotWritableError` if the source cannot be written.
    """
    bundle = capture(checkout, extra=extra, runs=into.parent, largest=largest)
    with disk_faults(into), run_root(into) as run:
        run.write_whole(ARCHIVE, archive(bundle))
        unpack(bundle, run, COPY)
    return bundle


def place_source(bundle: SourceBundle, into: Path) -> None:
    """Write a bundle into the folder of a run that has not started; `take_placed_source` reads it.

    Raise `DiskFullError`, `NotWritableError`.
    """
    with disk_faults(into), run_root(into) as run:
        run.write_whole(ARCHIVE, archive(bundle))
        unpack(bundle, run, COPY)
        run.write_whole(SOURCE_DESCRIPTION, canonical(bundle.source.model_dump(mode="json")))


def take_placed_source(into: Path) -> SourceBundle | None:
    """Return the source that `place_source` wrote into the run's folder `into`; `None` if it wrote no source. Remove the description.

    A copy that differs from the archive is unpacked again; an equal copy is kept, since machines of a cluster may have mounted it.

    Raise `SourceError` if the archive is invalid, `DocumentError` if the description is invalid, `DiskFullError`, `NotWritableError`.
    """
    bundle = placed_source(into)
    if bundle is None:
        return None
    with disk_faults(into), run_root(into) as run:
        if not is_unpacked(bundle, run, COPY):
            run.remove_tree(COPY)
            unpack(bundle, run, COPY)
        run.unlink(SOURCE_DESCRIPTION)
        return bundle


def placed_source(folder: Path) -> SourceBundle | None:
    """Return the source that another command placed into the run's folder, and leave it there; `None` if there is none.

    Raise `SourceError`, `DocumentError`.
    """
    with disk_faults(folder), run_root(folder) as run:
        if run.stat(SOURCE_DESCRIPTION) is None:
            return None
        return replace(read_archive(folder / ARCHIVE), source=read_json_below(run, SOURCE_DESCRIPTION, Source))


def capture(
    checkout: Path, *, extra: Mapping[str, Path] | None = None, runs: Path | None = None, largest: int = LARGEST
) -> SourceBundle:
    """Capture `checkout`. A folder in `extra` is the root of a project, whose files are captured by the rules for a checkout.

    Raise `SourceError` if `checkout` is not a folder or is empty, if the source has more than `largest` bytes, or if an extra file cannot
    be captured or has the path of a file of the checkout.
    """
    root = checkout.resolve()
    if not root.is_dir():
        raise SourceError(
            f"{checkout} is not a folder; expected a checkout", hint="pass the folder that contains pyproject.toml"
        )
    near = () if runs is None else (runs,)
    whole = read_folder(root, excluded=["runs/", *_inside(root, near)], largest=largest, what="this checkout")
    files, left_out, project = [*whole.files], [*whole.left_out], None
    for path, origin in (extra or {}).items():
        if taken := next((file.path for file in files if f"{file.path}/".startswith(f"{path}/")), None):
            message = f"the checkout has {taken}; {origin} would become {path} in the run's source"
            raise SourceError(message, hint="rename that file or folder in the checkout")
        left = largest - sum(len(file.data) for file in files)
        if not origin.is_dir():
            files += FileReader(root=root, left=left, left_out=left_out, allowed=allowed_paths(root)).add(
                {path: origin}
            )
            continue
        origin_root = origin.resolve()
        part = read_folder(origin_root, excluded=_inside(origin_root, (root, *near)), largest=left, what=str(origin))
        files += [replace(file, path=f"{path}/{file.path}") for file in part.files]
        left_out += [f"{path}/{line}" if line is not NOT_LISTED else f"{path}: {line}" for line in part.left_out]
        project = Project(path=path, **_of_git(part.git_listing), files=len(part.files))
    if not files:
        raise SourceError(f"{checkout} contains no source files", hint="run the command in a checkout of the project")
    files.sort(key=lambda file: file.path)
    source = Source(
        how=_how(root),
        **_of_git(whole.git_listing),
        project=project,
        files=len(files),
        bytes=sum(len(file.data) for file in files),
        left_out=left_out,
    )
    return SourceBundle(digest=bundle_digest(files), source=source, files=tuple(files))


def _of_git(git_listing: CheckoutFiles | None) -> dict[str, Any]:
    """Return the commit of a folder, whether files differ from the commit, and the commits of its submodules."""
    if git_listing is None:
        return {"commit": "unknown", "dirty": None, "submodules": {}}
    return {"commit": git_listing.commit or "unknown", "dirty": git_listing.dirty, "submodules": git_listing.submodules}


def _inside(root: Path, others: Iterable[Path]) -> list[str]:
    """Return the prefixes, relative to `root`, of the paths in those of the folders `others` that are inside `root`."""
    folders = [other.resolve() for other in others]
    return [f"{each.relative_to(root).as_posix()}/" for each in folders if each != root and each.is_relative_to(root)]


def _how(root: Path) -> Literal["mounted", "baked"]:
    """Return `baked` if the source is part of the image, `mounted` if it is mounted or this is not a container of an image."""
    if not BAKED_MARK.exists():
        return "mounted"
    try:
        points = [line.split(" ")[4] for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "mounted"
    return "mounted" if any(point != "/" and root.is_relative_to(point) for point in points) else "baked"


__all__ = [
    "ARCHIVE",
    "COPY",
    "LARGEST",
    "PREPARED_RUN_VARIABLE",
    "SOURCE_DESCRIPTION",
    "SourceBundle",
    "SourceFile",
    "archive",
    "bundle_digest",
    "capture",
    "freeze",
    "place_source",
    "read_archive",
    "take_placed_source",
    "unpack",
]
