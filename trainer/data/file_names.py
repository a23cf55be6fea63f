"""Check that the names of a dataset's files can exist together in a folder on every common file system.

Names must differ by more than case or Unicode form, and be valid on Windows. Only a 64-bit hash of each name is kept; the names themselves
are compared if two hashes are equal.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ManifestError
from trainer.base.paths import LONGEST_PART, path_fault
from trainer.base.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

DAMAGED: Final = "the manifest is damaged, or was written by another program: publish the dataset again"
RENAME: Final = "rename the file, then publish again"


class FileNames:
    """A check of names that are added in the order of their UTF-8 bytes."""

    def __init__(self) -> None:
        self._before = b""
        self._folder = ""
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._doubtful = False

    def add(self, name: bytes) -> None:
        """Add the next name. Raise `ManifestError` if it is invalid or out of order, `UnicodeDecodeError` if it is not UTF-8."""
        path = name.decode()
        if not _is_plain(path) and (fault := path_fault(path)):
            raise ManifestError(f"file {path!r}: {fault}", hint=RENAME)
        if name <= self._before:
            raise ManifestError(f"file {path!r} is repeated or out of order", hint=DAMAGED)
        self._before = name
        spelled = folded(path)
        number = hash(spelled)
        self._doubtful |= number in self._files
        self._files.add(number)
        folder = spelled.rpartition("/")[0]
        if folder != self._folder:
            self._folder = folder
            self._folders.update(map(hash, _above(folder)))

    def require(self, names: Iterable[str]) -> None:
        """Raise `ManifestError` if two names could be the same file, or a file is also a folder; `names` are all added names."""
        if self._doubtful or not self._files.isdisjoint(self._folders):
            _require_distinct(names)


def check_paths(paths: Sequence[str]) -> None:
    """Raise `ManifestError` if paths cannot exist together on every common file system, or are out of order."""
    names, unportable, folder, in_odd_folder = FileNames(), [], "", False
    for path in paths:
        try:
            encoded = path.encode()
        except UnicodeEncodeError as fault:
            shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
            hint = f"{RENAME}; if it is Latin-1: convmv -r -f latin1 -t utf8 --notest DIR"
            raise ManifestError(f"file '{shown}': its name is not UTF-8", hint=hint) from fault
        names.add(encoded)
        above, _, name = path.rpartition("/")
        if above != folder:
            folder, in_odd_folder = above, _unportable().search(above) is not None
        if in_odd_folder or _may_be_unportable(name):
            unportable.append(path)
    unportable = [path for path in unportable if portable_fault(path)]
    if unportable:
        problem = portable_fault(unportable[0])
        more = f" (and {len(unportable) - 1:,} more such names)" if len(unportable) > 1 else ""
        message = f"file {unportable[0]!r}: {problem}, which Windows does not allow in file names{more}"
        raise ManifestError(message, hint=RENAME)
    names.require(paths)


def is_plain_name(name: str) -> bool:
    """Return whether a name is certainly not one that `reason_to_leave_out` leaves out; a fast check."""
    return _ODD.match(name) is None and name[-1] != "~"


def reason_to_leave_out(name: str, *, has_hidden: bool) -> str:
    """Return why a file or folder is not published, "hidden" or "of the system"; empty if it is published.

    >>> reason_to_leave_out(".git", has_hidden=False), reason_to_leave_out("Thumbs.db", has_hidden=True)
    ('hidden', 'of the system')
    """
    if _litter().fullmatch(name):
        return "of the system"
    is_hidden = name.startswith((".", "~$")) or name.endswith("~")
    return "hidden" if is_hidden and not has_hidden else ""


def hint_for_path(path: str, known: Collection[str]) -> str:
    r"""Return the hint for an unknown path: its right spelling, or the nearest paths.

    >>> hint_for_path(r".\a\1.png", ["a/1.png"]), hint_for_path("/home/me/d/a/1.png", ["a/1.png"])
    ('write a/1.png', 'write a/1.png')
    """
    parts = [part for part in path.strip(" \t'\"").replace("\\", "/").split("/") if part not in {"", "."}]
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    right = next((tail for tail in tails if tail != path and tail in known), None)
    right = right or next((each for each in known if each.lower() == path.lower()), None)
    return f"write {right}" if right else did_you_mean(path, known)


def portable_fault(path: str) -> str | None:
    """Describe the part of a path that Windows does not allow; `None` if Windows allows the path.

    Such names are rejected only on publication; existing versions can still be fetched.

    >>> portable_fault("a/b:c.txt"), portable_fault("aux.txt"), portable_fault("a./b")
    ("the character ':'", "the name 'aux.txt'", "'a.' ends with a dot")
    """
    match = _unportable().search(path)
    if match is None:
        return None
    if match["character"]:
        return f"the character {match['character']!r}"
    part = path[path.rfind("/", 0, match.end() - 1) + 1 :].partition("/")[0]
    if match["end"]:
        return f"{part!r} ends with a {'dot' if match['end'] == '.' else 'space'}"
    return f"the name {part!r}"


def _may_be_unportable(name: str) -> bool:
    """Return whether a name needs a closer check; skipping it saves five seconds for a million names."""
    return not name.isascii() or name[:3].lower() in _RESERVED or name[-1:] in _ENDS or not _CHARACTERS.isdisjoint(name)


def _require_distinct(paths: Iterable[str]) -> None:
    """Raise `ManifestError` if two names differ only by case or Unicode form, comparing the names instead of their hashes."""
    names: dict[str, str] = {}
    for path in paths:
        spelled = folded(path)
        if before := names.get(spelled):
            show = repr if before.casefold() == path.casefold() else ascii  # two Unicode forms look alike
            raise ManifestError(f"files {show(before)} and {show(path)} are one file on some file systems", hint=RENAME)
        names[spelled] = path
    for folder in {name.rpartition("/")[0] for name in names}:
        for above in _above(folder):
            if file := names.get(above):
                raise ManifestError(f"file {file!r} is also a folder", hint=RENAME)


def _above(folder: str) -> list[str]:
    """Return a folder and its parent folders."""
    parts = folder.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)] if folder else []


def _is_plain(path: str) -> bool:
    """Return whether a path is certainly valid; a fast check, which saves a second per rule and million paths."""
    return len(path) <= LONGEST_PART and _PLAIN.fullmatch(path) is not None


def folded(path: str) -> str:
    """Return a name without the differences that some file systems ignore: case and Unicode form."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


