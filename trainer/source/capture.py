"""Capture the source of a run from a checkout and freeze it into the run's folder.

The archive and the copy that the run starts from are written from one read of each file, so that they are equal even if a file is
edited meanwhile. A bundle is identified by the digest of the canonical JSON of its sorted `[path, executable, sha256]`: the archive's
bytes depend on the compressor's version, and a commit is an annotation.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.document import read_json_below
from trainer.base.errors import SourceError
from trainer.base.git import listing, without_ignored
from trainer.base.paths import path_fault, repository_parts
from trainer.base.plain_text import read_text
from trainer.base.safe_folder import run_root
from trainer.base.secret_detection import secret_by_content, secret_by_name
from trainer.base.walk import walk
from trainer.source.archive import (
    LARGEST,
    SourceBundle,
    SourceFile,
    archive,
    bundle_digest,
    read_archive,
    size_text,
    unpack,
)
from trainer.source.description import Project, Source
from trainer.source.project import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trainer.base.git import Listing

ARCHIVE: Final = "source.tar.gz"
COPY: Final = "source"
ALLOWED: Final = ".reprise-no-secrets"
"""The file of a checkout that lists files that look like secrets and are not."""
SOURCE_DESCRIPTION: Final = "captured.json"
"""The description of a source that was placed into a run's folder before the run started."""
PREPARED_RUN_VARIABLE: Final = "REPRISE_PREPARED_RUN"
"""The variable with the run whose folder and source another command prepared."""
NOTEBOOK: Final = "REPRISE_NOTEBOOK"
"""The variable with the file of a notebook's cells, from which the run was started."""
CELLS: Final = "notebook/cells.py"
"""The file of the notebook's cells in the source."""
_WALKED: Final = (
    "(git cannot list this folder: every file is captured except those in .gitignore, caches, virtual environments and build "
    "outputs)"
)
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_BAKED_MARK: Final = Path("/opt/reprise/image.json")
_MOUNTS: Final = Path("/proc/self/mountinfo")


def freeze(
    checkout: Path, into: Path, *, extra: Mapping[str, Path] | None = None, largest: int = LARGEST
) -> SourceBundle:
    """Capture `checkout` into the run's folder `into`, as `source.tar.gz` and unpacked as `source/`.

    The parent of `into` is never captured. `extra` adds files and projects from elsewhere, by path in the bundle. Raise `SourceError`,
    `DiskFullError`, `NotWritableError`.
    """
    bundle = capture(checkout, extra=extra, runs=into.parent, largest=largest)
    with disk_faults(into), run_root(into) as run:
        run.write_whole(ARCHIVE, archive(bundle))
        unpack(bundle, run, COPY)
    return bundle


def place_source(bundle: SourceBundle, into: Path) -> None:
    """Place a bundle into the folder of a run that has not started; `take_placed_source` reads it.

    Raise `DiskFullError`, `NotWritableError`.
    """
    with disk_faults(into), run_root(into) as run:
        run.write_whole(ARCHIVE, archive(bundle))
        unpack(bundle, run, COPY)
        run.write_whole(SOURCE_DESCRIPTION, canonical(bundle.source.model_dump(mode="json")))


def take_placed_source(into: Path) -> SourceBundle | None:
    """Unpack the source that another command placed into the run's folder `into`; return `None` if there is none.

    Raise `SourceError`, `DocumentError`, `DiskFullError`, `NotWritableError`.
    """
    with disk_faults(into), run_root(into) as run:
        if run.stat(SOURCE_DESCRIPTION) is None:
            return None
        bundle = replace(read_archive(into / ARCHIVE), source=read_json_below(run, SOURCE_DESCRIPTION, Source))
        run.remove_tree(COPY)
        unpack(bundle, run, COPY)
        run.unlink(SOURCE_DESCRIPTION)
        return bundle


