"""Compare the code and the datasets of two runs by file.

Source bundles are unpacked in memory and compared line by line; a large or binary file is only reported as different. A dataset's manifest
is read from the local cache, by the content digest in the record, or from a store, by its own digest. A bundle that does not match its
record is rejected; a manifest with another content digest is ignored. No data is fetched.
"""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted
from trainer.comparison.weights import PULL_AGAIN
from trainer.data.declaration import NAME
from trainer.data.manifest import content_digest, parse_manifest
from trainer.source.capture import ARCHIVE, read_archive
from trainer.stores.contract import object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.data.manifest_lines import ManifestFiles
    from trainer.runs.record import Imported, Record
    from trainer.source.capture import SourceFile
    from trainer.stores.contract import Store

LARGEST: Final = 1 << 20
"""The largest file, in bytes, that is compared line by line."""
MOST_LINES: Final = 20_000
"""The maximum number of lines of a file that is compared line by line, which takes quadratic time in the worst case."""
LARGEST_MANIFEST: Final = 256 << 20
"""The maximum size of a manifest in bytes: about two million files."""
LOCK: Final = "uv.lock"
_NAMED: Final = 8
"""The maximum number of files that a line lists by name."""


def code_diff(
    a: Path, b: Path, *, digests: tuple[str, str], imported: tuple[Imported | None, Imported | None] = (None, None)
) -> tuple[list[str], bool]:
    """Compare the source bundles in two run folders, which must have `digests`.

    Return the lines of a unified diff, without line ends, and whether an imported file differs. The first lines list the files; imported
    and other files are listed separately if both records list the imported files; otherwise every file counts as imported. Raise
    `SourceError` if a file is not a bundle, `DigestMismatchError` if a bundle has another digest.
    """
    one, other = (_source_files(folder, digest) for folder, digest in zip((a, b), digests, strict=True))
    versions = ({path: (file.sha256, file.executable) for path, file in files.items()} for files in (one, other))
    changed = {path for path, _ in next(versions).items() ^ next(versions).items()}
    # code that a training run may import first, tests and documentation last
    paths = sorted(changed, key=lambda path: (not path.endswith(".py") or path.startswith(("tests/", "docs/")), path))
    imported_paths = changed if None in imported else {path for each in imported if each for path in each.files}
    ran, idle = (
        [path for path in paths if path in imported_paths],
        [path for path in paths if path not in imported_paths],
    )
    lines = [line for path in (*ran, *idle) for line in _file_diff(path, one.get(path), other.get(path))]
    if idle and not ran:
        return [f"differs only in files that neither run imported: {_listed(idle)}", *lines], False
    if idle:
        return [f"imported: {_listed(ran)}", f"imported by neither run: {_listed(idle)}", *lines], True
    return [*([_listed(ran)] if len(ran) > 1 else []), *lines], True


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{counted(len(paths), 'file')}: {', '.join(paths[:_NAMED])}{more}"


def _source_files(folder: Path, digest: str) -> dict[str, SourceFile]:
    bundle = read_archive(folder / ARCHIVE)
    if bundle.digest != digest:
        message = f"{folder / ARCHIVE} is the source {bundle.digest}; its record names {digest}"
        raise DigestMismatchError(message, hint=PULL_AGAIN)
    return {file.path: file for file in bundle.files}


def _file_diff(path: str, a: SourceFile | None, b: SourceFile | None) -> Iterator[str]:
    if a is not None and b is not None and a.sha256 == b.sha256:
        modes = {True: "executable", False: "not executable"}
        yield f"{path}: {modes[a.executable]} in A, {modes[b.executable]} in B"
        return
    one, other = _lines(a), _lines(b)
    if a is not None and b is not None and path == LOCK:
        yield f"{LOCK}: differs; the packages that were installed are compared as packages"
        return
    if one is None or other is None:
        sizes = (f"{len(file.data)} bytes" if file else "absent" for file in (a, b))
        yield f"{path}: not text, or too long to compare by lines: {' in A, '.join(sizes)} in B"
        return
    names = (f"A/{path}" if a else "/dev/null", f"B/{path}" if b else "/dev/null")
    yield from difflib.unified_diff(one, other, *names, lineterm="", n=2)


def _lines(file: SourceFile | None) -> list[str] | None:
    """Return the lines of a file; `None` if it is not text or is too long."""
    if file is None:
        return []
    if len(file.data) > LARGEST or b"\0" in file.data:
        return None
    try:
        lines = file.data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return lines if len(lines) <= MOST_LINES else None


def dataset_diff(name: str, a: Record, b: Record, *, cache: Path, store: Store | None) -> list[str] | None:
    """Return a line for each file that was added, removed or changed from `a` to `b`; `None` if a manifest is not available."""
    manifests = [_manifest(name, record, cache, store) for record in (a, b)]
    if None in manifests:
        return None
    before, after = ({entry.path: entry for entry in manifest or ()} for manifest in manifests)
    lines = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            file = old or new
            lines.append(f"{'-' if new is None else '+'} {path}  {file.size if file else 0} bytes")
        elif old.sha256 != new.sha256:
            lines.append(f"~ {path}  {old.size} -> {new.size} bytes  {old.sha256[:19]} -> {new.sha256[:19]}")
    return lines


def _manifest(name: str, record: Record, cache: Path, store: Store | None) -> ManifestFiles | None:
    """Return the manifest of the run's dataset `name`; `None` if it is not available or the name is invalid."""
    if not re.fullmatch(NAME, name):
        return None
    content = record.ingredients.datasets[name].content
    for text in _manifest_texts(name, content, record.circumstances.manifests.get(name), cache=cache, store=store):
        with suppress(RepriseError):
            manifest = parse_manifest(text)
            if content_digest(manifest) == content:
                return manifest
    return None


def _manifest_texts(
    name: str, content: str, digest: str | None, *, cache: Path, store: Store | None
) -> Iterator[bytes]:
    with suppress(OSError, DocumentError, UnsafePathError), Root.at(cache) as root:  # the dataset is not in the cache
        yield root.read(f"versions/{name}/{content.removeprefix('sha256:')}/manifest.jsonl", most=LARGEST_MANIFEST)
    if store is not None and digest is not None:
        with suppress(RepriseError):  # the store is unreachable or lacks the manifest
            yield read_small(store, object_key(digest), largest=LARGEST_MANIFEST)
