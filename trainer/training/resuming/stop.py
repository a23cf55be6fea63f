"""The wish to stop: what Ctrl-C and SIGTERM do to this process.

Knows that while somebody looks after each step a signal is only noted, and that otherwise it raises where it finds the program. Refuses
to exit: whoever opened the record closes it, and no later signal disturbs that. A second signal does not wait for the step. Imports no
torch: it is the first thing made.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from trainer.base.errors import InterruptedRunError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A wish to stop, from the moment it is asked for."""

    def __init__(self) -> None:
        """Begin without one."""
        self.asked: int | None = None
        self.waits = False
        """Whether somebody looks at `asked` after each step."""
        self.held = False
        """Whether signals, any number of them, are only noted."""
        self.told = False
        """Whether it was raised: somebody is closing the record by now."""
        self.has_run = False
        """Whether a record is open, which the stop closes."""

    def listen(self) -> None:
        """Take over the signals of this process; those that were held back meanwhile arrive now."""
        self.told = False
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def ignore(self) -> None:
        """Let nothing stop this process any more: it is closing the record."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def hold(self) -> None:
        """Only note signals until `release`. Not by the thread's mask: other threads of this process, torch's, would take them."""
        self.held = True

    def release(self) -> None:
        """Raise what was noted meanwhile; listen again."""
        self.held = False
        if self.asked is not None:
            raise self.fault()

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Stop after the block instead of within it: an import that is broken off leaves modules half made."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False
        if self.asked is not None:
            raise self.fault()

    def fault(self) -> StoppedError:
        """Word the stop, which is raised once: signals that come later are left to whoever catches it."""
        self.told = True
        kind, by = (InterruptedRunError, "Ctrl-C") if self.asked == signal.SIGINT else (StoppedError, "SIGTERM")
        if self.has_run:
            return kind(f"the run was stopped by {by}")
        return kind(f"stopped by {by} before the training began", hint="nothing was changed: type it again")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.told:
            return
        again = self.asked is not None
        self.asked = number
        if not self.held and (again or not self.waits):
            raise self.fault()


def hold() -> None:
    """Hold signals back until `Stop.listen`: a new program takes this process's place and must not lose them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