@cache
def _litter() -> re.Pattern[str]:
    """Match files that operating systems, file servers, notebooks and Python create in folders; they are never part of a dataset."""
    return re.compile(  # compiled on first use, because a fetch from a warm cache checks no names
        r"\.DS_Store|\._.*|\.AppleDouble|\.Spotlight-V100|\.Trashes|\.Trash-\d+|\.fseventsd|__MACOSX|Icon\r"
        r"|Thumbs\.db|ehthumbs\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information|\.nfs[0-9a-f]+|@eaDir|lost\+found"
        r"|[#@]recycle|[#@]snapshot|\.ipynb_checkpoints|__pycache__",
        re.IGNORECASE | re.DOTALL,
    )


@cache
def _unportable() -> re.Pattern[str]:
    """Match paths that Windows rejects because of a character, the end of a part, or the name of a device."""
    return re.compile(
        r"""(?P<character>[<>:"|?*\x80-\x9f])|(?P<end>[. ])(?:/|$)|"""
        r"(?:^|/)(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[1-9\xb9\xb2\xb3])(?=[. /]|$)",
        re.IGNORECASE,
    )


_ODD: Final = re.compile(r"[.~$@#_IiTtEeDdSsLl]")
"""First characters of names that may be left out."""
_RESERVED: Final = frozenset({"con", "prn", "aux", "nul", "com", "lpt"})
"""First three letters of the names of Windows devices."""
_ENDS: Final = frozenset(". ")
_CHARACTERS: Final = frozenset('<>:"|?*')
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
