"""Kill a process at its N-th change to the disk.

A change is a write (half of its bytes are written), a rename, a link, a flush, a new file, a change of mode or a removal.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENTS: Final = {"open", "os.rename", "os.link", "os.mkdir", "os.chmod", "os.remove", "os.rmdir"}
"""Audit events (PEP 578) of calls with a path; calls with a descriptor are replaced in the process that is killed."""
BELOW_HANDLE: Final = ("open", "rename", "link", "mkdir", "unlink", "rmdir")
"""Calls with a folder's descriptor and a name. Their audit events do not contain the folder, so these calls are also replaced."""
BY_HANDLE: Final = ("fsync", "ftruncate", "fchmod")
_OPEN: Final = os.open
NOT_COUNTED: Final = "fetch.lock"
"""The file of the fetch lock, to which its holder writes every second; its changes are not counted."""


class Steps:
    """A counter of the changes below a folder, which kills the process at change `last`."""

    def __init__(self, below: Path, last: int) -> None:
        """Start at 0."""
        self.below, self.last, self.taken = str(below), last, 0

    def take(self, name: str, *, half: Callable[[], object] = lambda: None) -> None:
        """Count a change to the path `name` if it is below the folder; before the process is killed, call `half`."""
        if name.startswith(self.below) and not name.endswith(NOT_COUNTED):
            self.taken += 1
            if self.taken == self.last:
                half()
                os.kill(os.getpid(), signal.SIGKILL)

    def by_path(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count a call with a path; an audit hook."""
        if event in EVENTS and not (
            event == "open" and isinstance(arguments[2], int) and not arguments[2] & os.O_CREAT
        ):
            self.take(next((str(word) for word in arguments[:2] if isinstance(word, str | os.PathLike)), ""))

    def below_handle(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, counted if it is passed a folder's descriptor."""

        def counted(name: Any, *more: Any, **result: Any) -> Any:
            folder = result.get("dir_fd", result.get("src_dir_fd"))
            if folder is not None and not (call is _OPEN and not more[0] & os.O_CREAT):
                self.take(f"{path_of(folder)}/{name}")
            return call(name, *more, **result)

        return counted

    def by_handle(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, counted by the file of its descriptor."""

        def counted(handle: int, *more: Any) -> Any:
            self.take(path_of(handle))
            return call(handle, *more)

        return counted

    def writing(self, call: Callable[..., int]) -> Callable[..., int]:
        """Return the writing call `call`, counted; the last call writes half of its bytes."""

        def counted(handle: int, data: Any, *more: Any) -> int:
            self.take(path_of(handle), half=lambda: call(handle, memoryview(data)[: len(data) // 2], *more))
            return call(handle, data, *more)

        return counted


def path_of(handle: int) -> str:
    """Return the path of an open file."""
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 - the text that the kernel reports, not a `Path`


def arm(steps: Steps) -> None:
    """Make this process count its steps, and be killed at the last step; it cannot be used for other work afterwards."""
    for name in BELOW_HANDLE:
        setattr(os, name, steps.below_handle(getattr(os, name)))
    for name in BY_HANDLE:
        setattr(os, name, steps.by_handle(getattr(os, name)))
    for name in ("write", "pwrite"):
        setattr(os, name, steps.writing(getattr(os, name)))

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            return os.write(self.fileno(), data)

    def opened(handle: int, mode: str = "r", buffering: int = -1) -> Any:
        if mode == "rb":
            return io.FileIO(handle, mode) if buffering == 0 else io.BufferedReader(io.FileIO(handle, mode))
        raw = Counted(handle, mode)
        return raw if buffering == 0 else io.BufferedWriter(raw)

    setattr(os, "fdopen", opened)  # noqa: B010 - mypy rejects an assignment to `os.fdopen`
    sys.addaudithook(steps.by_path)


def run(work: Callable[[], object], *, below: Path, last: int) -> int | None:
    """Do `work` in a child process that is killed at step `last`; return the number of its steps, or `None` if it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _die(work, Steps(below, last), writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, output.decode()
    return int(output)


def _die(work: Callable[[], object], steps: Steps, pipe: int) -> NoReturn:
    write = os.write
    try:
        arm(steps)
        work()
        write(pipe, b"%d" % steps.taken)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent raises it
        write(pipe, traceback.format_exc().encode())
        os._exit(1)
