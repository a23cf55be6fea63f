"""Doing many pieces of a transfer at once, so that the first failure or Ctrl-C ends all of them soon.

Knows threads: hashing and input and output release Python's lock. Refuses to know what a piece is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import TYPE_CHECKING, Final, TypeVar

from trainer.errors import AlteredError, StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")

THREADS: Final = 8
PASSING: Final = (AlteredError, StoreUnreachableError)
"""Failures that may be gone at the next try."""
PAUSES_S: Final = (0.5, 2.0)
"""Before the second and the third try of a piece: what a connection that broke or a busy server usually needs."""


class StoppedPieceError(Exception):
    """Raised inside a piece when another one has failed; never leaves this module."""


class Stop:
    """Asked between blocks: go on, or has another piece failed?"""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self._event = Event()

    def set(self) -> None:
        """End every piece at its next block."""
        self._event.set()

    def check(self) -> None:
        """Raise when it is over."""
        if self._event.is_set():
            raise StoppedPieceError

    def wait(self, seconds: float) -> None:
        """Pause, unless it is over before."""
        self._event.wait(seconds)
        self.check()


def in_parallel(work: Callable[[T, Stop], R], pieces: Iterable[T], *, threads: int = THREADS) -> list[R]:
    """Do `work` on every piece and give the results in their order; raise the first failure once all have ended."""
    stop = Stop()
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, piece, stop) for piece in pieces]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def patiently(work: Callable[[], R], stop: Stop, *, on: tuple[type[StoreError], ...] = PASSING) -> R:
    """Try `work` up to three times when bytes came wrong or a connection broke; the last failure is raised."""
    for pause in PAUSES_S:
        try:
            return work()
        except on:
            stop.wait(pause)
    return work()
