"""Validate relative paths in documents: which paths may be created on the reader's disk.

Only the spelling is checked: no disk is accessed, and an invalid path is rejected, not corrected.

A run or a bundle may be from an untrusted user. A path in it is valid if it stays below the folder into which it is unpacked, on every
supported system, and if it can be printed on one line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = 1024
"""Maximum bytes of a whole path in UTF-8."""
LONGEST_PART: Final = 255
"""Maximum bytes of one part in UTF-8: the limit of every common file system."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


def path_fault(path: str) -> str | None:
    r"""Return why `path` is invalid, in a few words; None if it is valid.

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
    if _CONTROL.search(path):
        return "a control character"
    if "\\" in path:
        return "a backslash"
    return next(filter(None, map(_part_fault, path.split("/"))), None)


def collision(paths: Iterable[str]) -> str | None:
    """Return the first path that is repeated, or is both a file and a folder; None if all paths can exist together.

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
"""Folders and files in which a version control system stores its settings; on some file systems the last name is an alias of the first."""
_IGNORED: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters that some file systems ignore in names."""


def repository_parts(paths: Iterable[str]) -> set[str]:
    """Return the paths that make a folder a repository: a version control system uses the settings in it as soon as it runs there.

    A bare git repository has no `.git`: it is a folder with HEAD and either `objects` and `refs`, or `commondir`.

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
