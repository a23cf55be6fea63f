"""Places in a training at which it can be killed: counted, named, and the one that is asked for is the end of the process.

Knows nothing of a training: what is run tells where it is by `tick`, and each call of the system made by the code that writes
checkpoints tells it by itself.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

WATCHED: Final = ("trainer/training/disk.py", "trainer/actions/begin_again.py", "trainer/host/atomic.py")
"""Files whose every call of a built-in function is a place: before the file is opened, written, synced, renamed, removed."""


class Places:
    """Counts places; is gone at the one whose number it was given."""

    def __init__(self, last: int) -> None:
        """Die at place `last`; 0: never."""
        self.last = last
        self.names: list[str] = []

    def tick(self, name: str) -> None:
        """Be at a place."""
        self.names.append(name)
        if len(self.names) == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, frame: FrameType, event: str, called: Any) -> None:
        """Be at a place wherever a watched file calls a built-in function (`sys.setprofile`)."""
        if event == "c_call" and frame.f_code.co_filename.endswith(WATCHED):
            self.tick(f"{frame.f_code.co_filename.rsplit('/', 1)[1]}:{frame.f_lineno} {called.__name__}")


_CURRENT: Final[list[Places]] = []


def begin(last: int) -> Places:
    """Count anew in this process."""
    _CURRENT[:] = [Places(last)]
    sys.setprofile(_CURRENT[0].watch)
    return _CURRENT[0]


def tick(name: str) -> None:
    """Be at a place of the training that is going on."""
    _CURRENT[0].tick(name)
