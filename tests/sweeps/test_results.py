"""The results of a sweep: rows, their order, and the best row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.records import circumstances, ingredients
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import new_run, record_of
from trainer.runs.run_id import new_run_id
from trainer.source.description import Source
from trainer.sweeps.document import Point, Sweep, SweepRequest
from trainer.sweeps.folder import PointState
from trainer.sweeps.results import SweepResults, summarize_sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.runs.record import Record


def summarize(runs: Path, results: Sequence[tuple[dict[str, str], dict[str, Any] | None]], **how: Any) -> SweepResults:
    """Summarize points with their settings and metrics; a point whose metrics are None is unfinished."""
    points = [point for point, _ in results]
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", axes=[], points=points),
        source="sha256:" + "0" * 64,
        captured=Source(how="mounted"),
        points=[Point(settings=point) for point in points],
    )
    records = {at: make_record(runs, metrics, **how) for at, (_, metrics) in enumerate(results) if metrics is not None}
    stands = [PointState.WAITING if metrics is None else PointState.FINISHED for _, metrics in results]
    return summarize_sweep(sweep, stands, records)


def make_record(runs: Path, metrics: dict[str, Any], **settings: Any) -> Record:
    run = open_run(new_run(runs)[1], ingredients=ingredients(settings=settings), circumstances=circumstances())
    run.close(Outcome(status=RunStatus.COMPLETED, metrics=metrics, steps=1))
    return record_of(run.folder.parents[1])


def test_points_that_differ_only_in_the_seed_are_one_row(tmp_path: Path) -> None:
    found = summarize(
        tmp_path,
        [
            ({"learning_rate": rate, "seed": seed, "max_epochs": "1"}, {"test_accuracy": 0.5, "val_loss": loss})
            for rate, seed, loss in (("1e-4", "1", 2.0), ("1e-4", "2", 4.0), ("3e-4", "1", 1.0), ("3e-4", "2", 1.5))
        ],
    )
    assert (found.axes, found.seeds, found.metric, found.mode) == (["learning_rate"], 2, "val_loss", "min")
    assert [row.settings["learning_rate"] for row in found.rows] == ["3e-4", "1e-4"]
    best = found.best
    assert best is not None
    assert best.mean("val_loss") == 1.25
    assert best.deviation("val_loss") == pytest.approx(0.353553, abs=1e-6)


def test_the_monitored_metric_decides(tmp_path: Path) -> None:
    points = [
        ({"width": width}, {"val_accuracy": value, "val_loss": value}) for width, value in (("8", 0.1), ("16", 0.9))
    ]
    found = summarize(tmp_path, points, monitor="val_accuracy", monitor_mode="max")
    assert (found.metric, found.mode, found.rows[0].settings) == ("val_accuracy", "max", {"width": "16"})
    assert summarize(tmp_path, points).metric == "val_loss"


def test_a_diverged_run_is_never_the_best(tmp_path: Path) -> None:
    found = summarize(
        tmp_path,
        [
            ({"lr": "9", "seed": "1"}, {"val_loss": "NaN"}),
            ({"lr": "9", "seed": "2"}, {"val_loss": 0.001}),
            ({"lr": "2", "seed": "1"}, {"val_loss": 3.0}),
            ({"lr": "2", "seed": "2"}, None),
            ({"lr": "1", "seed": "1"}, None),
            ({"lr": "1", "seed": "2"}, None),
        ],
    )
    assert found.best is not None
    assert [row.settings["lr"] for row in found.rows] == ["2", "9", "1"]
    assert [row.mean("val_loss") for row in found.rows] == [3.0, None, None]


def test_without_finished_points_there_is_no_result(tmp_path: Path) -> None:
    found = summarize(tmp_path, [({"seed": "1"}, None), ({"seed": "2"}, None)])
    assert (found.metric, found.best, len(found.rows)) == (None, None, 1)
