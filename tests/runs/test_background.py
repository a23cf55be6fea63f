"""Publishing checkpoints in the background: at intervals, one at a time, and without failing the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tests.runs.machines import Machine
from trainer.base.errors import StoreUnreachableError
from trainer.runs.background import BackgroundPublication
from trainer.runs.snapshot import newest_snapshot
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.checkpoint_pointer import Saved


class SlowStore(MemoryStore):
    """A store whose writes wait for `opened`, and fail while `fails` is set."""

    def __init__(self) -> None:
        """Create an empty store that responds."""
        super().__init__()
        self.opened, self.fails, self.entered = Event(), False, Event()
        self.opened.set()

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Wait for `opened`, then store the object."""
        self.entered.set()
        self.opened.wait(60)
        if self.fails:
            raise StoreUnreachableError("the store does not respond", hint="")
        super().write(key, body, sha256=sha256)


@dataclass(slots=True, kw_only=True)
class Publishing:
    """A machine that trains, with its background publication."""

    machine: Machine
    every: float = 0.0
    lines: list[str] = field(default_factory=list)
    publication: BackgroundPublication | None = None

    def offer(self, saved: Saved, *, waits: bool = True) -> None:
        """Offer a checkpoint; if `waits` is true, wait until it is published."""
        if self.publication is None:
            attempt, store = self.machine.attempt.folder, self.machine.store
            self.publication = BackgroundPublication(attempt, lambda: store, every=self.every, say=self.lines.append)
        self.publication.offer(saved)
        if waits and (thread := self.publication._thread) is not None:
            thread.join(60)

    def end(self) -> None:
        """End the publication."""
        assert self.publication is not None
        self.publication.end()

    def steps(self) -> int:
        """Return the step of the newest snapshot; 0 if the store has no snapshot."""
        found = newest_snapshot(self.machine.store, self.machine.run, 1)
        return 0 if found is None else found[0].step


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def publishing(tmp_path: Path, store: SlowStore) -> Publishing:
    machine = Machine(name="first", runs=tmp_path / "runs", store=store)
    machine.begin()
    return Publishing(machine=machine)


def test_each_checkpoint_that_is_due_is_published(publishing: Publishing) -> None:
    for step in (1, 2):
        publishing.offer(publishing.machine.train(1))
        assert publishing.steps() == step
    publishing.end()
    assert publishing.lines == []


def test_a_checkpoint_that_is_not_due_is_not_published(publishing: Publishing) -> None:
    publishing.every = 3600.0
    publishing.offer(publishing.machine.train(1))
    publishing.end()
    assert publishing.steps() == 0


def test_a_checkpoint_during_a_publication_does_not_wait_for_it(publishing: Publishing, store: SlowStore) -> None:
    store.opened.clear()
    publishing.offer(publishing.machine.train(1), waits=False)
    assert store.entered.wait(60)
    publishing.offer(publishing.machine.train(1), waits=False)
    store.opened.set()
    publishing.offer(publishing.machine.train(1), waits=True)
    assert publishing.steps() in {1, 3}  # never step 2, whose checkpoint was skipped
    publishing.end()


def test_a_store_that_does_not_answer_is_one_line_until_it_answers(publishing: Publishing, store: SlowStore) -> None:
    store.fails = True
    for _ in range(3):
        publishing.offer(publishing.machine.train(1))
    assert publishing.lines == ["checkpoint of step 1 was not published: the store does not respond"]
    store.fails = False
    publishing.offer(publishing.machine.train(1))
    publishing.end()
    assert publishing.steps() == 4


def test_an_attempt_that_was_replaced_says_so_once_and_stops(publishing: Publishing, tmp_path: Path) -> None:
    publishing.offer(publishing.machine.train(1))
    second = Machine(name="second", runs=tmp_path / "second", store=publishing.machine.store)
    second.take_over(publishing.machine.run)
    for _ in range(3):
        publishing.offer(publishing.machine.train(1))
    publishing.end()
    (line,) = publishing.lines
    assert "continues it on host second" in line
    assert publishing.steps() == 1


def test_the_end_stops_a_publication_between_two_files(publishing: Publishing, store: SlowStore) -> None:
    store.opened.clear()
    publishing.offer(publishing.machine.train(1), waits=False)
    assert store.entered.wait(60)
    assert publishing.publication is not None
    publishing.publication.stop.set()
    store.opened.set()
    publishing.end()
    assert (publishing.steps(), publishing.lines) == (0, [])


def test_a_checkpoint_that_cannot_be_opened_is_a_line(publishing: Publishing) -> None:
    saved = publishing.machine.train(1)
    (publishing.machine.attempt.folder / "checkpoints" / saved.path).unlink()
    publishing.offer(saved)
    publishing.end()
    assert "checkpoint of step 1 was not published: " in publishing.lines[0]
