"""Run the pieces of a transfer in threads; the first failure or Ctrl-C stops all of them.

Threads are sufficient, because hashing, input and output release the GIL.
"""

from __future__ import annotations

from threading import Event, Lock, Thread
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from trainer.base.errors import DigestMismatchError, StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")

THREADS: Final = 8
_LOOK_UP_S: Final = 0.2
_SMALL: Final = 100_000
"""Mean size in bytes of small files: measured on two processors, several threads are faster from about this size on."""
PASSING: Final = (DigestMismatchError, StoreUnreachableError)
"""Failures that a retry may resolve."""
PAUSES_S: Final = (0.5, 2.0)
"""Seconds before the second and the third attempt; usually sufficient for a broken connection or a busy server."""


class StoppedPieceError(Exception):
    """Raised inside a piece after another piece has failed; never leaves this module."""


class StopFlag:
    """A stop flag that pieces check between blocks."""

    def __init__(self) -> None:
        """Create the flag, not set."""
        self._event = Event()

    def set(self) -> None:
        """Stop every piece at its next block."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the pieces must stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `StoppedPieceError` if the flag is set."""
        if self._event.is_set():
            raise StoppedPieceError

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`; raise `StoppedPieceError` if the flag is set meanwhile."""
        self._event.wait(seconds)
        self.check()


class HashingThreads:
    """The number of threads that read and hash files fastest, by the files before: one for small files, unless the disk is slow.

    For each small file, several threads would wait for each other's GIL several times.
    """

    def __init__(self, *, files: int, size: int, most: int = THREADS) -> None:
        """Begin with the number for the first `files` files, which have `size` bytes; `most` is the number for large files."""
        self.count, self._most = 1 if size < _SMALL * files else most, most
        self._began = (0.0, 0.0)

    def begin(self) -> None:
        """Begin to measure the time of some files."""
        self._began = (perf_counter(), process_time())

    def end(self, *, files: int, size: int) -> None:
        """Choose the number of threads after `files` files with `size` bytes."""
        began, used = self._began
        is_waiting = perf_counter() - began > 2 * (process_time() - used)
        self.count = 1 if size < _SMALL * files and not is_waiting else self._most


def in_parallel(work: Callable[[T, StopFlag], R], pieces: Iterable[T], *, threads: int = THREADS) -> list[R]:
    """Run `work` on every piece and return the results in order; raise the first failure after all threads have ended."""
    job = _PieceQueue(work, pieces)
    try:
        for _ in range(threads):
            Thread(target=job.run, daemon=True).start()
        job.wait()
    except BaseException:
        job.stop.set()
        job.wait()
        raise
    return job.result()


class _PieceQueue(Generic[T, R]):
    """A list of pieces of work, from which each of several threads takes the next piece."""

    def __init__(self, work: Callable[[T, StopFlag], R], pieces: Iterable[T]) -> None:
        self.stop = StopFlag()
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
        except BaseException as fault:  # noqa: BLE001 - passed to the waiting thread, and raised there
            self._failures.append(fault)
            self.stop.set()
        with self._counting:  # later threads find no pieces
            self._running, self._over = self._running - 1, True
            if self._running == 0:
                self._ended.set()

    def wait(self) -> None:
        """Wait until no thread is working.

        Wait for an event instead of joining: in Python 3.11 a signal that arrives during a join makes a live thread appear dead. Wait
        with a timeout: a signal that arrives just before the wait begins would not interrupt it.
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


def patiently(work: Callable[[], R], stop: StopFlag, *, on: tuple[type[StoreError], ...] = PASSING) -> R:
    """Call `work` up to three times if bytes are wrong or a connection breaks; raise the last failure."""
    for pause in PAUSES_S:
        try:
            return work()
        except on:
            stop.wait(pause)
    return work()