def capture(
    checkout: Path, *, extra: Mapping[str, Path] | None = None, runs: Path | None = None, largest: int = LARGEST
) -> SourceBundle:
    """Capture `checkout`. Raise `SourceError` if it is not a folder, is empty, or holds more than `largest` bytes.

    A folder in `extra` is the root of a project, whose files are captured by the rules of a checkout.
    """
    root = checkout.resolve()
    if not root.is_dir():
        raise SourceError(
            f"{checkout} is not a folder; expected a checkout", hint="pass the folder that contains pyproject.toml"
        )
    near = () if runs is None else (runs,)
    whole = _read_folder(root, excluded=["runs/", *_inside(root, near)], largest=largest, what="this checkout")
    files, left_out, project = [*whole.files], [*whole.left_out], None
    for path, origin in (extra or {}).items():
        if taken := next((file.path for file in files if f"{file.path}/".startswith(f"{path}/")), None):
            message = f"the checkout has {taken}; {origin} would become {path} of the run's source"
            raise SourceError(message, hint="rename that file or folder of the checkout")
        left = largest - sum(len(file.data) for file in files)
        if not origin.is_dir():
            files += _Reader(root=root, left=left, left_out=left_out, allowed=_allowed(root)).add({path: origin})
            continue
        theirs = origin.resolve()
        part = _read_folder(theirs, excluded=_inside(theirs, (root, *near)), largest=left, what=str(origin))
        files += [replace(file, path=f"{path}/{file.path}") for file in part.files]
        left_out += [f"{path}/{line}" if line is not _WALKED else f"{path}: {line}" for line in part.left_out]
        project = Project(path=path, **_of_git(part.known), files=len(part.files))
    if not files:
        raise SourceError(f"{checkout} holds no source", hint="run the command in a checkout of the project")
    files.sort(key=lambda file: file.path)
    source = Source(
        how=_how(root),
        **_of_git(whole.known),
        project=project,
        files=len(files),
        bytes=sum(len(file.data) for file in files),
        left_out=left_out,
    )
    return SourceBundle(digest=bundle_digest(files), source=source, files=tuple(files))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """What was captured of a folder."""

    files: list[SourceFile]
    known: Listing | None
    """None if git cannot list the folder."""
    left_out: list[str]


def _read_folder(root: Path, *, excluded: Iterable[str], largest: int, what: str) -> _Folder:
    """Read the files of a folder that belong to a source: tracked, or untracked and not ignored; `what` names it in messages."""
    known = listing(root)
    found = known.paths if known else without_ignored(root, walk(root))
    listed = [path for path in found if not path.startswith(tuple(excluded))]
    captured = {*listed, *_through_links(root, listed)}
    repositories = repository_parts(captured)
    paths = sorted(captured - repositories)
    _check_size(root, paths, largest, what=what)
    left_out = [*(_not_initialized(known) if known else [_WALKED]), *_repositories(repositories)]
    reader = _Reader(root=root, left=largest, left_out=left_out, allowed=_allowed(root))
    return _Folder(files=[*reader.read(paths)], known=known, left_out=left_out)


