"""Stop requests by Ctrl-C and SIGTERM.

While a run checks for a request after each step, a first signal only sets the request; otherwise, and at a second signal, the stop
is raised immediately. Several SIGTERM within `_BURST` seconds are one request: a scheduler sends SIGTERM to every process of a job, and
container runtimes forward theirs. The code that opened the record closes it, without interruption by later signals. This module does not
import torch, because the request is created before torch is imported.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.errors import InterruptedRunError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_BURST: Final = 3.0
"""Seconds within which several SIGTERM are one request."""


class StopRequest:
    """A stop request of this process."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self.is_delayed = False
        """Whether the run checks `requested` after each step."""
        self.is_on_hold = False
        """Whether signals only set the request, however many arrive."""
        self.is_raised = False
        """Whether the stop was raised, and the record is being closed."""
        self.has_run = False
        """Whether a record is open, which the stop must close."""
        self._terminated = -_BURST

    def listen(self) -> None:
        """Install the signal handlers of this process, and unblock the signals: a blocked signal is delivered now."""
        self.is_raised = False
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def ignore(self) -> None:
        """Ignore further signals: this process is closing the record."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def hold(self) -> None:
        """Only record signals until `release`. A signal mask would not work: threads of torch would receive the signals."""
        self.is_on_hold = True

    def release(self) -> None:
        """Accept signals again, and raise a stop that was requested since `hold`."""
        self.is_on_hold = False
        if self.requested is not None:
            raise self.fault()

    def check(self) -> None:
        """Raise a requested stop, in code that may wait for minutes between two steps."""
        if self.requested is not None and not self.is_on_hold and not self.is_raised:
            raise self.fault()

    @contextmanager
    def delay_stop(self) -> Iterator[None]:
        """Delay a stop until the end of the block: an interrupted import leaves modules partly initialized."""
        self.is_delayed = True
        try:
            yield
        finally:
            self.is_delayed = False
        if self.requested is not None:
            raise self.fault()

    def fault(self) -> StoppedError:
        """Return the error for the stop, and ignore signals from now on: the code that catches the error handles them."""
        self.is_raised = True
        kind, by = (InterruptedRunError, "Ctrl-C") if self.requested == signal.SIGINT else (StoppedError, "SIGTERM")
        if self.has_run:
            return kind(f"the run was stopped by {by}")
        return kind(f"stopped by {by} before training began", hint="nothing was changed: run the command again")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.is_raised:
            return
        again = self.requested is not None
        if number == signal.SIGTERM:
            again &= monotonic() - self._terminated > _BURST
            self._terminated = monotonic()
        self.requested = number
        if not self.is_on_hold and (again or not self.is_delayed):
            raise self.fault()


def hold() -> None:
    """Block signals until `StopRequest.listen`: a new program replaces this process, and must not lose a signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
