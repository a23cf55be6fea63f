"""The printed results of a sweep."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer.cli.sweep import PLOT, show
from trainer.source.description import Source
from trainer.sweeps.document import Point, Sweep, SweepRequest
from trainer.sweeps.folder import PointState
from trainer.sweeps.results import SweepResults, SweepRow

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RUN = "20260301t120005-abcdef"


def print_results(folder: Path, results: SweepResults, *, as_json: bool = False, by: str | None = None) -> None:
    points = [{"seed": str(number)} for number in range(len(results.point_states))]
    sweep = Sweep(
        id=RUN,
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", points=points),
        source="sha256:" + "0" * 64,
        captured=Source(how="mounted"),
        points=[Point(settings=each, runs=[RUN]) for each in points],
    )
    show(sweep, folder, results, as_json=as_json, by=by)


def make_results(rows: list[SweepRow], axes: list[str], *, seeds: int = 0) -> SweepResults:
    count = sum(len(row.numbers) for row in rows)
    stands = [PointState.FINISHED] * (count - 1) + [PointState.FAILED]
    return SweepResults(axes=axes, seeds=seeds, metrics=["val_loss"], mode="min", rows=rows, point_states=stands)


def make_row(numbers: list[int], values: list[float], **settings: str) -> SweepRow:
    return SweepRow(settings=settings, numbers=numbers, values={"val_loss": values}, finished=len(values))


def test_the_table_marks_the_best_row_and_shows_the_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_results(
        tmp_path,
        make_results([make_row([0, 1], [1.0, 2.0], lr="1e-3"), make_row([2, 3], [5.0], lr="1e-4")], ["lr"], seeds=2),
    )
    out = capsys.readouterr().out
    assert f"sweep {RUN} of digits: 1 failed, 3 finished" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["*", "1e-3", "2", "1.5", "±", "0.71", "2", "runs"] in lines
    assert ["1e-4", "1", "5", "2", "runs", "(failed)"] in lines
    assert f"failed: point 4, seed=3 ({tmp_path / 'logs' / '4.txt'})" in out


def test_json_has_the_rows_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_results(
        tmp_path, make_results([make_row([0, 1], [1.0, 2.0], lr="1e-3")], ["lr"], seeds=2), as_json=True, by="val_los"
    )
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["rows"][0]["metrics"]["val_loss"] == {
        "mean": 1.5,
        "deviation": 0.7071067811865476,
        "values": [1.0, 2.0],
    }
    assert [point["status"] for point in document["points"]] == ["finished", "failed"]
    assert "no run has the metric val_los: sorted by val_loss; did you mean val_loss?" in err


def test_the_plot_uses_the_first_numeric_axis(tmp_path: Path) -> None:
    rows = [make_row([0], [1.0], lr="1e-4", optimizer="sgd"), make_row([1], [2.0], lr="1e-2", optimizer="sgd")]
    print_results(tmp_path, make_results(rows, ["lr", "optimizer"]))
    lines = (tmp_path / PLOT).read_text()
    assert "lr, logarithmic" in lines
    assert "optimizer=sgd" in lines
    print_results(
        tmp_path,
        make_results([make_row([0], [1.0], optimizer="sgd"), make_row([1], [2.0], optimizer="adamw")], ["optimizer"]),
    )
    bars = (tmp_path / PLOT).read_text()
    assert ">adamw<" in bars


def test_without_finished_points_there_is_no_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    none = SweepResults(axes=["lr"], seeds=0, metrics=[], mode="min", rows=[], point_states=[PointState.WAITING])
    print_results(tmp_path, none)
    assert capsys.readouterr().out == f"sweep {RUN} of digits: 1 waiting\n"
    assert not (tmp_path / PLOT).exists()
