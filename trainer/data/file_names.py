"""The names of a dataset's files: can they all lie together in one folder, on every file system that a team uses?

Knows which names are one on some file systems: by case, by Unicode form. Refuses to keep the names: of each a number of 64 bits, and only
where two numbers agree are the names themselves looked at again.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from trainer.data.listing import DAMAGED, RENAME
from trainer.errors import ManifestError
from trainer.paths import LONGEST_PART, path_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class FileNames:
    """Names as they come, sorted by their UTF-8 bytes."""

    def __init__(self) -> None:
        """None yet."""
        self._before = b""
        self._folder = ""
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._doubtful = False

    def add(self, name: bytes) -> None:
        """Take the next one. Raises `ManifestError` for a name that no dataset may have, and `UnicodeDecodeError`."""
        path = name.decode()
        if not _is_plain(path) and (fault := path_fault(path)):
            raise ManifestError(f"file {path!r}: {fault}", hint=RENAME)
        if name <= self._before:
            raise ManifestError(f"file {path!r} stands twice or out of order", hint=DAMAGED)
        self._before = name
        folded = _folded(path)
        number = hash(folded)
        self._doubtful |= number in self._files
        self._files.add(number)
        folder = folded.rpartition("/")[0]
        if folder != self._folder:
            self._folder = folder
            self._folders.update(map(hash, _above(folder)))

    def require(self, names: Iterable[str]) -> None:
        """Raise `ManifestError` if two of the names that were taken are one file, or one of them a folder too; `names` are they, again."""
        if self._doubtful or not self._files.isdisjoint(self._folders):
            _require_apart(names)


def check_paths(paths: Sequence[str]) -> None:
    """Refuse files that could not lie together in one folder on every file system, or that are out of order."""
    names = FileNames()
    for path in paths:
        try:
            encoded = path.encode()
        except UnicodeEncodeError as fault:
            raise ManifestError(f"file {path!r}: not UTF-8", hint=RENAME) from fault
        names.add(encoded)
    names.require(paths)


def _require_apart(paths: Iterable[str]) -> None:
    """The same, by the names themselves."""
    names: dict[str, str] = {}
    for path in paths:
        folded = _folded(path)
        if folded in names:
            raise ManifestError(f"files {names[folded]!r} and {path!r} are one file on some file systems", hint=RENAME)
        names[folded] = path
    _no_file_is_a_folder(names)


def _no_file_is_a_folder(names: Mapping[str, str]) -> None:
    for folder in {name.rpartition("/")[0] for name in names}:
        for above in _above(folder):
            if file := names.get(above):
                raise ManifestError(f"file {file!r} is also a folder", hint=RENAME)


def _above(folder: str) -> list[str]:
    """A folder and those that it lies in."""
    parts = folder.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)] if folder else []


def _is_plain(path: str) -> bool:
    """Whether a path is so plain that nothing can be wrong with it: most are, and a million take a second less a rule."""
    return len(path) <= LONGEST_PART and _PLAIN.fullmatch(path) is not None


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
