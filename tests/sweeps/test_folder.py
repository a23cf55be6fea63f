"""A sweep's folder, and the states of its points, including after a kill."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances, ingredients
from tests.runs.runs import finish_run, start_run
from trainer.base.errors import RunError
from trainer.comparison.noise import RequestedRun
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import new_run, record_of
from trainer.runs.run_id import new_run_id
from trainer.source.capture import capture, take_placed_source
from trainer.sweeps.document import FOLDER, Point, Sweep, SweepRequest
from trainer.sweeps.folder import (
    PointState,
    create_sweep_folder,
    equal_run,
    find_earlier_sweep,
    load,
    lock_sweep,
    log_of,
    point_state,
    prepare,
    save,
    sweep_ids,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.open_run import OpenRun


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "code.py").write_text("x = 1\n")
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def make_sweep(runs: Path, *, file: str | None = None) -> tuple[Sweep, Path]:
    bundle = capture(runs.parent / "project", runs=runs)
    points = [{"seed": "1"}, {"seed": "2"}]
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", axes=["seed"], points=points, file=file),
        source=bundle.digest,
        captured=bundle.source,
        points=[Point(settings=each) for each in points],
    )
    return sweep, create_sweep_folder(sweep, bundle, runs=runs)


def sweep_with_run(sweep: Sweep, run: str, *, code: int | None = None) -> Sweep:
    return sweep.with_point(0, Point(settings={"seed": "1"}, runs=[run], code=code))


def test_a_sweep_round_trips(runs: Path) -> None:
    sweep, folder = make_sweep(runs)
    assert load(folder) == sweep
    save(sweep_with_run(sweep, new_run_id()), folder)
    (runs / FOLDER / new_run_id()).mkdir()
    assert sweep_ids(runs) == [sweep.id]
    found = find_earlier_sweep(sweep.asked.digest, runs=runs)
    assert found is not None
    assert found.points[0].runs
    assert find_earlier_sweep("sha256:" + "0" * 64, runs=runs) is None


def test_a_new_run_gets_the_frozen_source(runs: Path) -> None:
    sweep, _ = make_sweep(runs, file="max_epochs = 1\n")
    (runs.parent / "project" / "code.py").write_text("x = 2\n")
    _, folder = new_run(runs)
    prepare(sweep, folder, runs=runs)
    bundle = take_placed_source(folder)
    assert bundle is not None
    assert (bundle.digest, bundle.source) == (sweep.source, sweep.captured)
    assert (folder / "source" / "code.py").read_text() == "x = 1\n"
    assert (folder / "settings.toml").read_text() == "max_epochs = 1\n"
    assert take_placed_source(folder) is None


def test_only_one_process_works_at_a_sweep(runs: Path) -> None:
    _, folder = make_sweep(runs)
    with lock_sweep(folder), pytest.raises(RunError, match="another process is running sweep"), lock_sweep(folder):
        pass
    with lock_sweep(folder):
        pass


@pytest.mark.parametrize(
    ("status", "stand"),
    [
        (RunStatus.COMPLETED, PointState.FINISHED),
        (RunStatus.FAILED, PointState.FAILED),
        (RunStatus.INTERRUPTED, PointState.STOPPED),
        (RunStatus.PREEMPTED, PointState.STOPPED),
    ],
)
def test_the_status_of_a_point_comes_from_its_record(runs: Path, status: RunStatus, stand: PointState) -> None:
    sweep, _ = make_sweep(runs)
    run = finish_run(runs, status=status).record.run
    assert point_state(sweep_with_run(sweep, run), 0, runs=runs) is stand
    assert point_state(sweep, 1, runs=runs) is PointState.WAITING


def test_a_run_whose_process_was_killed_can_be_resumed(runs: Path) -> None:
    sweep, _ = make_sweep(runs)
    run: OpenRun = start_run(runs)
    mine = sweep_with_run(sweep, run.record.run)
    assert point_state(mine, 0, runs=runs) is PointState.RUNNING
    run.release()
    assert point_state(mine, 0, runs=runs) is PointState.STOPPED


def test_a_point_without_a_record_is_waiting_or_failed(runs: Path) -> None:
    sweep, _ = make_sweep(runs)
    run, _ = new_run(runs)
    assert point_state(sweep_with_run(sweep, run), 0, runs=runs) is PointState.WAITING
    assert point_state(sweep_with_run(sweep, run, code=82), 0, runs=runs) is PointState.FAILED


def test_a_process_that_holds_a_points_log_is_alive(runs: Path) -> None:
    sweep, folder = make_sweep(runs)
    with log_of(folder, 1) as log:
        kept = os.dup(log)
    assert point_state(sweep, 1, runs=runs) is PointState.RUNNING
    os.close(kept)
    assert point_state(sweep, 1, runs=runs) is PointState.WAITING


@pytest.mark.parametrize(
    ("settings", "layers", "accelerator", "met"),
    [
        ({"learning_rate": "1e-2"}, ["sha256:" + "1" * 64], "cpu", True),
        ({"learning_rate": "0.02"}, ["sha256:" + "1" * 64], "cpu", False),
        ({"learning_rate": "0.01", "seed": "0"}, ["sha256:" + "1" * 64], "cpu", True),
        ({"learning_rate": "0.01"}, ["sha256:" + "2" * 64], "cpu", False),
        ({"learning_rate": "0.01"}, None, "cpu", False),
        ({"learning_rate": "0.01"}, ["sha256:" + "1" * 64], "cuda", False),
        ({}, ["sha256:" + "1" * 64], "cpu", False),
    ],
)
def test_an_equal_run_has_the_same_settings_image_and_device(
    runs: Path, settings: dict[str, str], layers: list[str] | None, accelerator: str, *, met: bool
) -> None:
    recorded = ingredients(settings={"seed": 0, "learning_rate": 0.01}, layers=["sha256:" + "1" * 64])
    run = open_run(new_run(runs)[1], ingredients=recorded, circumstances=circumstances())
    run.close(Outcome(status=RunStatus.COMPLETED, metrics={}, steps=1))
    record = record_of(run.folder.parents[1])
    expected = RequestedRun(experiment="digits", source=recorded.source, settings=settings)
    found = equal_run(expected, [record], layers=layers, accelerator=accelerator)
    assert (found == record.run) is met
