"""Measuring noise from existing runs: runs that are reused, runs that differ in more than the seed, and the saved document."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.records import circumstances, ingredients
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import RunError
from trainer.comparison.noise import (
    FOLDER,
    RequestedRun,
    differing_runs,
    find_completed_run,
    measured_noise,
    noise_of,
    save_noise,
)
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import new_run

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.record import Record

SOURCE = digest_of_bytes(b"source")


def make_trained_run(
    runs: Path, *, seed: int = 0, loss: Any = 0.5, status: RunStatus = RunStatus.COMPLETED, **other: Any
) -> Record:
    """Return the record of a run with `seed`; `other` replaces ingredients."""
    _, folder = new_run(runs)
    recorded = ingredients(settings={"seed": seed, "learning_rate": 0.001}, **other)
    run = open_run(folder, ingredients=recorded, circumstances=circumstances())
    return run.close(Outcome(status=status, metrics={"test_loss": loss, "test_f1": 1.0}, steps=3))


def test_completed_runs_are_reused(tmp_path: Path) -> None:
    usual = RequestedRun(experiment="digits", source=SOURCE, settings={"learning_rate": "1e-3", "seed": 0})
    make_trained_run(tmp_path, status=RunStatus.FAILED)
    assert find_completed_run(usual, tmp_path) is None
    record = make_trained_run(tmp_path)  # the run used the default seed 0; a request for seed 0 matches it
    assert find_completed_run(usual, tmp_path) == record
    for other in ({"learning_rate": "1e-3", "seed": 1}, {"learning_rate": "0.1", "seed": 0}, {"seed": 0}):
        assert find_completed_run(replace(usual, settings=other), tmp_path) is None
    assert find_completed_run(replace(usual, source=digest_of_bytes(b"edited")), tmp_path) is None


def test_runs_with_other_inputs_are_excluded(tmp_path: Path) -> None:
    records = {
        0: make_trained_run(tmp_path, seed=0, lock=digest_of_bytes(b"another")),
        1: make_trained_run(tmp_path, seed=1),
    }
    later = records[1].circumstances.timing.model_copy(
        update={"started": records[1].circumstances.timing.started.replace(hour=13)}
    )
    around = records[1].circumstances.model_copy(update={"timing": later})
    records[1] = records[1].model_copy(update={"circumstances": around})
    assert differing_runs(records) == {0: ["lock uv.lock"]}


def test_measured_noise_is_used_by_the_comparison(tmp_path: Path) -> None:
    records = {seed: make_trained_run(tmp_path, seed=seed, loss=0.5 + seed / 10) for seed in (0, 1, 2)}
    for _ in range(2):
        save_noise(noise_of(records), runs=tmp_path)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    found = measured_noise(tmp_path / FOLDER, [records[1]])
    assert found is not None
    assert found.metrics == {"test_f1": [1.0, 1.0, 1.0], "test_loss": [0.5, 0.6, 0.7]}
    assert found.runs == [records[seed].run for seed in (0, 1, 2)]


def test_a_metric_that_diverged_for_one_seed_is_omitted(tmp_path: Path) -> None:
    records = {seed: make_trained_run(tmp_path, seed=seed, loss="NaN" if seed else 0.5) for seed in (0, 1, 2)}
    assert list(noise_of(records).metrics) == ["test_f1"]
    with pytest.raises(RunError, match="no finite result metric"):
        noise_of(
            {
                seed: record.model_copy(update={"outcome": Outcome(status=RunStatus.COMPLETED)})
                for seed, record in records.items()
            }
        )
