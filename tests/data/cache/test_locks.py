"""The lock of a fetch prevents a second download if locks work; a fetch is correct without it."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from trainer.base.safe_folder import Root
from trainer.data.cache.locks import fetch_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Root]:
    with Root.at(tmp_path) as opened:
        yield opened


def never() -> bool:
    return False


def test_the_first_process_does_not_wait(folder: Root) -> None:
    waited: list[str] = []
    for _ in range(2):
        with fetch_lock(folder, "lock", is_done=never, waiting=lambda: waited.append("waited")):
            pass
    assert waited == []


def test_the_second_process_waits_for_the_first(folder: Root) -> None:
    requested, acquired = Event(), Event()

    def second() -> None:
        with fetch_lock(folder, "lock", is_done=never, waiting=requested.set):
            acquired.set()

    with fetch_lock(folder, "lock", is_done=never, waiting=lambda: None):
        thread = Thread(target=second)
        thread.start()
        assert requested.wait(10)
        assert not acquired.is_set()
    thread.join(10)
    assert acquired.is_set()


def test_a_fetched_dataset_needs_no_wait(folder: Root) -> None:
    with (
        fetch_lock(folder, "lock", is_done=never, waiting=lambda: None),
        fetch_lock(folder, "lock", is_done=lambda: True, waiting=lambda: None),
    ):
        pass


def test_a_holder_without_a_heartbeat_is_not_waited_for(folder: Root) -> None:
    with (
        fetch_lock(folder, "lock", is_done=never, waiting=lambda: None),
        fetch_lock(folder, "lock", is_done=never, waiting=lambda: None, stale_s=0.0),
    ):
        pass


def test_without_a_lock_the_fetch_continues(folder: Root) -> None:
    folder.path.rmdir()
    with fetch_lock(folder, "lock", is_done=never, waiting=lambda: None):
        pass


def test_the_holder_writes_heartbeats(folder: Root) -> None:
    with fetch_lock(folder, "lock", is_done=never, waiting=lambda: None):
        first = _next_beat(folder, b"")
        assert _next_beat(folder, first) != first


def _next_beat(folder: Root, before: bytes) -> bytes:
    pause = Event()
    for _ in range(200):
        if (beat := folder.read("lock")) not in {b"", before}:
            return beat
        pause.wait(0.05)
    raise AssertionError("no beat in ten seconds")