def _of_git(known: Listing | None) -> dict[str, Any]:
    """Return the commit of a folder, whether its files differ from it, and the commits of its submodules."""
    if known is None:
        return {"commit": "unknown", "dirty": None, "submodules": {}}
    return {"commit": known.commit or "unknown", "dirty": known.dirty, "submodules": known.submodules}


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads files up to a total size, and lists the files left out."""

    root: Path
    left: int
    left_out: list[str]
    allowed: frozenset[str] = frozenset()
    """Files that look like secrets and are not, as listed by a committed file."""

    def read(self, paths: Iterable[str]) -> Iterator[SourceFile]:
        """Yield the files of `paths` that belong in the bundle; files deleted meanwhile are skipped."""
        for path in paths:
            try:
                yield self._file(path, self.root / path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except _RefusedError as reason:
                self.left_out.append(f"{path if path.isprintable() else ascii(path)}: {reason}")

    def add(self, extra: Mapping[str, Path]) -> Iterator[SourceFile]:
        """Yield files from elsewhere. Raise `SourceError` if a file cannot be captured."""
        for path, origin in extra.items():
            try:
                yield self._file(path, origin.resolve())
            except OSError as fault:
                raise SourceError(
                    f"{origin} cannot be read: {fault.strerror}", hint="check the path and its permissions"
                ) from fault
            except _RefusedError as reason:
                raise SourceError(
                    f"{origin} cannot be captured: {reason}", hint="rename it, or remove the secret"
                ) from reason

    def _file(self, path: str, where: Path) -> SourceFile:
        if path.endswith("/"):
            raise _RefusedError("a git repository that is not a submodule: run `git submodule add`, or remove its .git")
        if fault := path_fault(path):
            raise _RefusedError(fault)
        target = self._followed(where) if where.is_symlink() else where
        if where.is_symlink() and target.is_dir() and not where.parent.resolve().is_relative_to(target):
            raise FileNotFoundError(path)  # the linked folder's files are captured one by one
        data, mode = self._bytes(target, path)
        if data and path not in self.allowed and (reason := _secret(path, target, data)):
            raise _RefusedError(f"{reason}; if it holds no secret, list it in {ALLOWED}")
        if data.startswith(_LFS_POINTER):
            self.left_out.append(f"{path}: a Git LFS pointer without its content: git lfs pull")
        return SourceFile(path=path, executable=bool(mode & 0o100), sha256=digest_of_bytes(data), data=data)

    def _followed(self, link: Path) -> Path:
        """Return the target of a link. Raise `_RefusedError` if it is outside the checkout: a bundle has no links."""
        there = Path(os.path.normpath(link.parent.resolve() / link.readlink()))
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError) as fault:
            if not there.is_relative_to(self.root):  # a container cannot see whether it exists
                raise _RefusedError(_out_of_checkout(link, is_seen=False)) from fault
            raise _RefusedError(f"a link to {_shown(link)}, which does not exist: remove or fix the link") from fault
        if not target.is_relative_to(self.root):
            raise _RefusedError(_out_of_checkout(link, is_seen=True))
        return target

    def _bytes(self, path: Path, name: str) -> tuple[bytes, int]:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError as fault:
            raise _RefusedError("this user cannot read it") from fault
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise _RefusedError("a folder, or a link to one" if stat.S_ISDIR(mode) else "not a regular file")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(self.left + 1)
        finally:
            os.close(handle)
        self.left -= len(data)
        if self.left < 0:
            raise _too_large("larger than what fits", [(len(data), name)])
        return data, mode


def _out_of_checkout(link: Path, *, is_seen: bool) -> str:
    if not is_seen and _BAKED_MARK.exists() and link.readlink().is_absolute():
        fix = "copy the target here, or make the link relative if it leads into the checkout"
        return f"a link to {_shown(link)}, which a container does not have: {fix}"
    return f"a link out of the checkout, to {_shown(link)}: copy the target here, or publish data as a dataset"


def _secret(path: str, target: Path, data: bytes) -> str | None:
    return secret_by_name(path) or secret_by_name(target.name) or secret_by_content(data)


def _allowed(root: Path) -> frozenset[str]:
    """Return the paths that the checkout, or a project in it, lists as free of secrets, one per line; `#` starts a comment.

    Raise `DocumentError`.
    """
    return frozenset(f"{below}{path}" for below in ("", f"{FOLDER}/") for path in _listed_paths(root / below / ALLOWED))


def _listed_paths(file: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in read_text(file).splitlines()) if file.is_file() else ()
    return [line.removeprefix("./") for line in lines if line]


def _shown(link: Path) -> str:
    text = str(link.readlink())
    return text if text.isprintable() else ascii(text)


class _RefusedError(Exception):
    """A file that cannot be captured."""


def _through_links(root: Path, paths: list[str]) -> Iterator[str]:
    """Yield the files of linked folders under the paths of the links, since a bundle has no links."""
    for link in (path for path in paths if (root / path).is_symlink() and (root / path).is_dir()):
        target = (root / link).resolve()
        if not target.is_relative_to(root) or (root / link).parent.resolve().is_relative_to(target):
            continue
        folder = f"{target.relative_to(root).as_posix()}/"
        yield from (f"{link}/{path.removeprefix(folder)}" for path in paths if path.startswith(folder))


def _not_initialized(known: Listing) -> list[str]:
    return [
        f"{path}: a submodule without files: git submodule update --init --recursive" for path in known.not_initialized
    ]


def _repositories(paths: Iterable[str]) -> list[str]:
    """Return a line for each repository folder in the checkout; its files are not captured."""
    shown = sorted({path.rpartition("/")[0].partition("/")[0] or path for path in paths})
    return [f"{name if name.isprintable() else ascii(name)}: it holds files of a repository" for name in shown]


def _check_size(root: Path, paths: Iterable[str], largest: int, *, what: str) -> None:
    sizes = []
    for path in paths:
        try:
            about = (root / path).lstat()
        except OSError:
            continue
        if stat.S_ISREG(about.st_mode):
            sizes.append((about.st_size, path))
    total = sum(size for size, _ in sizes)
    if total > largest:
        raise _too_large(f"{size_text(total)}; expected at most {size_text(largest)}", sizes, what=what)


def _too_large(found: str, sizes: list[tuple[int, str]], *, what: str = "this checkout") -> SourceError:
    named = ", ".join(f"{path} ({size_text(size)})" for size, path in sorted(sizes, reverse=True)[:3])
    hint = "list them in .gitignore, or make them a dataset: `reprise data publish`"
    return SourceError(f"the source of {what} is {found}; largest files: {named}", hint=hint)


def _inside(root: Path, others: Iterable[Path]) -> list[str]:
    """Return the prefixes of the paths in those folders that are inside of `root`."""
    folders = [other.resolve() for other in others]
    return [f"{each.relative_to(root).as_posix()}/" for each in folders if each != root and each.is_relative_to(root)]


def _how(root: Path) -> Literal["mounted", "baked"]:
    """Return `baked` if the source is part of the image and not mounted, else `mounted`."""
    if not _BAKED_MARK.exists():
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
