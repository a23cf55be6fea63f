"""Parallel tasks: results keep their order, and the first failure stops all tasks."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import pytest

from trainer.base import parallel
from trainer.base.errors import DigestMismatchError, ObjectMissingError, StoreUnreachableError
from trainer.base.parallel import HashingThreads, StopFlag, in_parallel, patiently

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("size", "waited", "used", "expected"),
    [(8_000, 1.0, 0.9, 1), (8_000, 1.0, 0.1, 8), (2_000_000, 1.0, 0.9, 8)],
    ids=["small, in memory", "small, slow disk", "large"],
)
def test_small_files_are_hashed_in_one_thread_unless_the_disk_is_slow(
    monkeypatch: pytest.MonkeyPatch, size: int, waited: float, used: float, expected: int
) -> None:
    threads = HashingThreads(files=10, size=10 * size)
    assert threads.count == (1 if size < 100_000 else 8)
    for time, process in ((0.0, 0.0), (waited, used)):
        monkeypatch.setattr(parallel, "perf_counter", lambda time=time: time)
        monkeypatch.setattr(parallel, "process_time", lambda process=process: process)
        (threads.end(files=10, size=10 * size) if time else threads.begin())
    assert threads.count == expected


def test_results_are_in_the_order_of_their_tasks() -> None:
    first = Event()

    def work(piece: int, _: StopFlag) -> int:
        if piece:
            first.set()
        else:
            assert first.wait(10)
        return piece * piece

    assert in_parallel(work, range(100)) == [piece * piece for piece in range(100)]


def test_no_tasks_have_no_results() -> None:
    assert in_parallel(lambda piece, _: piece, list[int]()) == []


def test_the_first_failure_stops_all_tasks_and_is_raised() -> None:
    started: list[int] = []

    def work(piece: int, stop: StopFlag) -> None:
        started.append(piece)
        if piece == 1:
            raise ObjectMissingError("one")
        while True:
            stop.wait(0.01)

    with pytest.raises(ObjectMissingError, match="one"):
        in_parallel(work, range(1000), threads=3)
    assert len(started) <= 4


def failing(*faults: Exception) -> tuple[list[int], Callable[[], str]]:
    """Return a task that raises each error in turn, and a list of its attempts."""
    tries: list[int] = []

    def work() -> str:
        tries.append(1)
        if len(tries) <= len(faults):
            raise faults[len(tries) - 1]
        return "done"

    return tries, work


@pytest.mark.parametrize(
    ("faults", "tries"),
    [((), 1), ((DigestMismatchError("a"),), 2), ((StoreUnreachableError("a"), DigestMismatchError("b")), 3)],
)
def test_transient_errors_are_tried_three_times(
    faults: tuple[Exception, ...], tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "PAUSES_S", (0.0, 0.0))
    counted, work = failing(*faults)
    assert patiently(work, StopFlag()) == "done"
    assert len(counted) == tries


def test_permanent_errors_are_tried_once() -> None:
    counted, work = failing(ObjectMissingError("gone"))
    with pytest.raises(ObjectMissingError):
        patiently(work, StopFlag())
    assert len(counted) == 1
