"""Relative paths as documents write them: which ones may be created on a reader's disk.

Knows spelling only. Refuses to touch a disk, and to mend a path: what is not acceptable is refused by name.

A run or a bundle may come from a stranger. A path in it is acceptable when it stays below the folder it is unpacked
in, on every system that a team uses, and when it can be printed in one line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = 1024
"""Bytes of UTF-8 in a whole path."""
LONGEST_PART: Final = 255
"""Bytes of UTF-8 in one part: what every common file system holds."""


def path_fault(path: str) -> str | None:
    r"""What is wrong with `path`, in a few words; None when it is acceptable.

    >>> path_fault("trainer/base/digest.py")
    >>> path_fault("../outside")
    "a part is '..'"
    >>> path_fault("a\nb")
    'a control character'
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    if not path.strip("/") or path.startswith("/"):
        return "an absolute path" if path else "empty"
    if len(encoded) > LONGEST:
        return f"longer than {LONGEST} bytes"
    if any(character < " " or character == "\x7f" for character in path):
        return "a control character"
    if "\\" in path:
        return "a backslash"
    return next(filter(None, map(_part_fault, path.split("/"))), None)


def collision(paths: Iterable[str]) -> str | None:
    """The first path that stands twice, or is a file here and a folder there; None when all can exist together.

    >>> collision(["a/b", "a"])
    'a'
    """
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        parts = path.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if path in seen or path in folders:
            return path
        if clash := above & seen:
            return min(clash)
        seen.add(path)
        folders |= above
    return None


REPOSITORIES: Final = frozenset({".git", ".hg", ".bzr", ".jj", ".sl", ".svn", "_darcs", "git~1"})
"""Folders, and files, by which a version control finds its settings; the last is another spelling of the first on some file systems."""
_IGNORED: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters that some file systems leave out of names."""


def repository_parts(paths: Iterable[str]) -> set[str]:
    """The paths that make a folder a repository for a version control, which obeys the settings in it as soon as it is asked about a file.

    A bare repository of git has no `.git`: it is a folder with HEAD and either `objects` and `refs`, or `commondir`.

    >>> sorted(repository_parts(["a.py", ".gitattributes", "x/.GIT/config", "b/HEAD", "b/objects/x", "b/refs/x", "c/HEAD"]))
    ['b/HEAD', 'x/.GIT/config']
    """
    named = list(paths)
    lower = {path.lower() for path in named}
    folders = {path[: each.start()] for path in lower for each in re.finditer("/", path)}
    return {path for path in named if _is_of_repository(path) or _is_bare(path.lower(), lower, folders)}


def _is_of_repository(path: str) -> bool:
    return any(_IGNORED.sub("", part).rstrip(" .").lower() in REPOSITORIES for part in path.split("/"))


def _is_bare(path: str, files: set[str], folders: set[str]) -> bool:
    above, _, name = path.rpartition("/")
    below = f"{above}/" if above else ""
    return name == "head" and (f"{below}commondir" in files or {f"{below}objects", f"{below}refs"} <= folders)


def _part_fault(part: str) -> str | None:
    if part in {"", ".", ".."}:
        return f"a part is {part!r}"
    if len(part.encode()) > LONGEST_PART:
        return f"a part is longer than {LONGEST_PART} bytes"
    return None
