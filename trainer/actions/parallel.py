"""Doing many pieces of a transfer at once, so that the first failure or Ctrl-C ends all of them soon.

Knows threads: hashing and input and output release Python's lock. Refuses to know what a piece is.
"""

from __future__ import annotations

from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from trainer.errors import AlteredError, StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")

THREADS: Final = 8
_LOOK_UP_S: Final = 0.2
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
    """Do `work` on every piece and give the results in their order; raise the first failure once all threads have ended."""
    job = _Job(work, pieces)
    running = [Thread(target=job.run, daemon=True) for _ in range(threads)]
    try:
        for thread in running:
            thread.start()
        _join(running)
    except BaseException:
        job.stop.set()
        _join(running)
        raise
    return job.result()


class _Job(Generic[T, R]):
    """Pieces of work, taken one by one by as many threads as like."""

    def __init__(self, work: Callable[[T, Stop], R], pieces: Iterable[T]) -> None:
        self.stop = Stop()
        self._work, self._pieces, self._taking = work, enumerate(pieces), Lock()
        self._results: dict[int, R] = {}
        self._failures: list[BaseException] = []

    def run(self) -> None:
        try:
            while (taken := self._take()) is not None:
                number, piece = taken
                self._results[number] = self._work(piece, self.stop)
        except StoppedPieceError:
            pass
        except BaseException as fault:  # noqa: BLE001 - carried over to the thread that waits, and raised there
            self._failures.append(fault)
            self.stop.set()

    def _take(self) -> tuple[int, T] | None:
        self.stop.check()
        with self._taking:
            return next(self._pieces, None)

    def result(self) -> list[R]:
        if self._failures:
            raise self._failures[0]
        return [self._results[number] for number in range(len(self._results))]


def _join(running: Iterable[Thread]) -> None:
    """Wait, and look up now and then: a signal that arrives just before a thread begins to wait would not wake it."""
    for thread in running:
        while thread.is_alive():
            thread.join(_LOOK_UP_S)


def patiently(work: Callable[[], R], stop: Stop, *, on: tuple[type[StoreError], ...] = PASSING) -> R:
    """Try `work` up to three times when bytes came wrong or a connection broke; the last failure is raised."""
    for pause in PAUSES_S:
        try:
            return work()
        except on:
            stop.wait(pause)
    return work()
