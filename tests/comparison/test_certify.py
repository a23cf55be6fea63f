"""Certifying runs: the conditions for a certificate, and the first difference if the property does not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.certified import make_statement, make_traced_run, resume_copy
from tests.comparison.compared import make_run
from trainer.base.errors import RunError
from trainer.comparison.certificate import Statement
from trainer.comparison.certify import LOG, Kill, save_certificate
from trainer.comparison.trace import FILE
from trainer.comparison.verdict import VerdictLevel

if TYPE_CHECKING:
    from pathlib import Path


def test_equal_runs_are_certified_as_a_rerun(tmp_path: Path) -> None:
    a, b = make_traced_run(tmp_path / "runs", 0.5), make_traced_run(tmp_path / "runs", 0.5)
    tested = make_statement(a, b).predicate
    assert (tested.claim, tested.holds, tested.verdict, tested.lost) == ("rerun", True, VerdictLevel.IDENTICAL, None)
    assert tested.compared == ["weights", "result metrics", FILE, LOG], (
        "there is no state of an optimizer to call equal"
    )
    assert make_statement(a, b).runs == [a.record.run, b.record.run]


def test_the_state_that_was_not_restored_is_named(tmp_path: Path) -> None:
    a, b = (
        make_traced_run(tmp_path / "runs", 0.5, 0.4, 0.3),
        make_traced_run(tmp_path / "runs", 0.5, 0.4, 0.3, slow_from=3),
    )
    tested = make_statement(a, resume_copy(b), kill=Kill(after=2, resumed_from=2)).predicate
    assert (tested.claim, tested.holds, tested.killed_after) == ("resume", False, 2)
    assert tested.lost
    assert (tested.lost.what, tested.lost.step) == ("the schedule of the learning rate", 3)


def test_a_log_that_was_not_truncated_is_named(tmp_path: Path) -> None:
    a, b = make_traced_run(tmp_path / "runs", 0.5), make_traced_run(tmp_path / "runs", 0.5)
    assert b.attempt
    (b.attempt / LOG).write_text('{"step":0,"train_loss":0.5}\n' * 2)
    lost = make_statement(a, b).predicate.lost
    assert lost
    assert lost.what == f"the file {LOG}: one file has more lines than the other"


def test_runs_without_evidence_are_not_certified(tmp_path: Path) -> None:
    a, b = make_traced_run(tmp_path / "runs", 0.5), make_traced_run(tmp_path / "runs", 0.5)
    assert b.attempt
    (b.attempt / FILE).unlink()
    with pytest.raises(RunError, match="nothing can be certified"):
        make_statement(a, b)


def test_ingredients_that_changed_between_the_runs_are_named(tmp_path: Path) -> None:
    a, b = (
        make_run(tmp_path / "runs"),
        make_run(tmp_path / "runs", code="x = 2\n", settings={"seed": 1, "learning_rate": 0.001}),
    )
    with pytest.raises(RunError, match="the ingredients changed between the two runs: setting seed, code source"):
        make_statement(a, b)


def test_a_resume_without_a_later_step_is_not_certified(tmp_path: Path) -> None:
    a, b = make_traced_run(tmp_path / "runs", 0.5, 0.4), resume_copy(make_traced_run(tmp_path / "runs", 0.5, 0.4))
    with pytest.raises(RunError, match=r"no step followed the resume: run \S+ was resumed from step 2 of 2"):
        make_statement(a, b, kill=Kill(after=2, resumed_from=2))
    tested = make_statement(a, b, kill=Kill(after=1, resumed_from=1)).predicate
    assert (tested.holds, tested.observed) == (True, 1)


@pytest.mark.parametrize("losses", [(), (0.5,)])
def test_a_rerun_without_a_complete_trace_is_not_certified(tmp_path: Path, losses: tuple[float, ...]) -> None:
    a, b = (make_traced_run(tmp_path / "runs", *losses, steps=2 * len(losses)) for _ in range(2))
    with pytest.raises(RunError, match="nothing can be certified: the trace"):
        make_statement(a, b)


def test_a_run_that_was_not_resumed_or_was_stopped_is_not_certified(tmp_path: Path) -> None:
    a, b = make_traced_run(tmp_path / "runs", 0.5, 0.4), make_traced_run(tmp_path / "runs", 0.5, 0.4)
    with pytest.raises(RunError, match="was not resumed"):
        make_statement(a, b, kill=Kill(after=1, resumed_from=1))
    with pytest.raises(RunError, match="was resumed; expected an uninterrupted run"):
        make_statement(resume_copy(a), b)


def test_a_run_that_left_its_determinism_level_is_not_certified(tmp_path: Path) -> None:
    a, b = make_traced_run(tmp_path / "runs", 0.5), make_traced_run(tmp_path / "runs", 0.5)
    around = b.record.circumstances.model_copy(update={"determinism_at_end": ["benchmark is True"]})
    with pytest.raises(RunError, match="did not keep determinism level machine: benchmark is True"):
        make_statement(a, replace(b, record=b.record.model_copy(update={"circumstances": around})))


def test_a_net_without_weights_is_not_certified(tmp_path: Path) -> None:
    a, b = (make_traced_run(tmp_path / "runs", 0.5, weights={}) for _ in range(2))
    with pytest.raises(RunError, match="no weights to compare"):
        make_statement(a, b)


def test_a_certificate_is_saved_beside_both_runs(tmp_path: Path) -> None:
    stated = make_statement(make_traced_run(tmp_path / "runs", 0.5), make_traced_run(tmp_path / "runs", 0.5))
    paths = save_certificate(stated, None, runs=tmp_path / "runs")
    assert [path.parent.parent.name for path in paths] == stated.runs
    assert all(Statement.read(path.read_bytes(), "there") == stated for path in paths)
