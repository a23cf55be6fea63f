"""Retry requests to a store that stalls or fails, so that an outage pauses a run that reads from it instead of ending it."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from trainer.base.errors import DigestMismatchError, ObjectMissingError, StoreDeniedError, StoreError
from trainer.base.parallel import PAUSES_S, StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")
PATIENCE_S: Final = 900.0
"""Seconds for which requests to a failing store are retried."""
_LONGEST_PAUSE_S: Final = 5.0
_FINAL: Final = (StoreDeniedError, ObjectMissingError)


@dataclass(slots=True, kw_only=True)
class Patience:
    """Retries of failed requests, and the messages about them; several threads may share it."""

    say: Callable[[str], None] = lambda _: None
    """Prints a line at the beginning and the end of an outage."""
    check: Callable[[], None] = lambda: None
    """Raises if the process was asked to stop."""
    longest_s: float = PATIENCE_S
    stop: StopFlag = field(default_factory=StopFlag)
    _since: float | None = None
    _succeeded: float = 0.0
    """The time of the last success. A request of another thread that began earlier and fails later does not begin a new outage."""
    _lock: Lock = field(default_factory=Lock)

    def call(self, work: Callable[[], R]) -> R:
        """Call `work` until it succeeds, and return its result.

        Raise the last `StoreError` if it fails for `longest_s` seconds, if the third response has wrong bytes, or at once if the store
        denies access or lacks the object. Raise what `check` and `stop` raise if the process was asked to stop.
        """
        pause_s, began, wrong = PAUSES_S[0], None, 0
        while True:
            self.stop.check()
            asked = monotonic()
            try:
                result = work()
            except _FINAL:
                raise
            except StoreError as fault:
                wrong += isinstance(fault, DigestMismatchError)
                began = began or monotonic()
                if wrong > len(PAUSES_S) or monotonic() - began > self.longest_s:
                    raise
                self._begin(fault, asked)
                self._wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._end()
                return result

    def _wait(self, seconds: float) -> None:
        end = monotonic() + seconds
        while (rest := end - monotonic()) > 0:
            self.check()
            self.stop.wait(min(rest, 0.2))

    def _begin(self, fault: StoreError, asked: float) -> None:
        with self._lock:
            if asked < self._succeeded:
                return
            is_first, self._since = self._since is None, self._since or monotonic()
        if is_first:
            self.say(f"{fault.message}: retrying for up to {self.longest_s / 60:.0f} minutes")

    def _end(self) -> None:
        with self._lock:
            since, self._since, self._succeeded = self._since, None, monotonic()
        if since is not None:
            self.say(f"the store is reachable again after {monotonic() - since:.0f} s")
