"""Notes that several processes make of one thing: each of them once, in one book.

Knows that a process which was forked, or was handed the notes, writes its own into a small file, a line at a time, and that the first
process reads them there: nothing is lost with a worker that is killed. Refuses to know what is noted.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from contextlib import suppress
from typing import Final

Book = dict[str, list[str]]
"""What was noted about each name, in order, each once."""
_NO_FILE: Final = ""


class Notes:
    """The notes of a process, and of all that came of it."""

    def __init__(self) -> None:
        """Begin with none. Where no file can be made, what other processes note is not known here."""
        self._owner = os.getpid()
        self._mine: dict[str, Book] = {}
        self._path = _NO_FILE
        with suppress(OSError):
            handle, self._path = tempfile.mkstemp(prefix="reprise-notes-")
            os.close(handle)
            weakref.finalize(self, _remove, self._path, self._owner)

    def add(self, kind: str, name: str, place: str) -> None:
        """Note a place, once."""
        places = self._mine.setdefault(kind, {}).setdefault(name, [])
        if place in places:
            return
        places.append(place)
        if os.getpid() != self._owner and self._path:
            _append(self._path, json.dumps([kind, name, place]))

    def book(self, kind: str) -> Book:
        """Everything of a kind that was noted so far, by whichever process."""
        found = {name: list(places) for name, places in self._mine.get(kind, {}).items()}
        for other, name, place in _lines(self._path):
            if other == kind and place not in found.setdefault(name, []):
                found[name].append(place)
        return found


def _append(path: str, line: str) -> None:
    """Write a line in one go, so that lines of several processes never mix; a file that is gone is nobody's any more."""
    with suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)


def _lines(path: str) -> list[tuple[str, str, str]]:
    """The whole lines of the file: what a process was killed over is not one."""
    if not path:
        return []
    found: list[tuple[str, str, str]] = []
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - a name, which a worker is handed too
        for line in file.read().rpartition(b"\n")[0].splitlines():
            with suppress(ValueError):  # two lines run together, where the first one's writer was killed over it
                kind, name, place = json.loads(line)
                found.append((kind, name, place))
    return found


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - a name
