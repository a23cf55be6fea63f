"""Compare the code of two runs: unpack both source bundles in memory and produce a diff per file.

A bundle that does not match its record is rejected. A large or binary file is only reported as different.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DigestMismatchError
from trainer.base.suggestions import counted
from trainer.source.capture import ARCHIVE, read_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.runs.record import Imported
    from trainer.source.capture import SourceFile

LARGEST: Final = 1 << 20
"""The largest file, in bytes, that is compared line by line."""
MOST_LINES: Final = 20_000
"""The largest number of lines of such a file: the comparison is quadratic in the worst case."""
LOCK: Final = "uv.lock"
_NAMED: Final = 8
"""The number of files that the first line lists."""


def code_diff(
    a: Path, b: Path, *, named: tuple[str, str], imported: tuple[Imported | None, Imported | None] = (None, None)
) -> tuple[list[str], bool]:
    """Compare the bundles in two run folders with the digests `named`: return the lines of a unified diff, without line ends.

    The first lines list the files. If both records list the imported files, imported and other files are listed separately, and the second
    value is whether an imported file differs. Raise `SourceError` if a file is no bundle, `DigestMismatchError` if it has another digest.
    """
    one, other = (_files(folder, digest) for folder, digest in zip((a, b), named, strict=True))
    paths = sorted((path for path in {*one, *other} if _told(one.get(path)) != _told(other.get(path))), key=_likely)
    ran, idle = _split(paths, imported)
    lines = [line for path in (*ran, *idle) for line in _between(path, one.get(path), other.get(path))]
    if idle and not ran:
        return [f"differs only in files that neither run imported: {_listed(idle)}", *lines], False
    if idle:
        return [f"imported: {_listed(ran)}", f"imported by neither run: {_listed(idle)}", *lines], True
    return [*([_listed(ran)] if len(ran) > 1 else []), *lines], True


def _split(paths: list[str], imported: tuple[Imported | None, Imported | None]) -> tuple[list[str], list[str]]:
    """Split into files that one of the runs imported and other files; without both lists of imports, all files are in the first list."""
    one, other = imported
    if one is None or other is None:
        return paths, []
    known = {*one.files, *other.files}
    return [path for path in paths if path in known], [path for path in paths if path not in known]


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{counted(len(paths), 'file')}: {', '.join(paths[:_NAMED])}{more}"


def _likely(path: str) -> tuple[bool, str]:
    """Sort code that a training may import first, tests and documentation last."""
    return not path.endswith(".py") or path.startswith(("tests/", "docs/")), path


def _files(folder: Path, digest: str) -> dict[str, SourceFile]:
    bundle = read_archive(folder / ARCHIVE)
    if bundle.digest != digest:
        said = f"{folder / ARCHIVE} is the source {bundle.digest}; its record names {digest}"
        raise DigestMismatchError(
            said, hint="do not use it; if the run is in the store, remove it here and pull it again"
        )
    return {file.path: file for file in bundle.files}


def _told(file: SourceFile | None) -> tuple[str, bool] | None:
    return None if file is None else (file.sha256, file.executable)


def _between(path: str, a: SourceFile | None, b: SourceFile | None) -> Iterator[str]:
    if a is not None and b is not None and a.sha256 == b.sha256:
        modes = {True: "executable", False: "not executable"}
        yield f"{path}: {modes[a.executable]} in A, {modes[b.executable]} in B"
        return
    one, other = _lines(a), _lines(b)
    if a is not None and b is not None and path == LOCK:
        yield f"{LOCK}: other files of packages; those that were installed are compared as packages"
        return
    if one is None or other is None:
        sizes = (f"{len(file.data)} bytes" if file else "absent" for file in (a, b))
        yield f"{path}: not text, or too long to compare by lines: {' in A, '.join(sizes)} in B"
        return
    names = (f"A/{path}" if a else "/dev/null", f"B/{path}" if b else "/dev/null")
    yield from difflib.unified_diff(one, other, *names, lineterm="", n=2)


def _lines(file: SourceFile | None) -> list[str] | None:
    if file is None:
        return []
    if len(file.data) > LARGEST or b"\0" in file.data:
        return None
    try:
        lines = file.data.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return lines if len(lines) <= MOST_LINES else None
