"""Doing many pieces of a transfer at once, so that the first failure or Ctrl-C ends all of them soon.

Knows threads: hashing and input and output release Python's lock. Refuses to know what a piece is.
"""

from __future__ import annotations

from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from trainer.base.errors import DigestMismatchError, StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")

THREADS: Final = 8
_LOOK_UP_S: Final = 0.2
PASSING: Final = (DigestMismatchError, StoreUnreachableError)
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

    @property
    def is_set(self) -> bool:
        """Whether it is over."""
        return self._event.is_set()

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
    try:
        for _ in range(threads):
            Thread(target=job.run, daemon=True).start()
        job.wait()
    except BaseException:
        job.stop.set()
        job.wait()
        raise
    return job.result()


class _Job(Generic[T, R]):
    """Pieces of work, taken one by one by as many threads as like."""

    def __init__(self, work: Callable[[T, Stop], R], pieces: Iterable[T]) -> None:
        self.stop = Stop()
        self._work, self._pieces, self._taking = work, enumerate(pieces), Lock()
        self._results: dict[int, R] = {}
        self._failures: list[BaseException] = []
        self._counting, self._running, self._over, self._ended = Lock(), 0, False, Event()

    def run(self) -> None:
        with self._counting:
            self._running += 1
        try:
            while (taken := self._take()) is not None:
                number, piece = taken
                self._results[number] = self._work(piece, self.stop)
        except StoppedPieceError:
            pass
        except BaseException as fault:  # noqa: BLE001 - carried over to the thread that waits, and raised there
            self._failures.append(fault)
            self.stop.set()
        with self._counting:  # who comes later finds nothing left to take
            self._running, self._over = self._running - 1, True
            if self._running == 0:
                self._ended.set()

    def wait(self) -> None:
        """Wait until no thread works any more.

        By an event, not by joining: in Python 3.11 a signal that arrives while a thread is joined makes a living thread look dead. And look
        up now and then: a signal that arrives just before a thread begins to wait would not wake it.
        """
        while not self._idle():
            self._ended.wait(_LOOK_UP_S)

    def _idle(self) -> bool:
        with self._counting:
            return self._running == 0 and (self._over or self.stop.is_set)

    def _take(self) -> tuple[int, T] | None:
        self.stop.check()
        with self._taking:
            return next(self._pieces, None)

    def result(self) -> list[R]:
        if self._failures:
            raise self._failures[0]
        return [self._results[number] for number in range(len(self._results))]


def patiently(work: Callable[[], R], stop: Stop, *, on: tuple[type[StoreError], ...] = PASSING) -> R:
    """Try `work` up to three times when bytes came wrong or a connection broke; the last failure is raised."""
    for pause in PAUSES_S:
        try:
            return work()
        except on:
            stop.wait(pause)
    return work()
