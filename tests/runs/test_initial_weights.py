"""The initial weights of a run: their copy in the run's folder, and the chain of parent runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances, ingredients, record
from tests.runs.runs import start_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, RunError
from trainer.runs.initial_weights import INITIAL, ancestors, keep, stage_again, stage_parent, staged, weights_of
from trainer.runs.record import Outcome, ParentRun, Record, RunStatus
from trainer.runs.run import ATTEMPTS, new_run

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = b"tensors" * 10


def make_parent(runs: Path) -> tuple[Path, Record]:
    run = start_run(runs)
    (run.folder / "weights.safetensors").write_bytes(WEIGHTS)
    return run.folder.parents[1], run.close(Outcome(status=RunStatus.COMPLETED))


def test_a_parents_weights_are_copied_into_the_first_attempt(tmp_path: Path) -> None:
    folder, parent = make_parent(tmp_path / "runs")
    child = start_run(tmp_path / "runs")
    run = child.folder.parents[1]
    made = stage_parent(folder, parent, into=run)
    assert staged(run) == made
    assert (made.parent.run, made.parent.identity, made.sha256) == (
        parent.run,
        parent.identity,
        digest_of_bytes(WEIGHTS),
    )
    keep(run, attempt=1)
    assert (child.folder / INITIAL).read_bytes() == WEIGHTS
    assert sorted(path.name for path in run.iterdir()) == ["attempts", "source", "source.tar.gz"]
    assert [file.path for file in child.close(Outcome(status=RunStatus.INTERRUPTED)).outcome.files] == [INITIAL]


def test_a_later_attempt_gets_a_copy_of_the_earlier_attempts_weights(tmp_path: Path) -> None:
    folder, parent = make_parent(tmp_path / "runs")
    run = start_run(tmp_path / "runs").folder.parents[1]
    stage_parent(folder, parent, into=run)
    keep(run, attempt=1)
    (run / ATTEMPTS / "2").mkdir()
    keep(run, attempt=2)
    assert (run / ATTEMPTS / "2" / INITIAL).read_bytes() == WEIGHTS


def test_a_run_that_has_lost_its_initial_weights_is_rejected(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs").folder.parents[1]
    (run / ATTEMPTS / "2").mkdir()
    with pytest.raises(RunError, match="lacks its initial weights"):
        keep(run, attempt=2)


def test_altered_weights_of_a_parent_are_rejected_and_not_kept(tmp_path: Path) -> None:
    folder, parent = make_parent(tmp_path / "runs")
    (folder / ATTEMPTS / "1" / "weights.safetensors").write_bytes(WEIGHTS[:-1] + b"!")
    _, run = new_run(tmp_path / "runs")
    with pytest.raises(DigestMismatchError, match="is not the recorded file") as caught:
        stage_parent(folder, parent, into=run)
    assert f"`reprise runs pull {parent.run}`" in str(caught.value.hint)
    assert not [*run.iterdir()]


def test_a_childs_copy_is_staged_again_by_the_digest_in_its_record(tmp_path: Path) -> None:
    folder, parent = make_parent(tmp_path / "runs")
    run = start_run(tmp_path / "runs").folder.parents[1]
    stage_parent(folder, parent, into=run)
    keep(run, attempt=1)
    child = child_of(parent)
    _, again = new_run(tmp_path / "runs")
    assert stage_again(run / ATTEMPTS / "1", child, into=again).parent.run == parent.run
    (run / ATTEMPTS / "1" / INITIAL).write_bytes(b"other")
    with pytest.raises(DigestMismatchError):
        stage_again(run / ATTEMPTS / "1", child, into=again)


def child_of(parent: Record, *, sha256: str = digest_of_bytes(WEIGHTS), run: str | None = None) -> Record:
    facts = ParentRun(run=parent.run, attempt=1, identity=parent.identity)
    return record(ingredients(initial_weights=sha256), circumstances(parent=facts), run=run)


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.RUNNING])
def test_a_run_without_weights_is_no_parent(status: RunStatus) -> None:
    with pytest.raises(RunError, match=f"has no weights: it is {status}"):
        weights_of(record(status=status))


def test_the_ancestors_are_found_up_to_the_first_run(tmp_path: Path) -> None:
    _, first = make_parent(tmp_path / "runs")
    second = child_of(first)
    found = list(ancestors(child_of(second), {first.run: first, second.run: second}.get))
    assert [(each.run, each.has_other_weights) for each in found] == [(second.run, True), (first.run, False)]


def test_an_ancestor_without_a_record_ends_the_chain() -> None:
    parent = record()
    (only,) = ancestors(child_of(parent), lambda _: None)
    assert (only.run, only.record) == (parent.run, None)


def test_a_forged_record_that_descends_from_itself_ends_the_chain() -> None:
    one = record()
    other = child_of(one)
    forged = child_of(other, run=one.run)
    found = list(ancestors(other, {one.run: forged, other.run: other}.get))
    assert [each.run for each in found] == [one.run]


def test_initial_weights_change_the_identity_and_their_absence_leaves_it() -> None:
    plain, given = record(), record(ingredients(initial_weights=digest_of_bytes(WEIGHTS)))
    assert plain.identity != given.identity
    assert b"initial_weights" not in plain.to_json()
    assert b"parent" not in plain.to_json()
    assert b"loaded_weights" not in plain.to_json()
