"""Places in a training at which it can be killed: counted, named, and the one that is asked for is the end of the process.

Knows nothing of a training: what is run tells where it is by `tick`, and each call of the system made by the code that writes
checkpoints tells it by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

WATCHED: Final = (
    "trainer/training/atomic_write.py",
    "trainer/runs/checkpoint_pointer.py",
    "trainer/base/atomic_file.py",
)
"""Files whose every call of a built-in function is a place: before the file is opened, written, synced, renamed, removed."""
BELOW: Final = ("trainer/base/safe_folder.py", "trainer/base/no_follow.py")
"""What these call: a change of the disk there is a place too. Logs are written by the clock, so their changes are none."""
CHANGES: Final = {"mkdir", "rename", "link", "unlink", "fsync", "fchmod"}
"""Calls that change the disk. Opening is none: most opened folders are only entered, and what an opened file gets is written next."""
WRITES: Final = "trainer/training/resuming/checkpoint_file.py"
"""Writes the bytes of a checkpoint: before each write is a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Places that are only counted, as watching calls makes a training four times slower."""

    reported: int
    """How many of the places that are reported come before the watch begins; 0: it begins at once, -1: never."""
    number: int
    """The number, among all places, of the last of them."""

    @classmethod
    def until(cls, last: int, places: list[str]) -> Skip:
        """Skip to the last reported place before place `last` of a run whose places are known."""
        numbers = [number for number, name in enumerate(places[: last - 1], start=1) if ".py:" not in name]
        return cls(reported=len(numbers), number=numbers[-1] if numbers else 0)


class KillPoints:
    """Counts places; is gone at the one whose number it was given."""

    def __init__(self, last: int, skip: Skip) -> None:
        """Die at place `last`; 0: never."""
        self.last, self.skip = last, skip
        self.names: list[str] = []
        self.number = self.reported = 0

    def tell(self, name: str) -> None:
        """Be at a place that is reported; from the last that is skipped on, all are counted."""
        self.reported += 1
        if self.skip.reported < 0 or self.reported < self.skip.reported:
            return
        if self.reported == self.skip.reported:
            self.number = self.skip.number
            sys.setprofile(self.watch)
            return
        self.tick(name)

    def tick(self, name: str) -> None:
        """Be at a place."""
        self.names.append(name)
        self.number += 1
        if self.number == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, frame: FrameType, event: str, called: Any) -> None:
        """Be at a place wherever a watched file calls a built-in function (`sys.setprofile`)."""
        if event != "c_call":
            return
        name = frame.f_code.co_filename
        if (
            name.endswith(WATCHED)
            or (name.endswith(BELOW) and called.__name__ in CHANGES and _called_by_watched(frame))
            or (name.endswith(WRITES) and called.__name__ == "write")
        ):
            self.tick(f"{name.rsplit('/', 1)[1]}:{frame.f_lineno} {called.__name__}")


def _called_by_watched(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(WATCHED):
            return True
        frame = frame.f_back
    return False


_CURRENT: Final[list[KillPoints]] = []


def start_counting(last: int, skip: Skip) -> KillPoints:
    """Count anew in this process."""
    _CURRENT[:] = [KillPoints(last, skip)]
    if skip.reported == 0:
        sys.setprofile(_CURRENT[0].watch)
    return _CURRENT[0]


def tick(name: str) -> None:
    """Be at a place of the training that is going on."""
    _CURRENT[0].tell(name)
