"""Notes that several processes make of one thing: each of them once, in one book.

Knows that a process which was forked shares an open file with the first one, into which it writes its own notes, a line at a time: nothing
is lost with a worker that is killed, and no file has a name that could be left behind. One that is started anew and handed the notes is
handed that file with them. Refuses to know what is noted.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import weakref
from contextlib import suppress
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any, Final

Book = dict[str, list[str]]
"""What was noted about each name, in order, each once."""
_BLOCK: Final = 1 << 20


class Notes:
    """The notes of a process, and of all that came of it."""

    def __init__(self) -> None:
        """Begin with none. Where no file can be made, what other processes note is not known here."""
        self._owner = os.getpid()
        self._mine: dict[str, Book] = {}
        self._file: int | None = None
        with suppress(OSError):
            self._file = _nameless()
            weakref.finalize(self, os.close, self._file)

    def __getstate__(self) -> dict[str, Any]:
        """Hand over what was noted; and the file, where a process is being started that this goes to."""
        file = self._file if get_spawning_popen() else None
        return {**self.__dict__, "_file": None if file is None else DupFd(file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it over."""
        file = state["_file"]
        self.__dict__.update(state, _file=None if file is None else file.detach())

    def add(self, kind: str, name: str, place: str) -> None:
        """Note a place, once."""
        places = self._mine.setdefault(kind, {}).setdefault(name, [])
        if place in places:
            return
        places.append(place)
        if os.getpid() != self._owner and self._file is not None:
            with suppress(OSError):  # in one go, so that lines of several processes never mix
                os.write(self._file, f"{json.dumps([kind, name, place])}\n".encode())

    def book(self, kind: str) -> Book:
        """Everything of a kind that was noted so far, by whichever process."""
        found = {name: list(places) for name, places in self._mine.get(kind, {}).items()}
        for other, name, place in _lines(self._file):
            if other == kind and place not in found.setdefault(name, []):
                found[name].append(place)
        return found


def _nameless() -> int:
    """Open a file that has no name, and whose every write goes to its end."""
    with tempfile.TemporaryFile() as file:
        handle = os.dup(file.fileno())
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_APPEND)
    return handle


def _lines(file: int | None) -> list[tuple[str, str, str]]:
    """The whole lines of the file: what a process was killed over is not one."""
    found: list[tuple[str, str, str]] = []
    for line in _content(file).rpartition(b"\n")[0].splitlines():
        with suppress(ValueError):  # two lines run together, where the first one's writer was killed over it
            kind, name, place = json.loads(line)
            found.append((kind, name, place))
    return found


def _content(file: int | None) -> bytes:
    whole = b""
    with suppress(OSError):
        while file is not None and (block := os.pread(file, _BLOCK, len(whole))):
            whole += block
    return whole
