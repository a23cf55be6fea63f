"""Kill points of a run: they are counted and named, and the process is killed at the requested point.

A training calls `tick` at its kill points. Each system call of the code that writes checkpoints is a kill point too.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

CHECKPOINT_WRITERS: Final = (
    "trainer/training/atomic_write.py",
    "trainer/runs/checkpoint_pointer.py",
    "trainer/base/atomic_file.py",
)
"""Files in which each call of a built-in function is a kill point: before a file is opened, written, synced, renamed, removed."""
FILE_FUNCTIONS: Final = ("trainer/base/safe_folder.py", "trainer/base/no_follow.py")
"""Files whose functions the writers call: each change of the disk is a kill point. Logs do not count: the clock determines their writes."""
CHANGES: Final = {"mkdir", "rename", "link", "unlink", "fsync", "fchmod"}
"""Calls that change the disk. Opening does not count: most opened folders are only entered, and a write follows an opened file."""
TENSOR_WRITER: Final = "trainer/training/resuming/checkpoint_file.py"
"""The file that writes the bytes of a checkpoint: each write is a kill point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Kill points that are only counted, because watching calls makes training four times slower."""

    reported: int
    """Reported kill points before calls are watched; 0: from the beginning, -1: never."""
    number: int
    """The number of the last of them among all kill points."""

    @classmethod
    def until(cls, last: int, names: list[str]) -> Skip:
        """Skip to the last reported kill point before point `last` of a run whose kill points are known."""
        numbers = [number for number, name in enumerate(names[: last - 1], start=1) if ".py:" not in name]
        return cls(reported=len(numbers), number=numbers[-1] if numbers else 0)


class KillPoints:
    """Counts kill points, and kills the process at one of them."""

    def __init__(self, last: int, skip: Skip) -> None:
        """Kill the process at point `last`; 0: never."""
        self.last, self.skip = last, skip
        self.names: list[str] = []
        self.number = self.reported = 0

    def report(self, name: str) -> None:
        """Count a reported kill point; after the last skipped point, watch calls too."""
        self.reported += 1
        if self.skip.reported < 0 or self.reported < self.skip.reported:
            return
        if self.reported == self.skip.reported:
            self.number = self.skip.number
            sys.setprofile(self.watch)
            return
        self.tick(name)

    def tick(self, name: str) -> None:
        """Count a kill point; kill the process if it is the last."""
        self.names.append(name)
        self.number += 1
        if self.number == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, frame: FrameType, event: str, called: Any) -> None:
        """Count each call of a built-in function in the watched files (for `sys.setprofile`)."""
        if event != "c_call":
            return
        name = frame.f_code.co_filename
        if (
            name.endswith(CHECKPOINT_WRITERS)
            or (name.endswith(FILE_FUNCTIONS) and called.__name__ in CHANGES and _called_by_watched(frame))
            or (name.endswith(TENSOR_WRITER) and called.__name__ == "write")
        ):
            self.tick(f"{name.rsplit('/', 1)[1]}:{frame.f_lineno} {called.__name__}")


def _called_by_watched(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(CHECKPOINT_WRITERS):
            return True
        frame = frame.f_back
    return False


_CURRENT: Final[list[KillPoints]] = []


def start_counting(last: int, skip: Skip) -> KillPoints:
    """Begin a new count in this process."""
    _CURRENT[:] = [KillPoints(last, skip)]
    if skip.reported == 0:
        sys.setprofile(_CURRENT[0].watch)
    return _CURRENT[0]


def tick(name: str) -> None:
    """Count a kill point of the running training."""
    _CURRENT[0].report(name)
