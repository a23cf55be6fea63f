"""Snapshots of a running attempt: written last, never replaced, and pulled to resume the run on another machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.runs.machines import Machine, weights
from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError, RunError, RunNotFoundError
from trainer.runs.checkpoint_pointer import restore_checkpoint
from trainer.runs.initial_weights import INITIAL
from trainer.runs.list import local_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_later, pull_run
from trainer.runs.record import RunStatus
from trainer.runs.resume import require_resumable
from trainer.runs.run import SNAPSHOT, pulled_snapshots
from trainer.runs.seal import claim_key, read_snapshot, snapshot_key
from trainer.runs.snapshot import OpenCheckpoint, last_number, newest_snapshot, publish_snapshot
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def first(tmp_path: Path) -> Machine:
    machine = Machine(name="first", runs=tmp_path / "first" / "runs", store=MemoryStore())
    machine.begin()
    return machine


def machine(tmp_path: Path, like: Machine, name: str) -> Machine:
    return Machine(name=name, runs=tmp_path / name / "runs", store=like.store)


def test_a_snapshot_has_what_another_machine_needs_to_resume(first: Machine, tmp_path: Path) -> None:
    first.snapshot(first.train(3))
    (record,) = pull_run(first.run, first.store, runs=tmp_path / "runs")
    attempt = tmp_path / "runs" / first.run / "attempts" / "2"
    attempt.mkdir()
    saved = restore_checkpoint(attempt, say=pytest.fail)
    assert saved is not None
    assert (saved.step, record.outcome.status) == (3, RunStatus.RUNNING)
    assert (attempt / "checkpoints" / saved.path).read_bytes() == weights(3)
    assert (attempt / "metrics.jsonl").read_text().count("\n") == 3
    assert (attempt.parents[1] / "source.tar.gz").read_bytes() == (first.folder / "source.tar.gz").read_bytes()


def test_a_log_that_grew_and_a_checkpoint_that_was_removed_are_published_as_saved(first: Machine) -> None:
    saved = first.train(3)
    checkpoint = OpenCheckpoint.of(first.attempt.folder, saved)
    first.train(1)
    (first.attempt.folder / "checkpoints" / saved.path).unlink()
    files = {file.path: file for file in publish_snapshot(checkpoint, first.store).files}
    checkpoint.close()
    assert b"".join(first.store.read(object_key(files[f"checkpoints/{saved.path}"].sha256))) == weights(3)
    assert files["metrics.jsonl"].size == saved.logs["metrics.jsonl"]


def test_snapshots_have_consecutive_numbers_and_the_last_is_found(first: Machine) -> None:
    for _ in range(5):
        first.snapshot(first.train(1))
    found = newest_snapshot(first.store, first.run, 1)
    assert found is not None
    assert (found[0].number, found[0].step) == (5, 5)
    assert newest_snapshot(first.store, first.run, 2) is None


@pytest.mark.parametrize("last", [0, 1, 2, 3, 7, 8, 1000])
def test_the_last_number_is_found_in_few_requests(last: int) -> None:
    asked: list[int] = []

    def exists(number: int) -> bool:
        asked.append(number)
        return number <= last

    assert last_number(exists) == last
    assert len(asked) <= 2 * last.bit_length() + 1


def test_an_interrupted_snapshot_has_no_document(first: Machine) -> None:
    saved = first.train(1)
    (first.attempt.folder / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(DigestMismatchError, match=r"metrics\.jsonl is shorter than when the checkpoint was saved"):
        first.snapshot(saved)
    assert newest_snapshot(first.store, first.run, 1) is None


def test_initial_weights_are_in_a_snapshot(first: Machine) -> None:
    (first.attempt.folder / INITIAL).write_bytes(b"initial")
    assert INITIAL in [file.path for file in first.snapshot(first.train(1)).files]


def test_a_run_that_was_claimed_only_is_not_found(first: Machine, tmp_path: Path) -> None:
    assert first.store.size(claim_key(first.run, 1))
    with pytest.raises(RunNotFoundError):
        pull_run(first.run, first.store, runs=tmp_path)


def test_a_later_pull_gets_the_newer_snapshot_and_then_the_seal(first: Machine, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    attempt = runs / first.run / "attempts" / "1"
    for steps in (1, 2):
        first.snapshot(first.train(steps))
        pull_run(first.run, first.store, runs=runs)
        assert json.loads((attempt / "checkpoints/latest.json").read_text())["step"] == first.step
        assert pulled_snapshots(attempt.parents[1]) == [1]
    first.finish()
    (record,) = pull_run(first.run, first.store, runs=runs)
    assert (attempt / "record.json").read_bytes() == record.to_json()
    assert (pulled_snapshots(attempt.parents[1]), (attempt / SNAPSHOT).exists()) == ([], False)
    assert pull_run(first.run, first.store, runs=runs) == [record]


def test_a_pulled_snapshot_is_resumable_and_never_closed_or_published(first: Machine, tmp_path: Path) -> None:
    first.snapshot(first.train(2))
    runs = tmp_path / "runs"
    pull_run(first.run, first.store, runs=runs)
    assert require_resumable(runs / first.run, host="another").outcome.status is RunStatus.RUNNING
    assert not local_run(runs, first.run).died
    with pytest.raises(RunError, match="was pulled while it was running on another machine"):
        publish_run(runs / first.run, first.store)


def test_a_machine_that_continued_earlier_pulls_only_what_others_added(first: Machine, tmp_path: Path) -> None:
    first.snapshot(first.train(1))
    second = machine(tmp_path, first, "second")
    second.take_over(first.run)
    second.snapshot(second.train(4))
    assert [record.attempt for record in pull_later(first.folder, first.store)] == [2]
    assert pulled_snapshots(first.folder) == [2]
    # its machine may have published more of it
    assert [record.attempt for record in pull_later(second.folder, first.store)] == [1]


def test_numbers_that_were_only_claimed_are_kept_by_a_pull(first: Machine, tmp_path: Path) -> None:
    first.snapshot(first.train(1))
    machine(tmp_path, first, "second").take_over(first.run)
    third = machine(tmp_path, first, "third")
    third.take_over(first.run)
    third.snapshot(third.train(1))
    fourth = machine(tmp_path, first, "fourth")
    assert fourth.take_over(first.run) == 2
    assert (fourth.numbers(), fourth.attempt.record.attempt) == ([1, 2, 3, 4], 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": [{"path": "../x", "size": 1, "sha256": digest_of_bytes(b"")}]}, "is invalid"),
        (
            {"files": [{"path": ".snapshot.json", "size": 1, "sha256": digest_of_bytes(b"")}]},
            "Reprise writes that file",
        ),
        ({"number": 0}, "number"),
        ({"format": "reprise.sealed/1"}, "format"),
    ],
)
def test_a_malicious_snapshot_is_rejected(
    first: Machine, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    first.snapshot(first.train(1))
    text = json.loads(b"".join(first.store.read(snapshot_key(first.run, 1, 1))))
    first.store.create(snapshot_key(first.run, 1, 2), canonical(text | {"number": 2} | change))
    with pytest.raises(DocumentError, match=message):
        pull_run(first.run, first.store, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_snapshot_of_a_finished_attempt_is_rejected(first: Machine) -> None:
    """Otherwise a forged document could state that a run is completed, so that it could no longer be resumed."""
    first.snapshot(first.train(1))
    text = json.loads(b"".join(first.store.read(snapshot_key(first.run, 1, 1))))
    text["record"]["outcome"]["status"] = "completed"
    with pytest.raises(DocumentError, match="status completed; expected running"):
        read_snapshot(canonical(text), run=first.run, attempt=1, where="s")


def test_an_altered_object_of_a_snapshot_is_detected(first: Machine, tmp_path: Path) -> None:
    snapshot = first.snapshot(first.train(1))
    store = first.store
    assert isinstance(store, MemoryStore)
    key = object_key(next(file.sha256 for file in snapshot.files if file.path.endswith(".safetensors")))
    store._objects[key] = bytes(len(store._objects[key]))
    with pytest.raises(DigestMismatchError):
        pull_run(first.run, store, runs=tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*/attempts"))
