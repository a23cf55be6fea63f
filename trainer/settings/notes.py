"""Notes shared by several processes, each kept once.

A forked process shares an open file with its parent and appends its notes to it, a line at a time: a killed worker loses nothing, and the
file has no name that could remain on disk. A spawned process that receives the notes also receives the file.
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
"""The notes about each name, in order and without repeats."""
_BLOCK: Final = 1 << 20


class Notes:
    """The notes of a process and of all its child processes."""

    def __init__(self) -> None:
        """Create empty notes. If the file cannot be created, the notes of other processes are not available."""
        self._owner = os.getpid()
        self._mine: dict[str, Book] = {}
        self._file: int | None = None
        with suppress(OSError):
            self._file = _nameless()
            weakref.finalize(self, os.close, self._file)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the notes; include the file only if a process is being spawned with them."""
        file = self._file if get_spawning_popen() else None
        return {**self.__dict__, "_file": None if file is None else DupFd(file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the notes, and the file if there is one."""
        file = state["_file"]
        self.__dict__.update(state, _file=None if file is None else file.detach())

    def add(self, kind: str, name: str, place: str) -> None:
        """Record a place, once."""
        places = self._mine.setdefault(kind, {}).setdefault(name, [])
        if place in places:
            return
        places.append(place)
        if os.getpid() != self._owner and self._file is not None:
            with suppress(OSError):  # a single write, so that lines of several processes do not interleave
                os.write(self._file, f"{json.dumps([kind, name, place])}\n".encode())

    def book(self, kind: str) -> Book:
        """Return all notes of a kind so far, from every process."""
        found = {name: list(places) for name, places in self._mine.get(kind, {}).items()}
        for other, name, place in _lines(self._file):
            if other == kind and place not in found.setdefault(name, []):
                found[name].append(place)
        return found


def _nameless() -> int:
    """Open an unnamed file in append mode."""
    with tempfile.TemporaryFile() as file:
        handle = os.dup(file.fileno())
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_APPEND)
    return handle


def _lines(file: int | None) -> list[tuple[str, str, str]]:
    """Return the complete lines of the file; a killed process can leave a partial last line."""
    found: list[tuple[str, str, str]] = []
    for line in _content(file).rpartition(b"\n")[0].splitlines():
        with suppress(ValueError):  # two lines merged, because the first line's writer was killed
            kind, name, place = json.loads(line)
            found.append((kind, name, place))
    return found


def _content(file: int | None) -> bytes:
    whole = b""
    with suppress(OSError):
        while file is not None and (block := os.pread(file, _BLOCK, len(whole))):
            whole += block
    return whole
