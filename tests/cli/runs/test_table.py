"""The table of runs: differing settings, and each run's purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.records import circumstances, ingredients, record
from trainer.cli.run_page import page as run_page
from trainer.cli.run_page import summary
from trainer.cli.runs.table import COLUMNS, differing, fitted, table, without_column
from trainer.runs.list import ListedRun, RunLocation

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNS = [f"20260301t12000{place}-aaaaaa" for place in range(4)]


def make_listed_run(
    place: int, *, experiment: str = "digits", retest_of: str | None = None, **settings: Any
) -> ListedRun:
    """Return a run with these settings, each from the command line."""
    recorded = ingredients(experiment=experiment, settings={"seed": 0, **settings})
    origins: Mapping[str, str] = dict.fromkeys(settings, "command line")
    around = circumstances(origins={"seed": "default", **origins}, retest_of=retest_of)
    return ListedRun(
        run=RUNS[place], location=RunLocation.LOCAL, attempt=1, record=record(recorded, around, run=RUNS[place])
    )


def cells(rows: list[ListedRun], **more: Any) -> list[dict[str, str]]:
    head, *lines = table(rows, **more)
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_a_setting_that_differs_has_a_column() -> None:
    first, second = cells([make_listed_run(0, width=8, depth=2), make_listed_run(1, width=16, depth=2)])
    assert (first["width"], second["width"]) == ("8", "16")
    assert set(first) == {*COLUMNS, "width"}


def test_settings_of_different_experiments_have_no_column() -> None:
    rows = [
        make_listed_run(0, width=8),
        make_listed_run(1, width=16),
        make_listed_run(2, experiment="faces", lamp="on"),
    ]
    assert [line.get("width") for line in cells(rows)] == ["8", "16", ""]
    assert "lamp" not in cells(rows)[0]


def test_at_most_three_settings_have_columns_the_most_frequent_first() -> None:
    rows = [make_listed_run(place, a=place, b=place, c=place, z=place) for place in range(3)]
    assert (differing(rows), without_column(rows)) == (["a", "b", "c", "z"], ["z"])
    rows[0].records[0].circumstances.origins["a"] = "default"
    assert (differing(rows), without_column(rows)) == (["b", "c", "z", "a"], ["a"])
    assert [*cells(rows)[0]][4:7] == ["b", "c", "z"]


def test_reruns_and_noise_runs_are_marked() -> None:
    broken = ListedRun(run=RUNS[3], location=RunLocation.LOCAL, attempt=1, record=None, fault="not valid JSON")
    rows = [make_listed_run(0), make_listed_run(1, retest_of=RUNS[0]), make_listed_run(2), broken]
    found = [line["experiment"] for line in cells(rows, measured={RUNS[2]})]
    assert found == ["digits", "digits (rerun)", "digits (noise)", ""]


def test_allowed_changes_of_a_resumed_run_are_shown_with_the_original_values() -> None:
    first, last = make_listed_run(0, rate=0.3).record, make_listed_run(0, rate=0.3).record
    assert first is not None
    assert last is not None
    last.circumstances.changed.append("setting rate: 0.3 -> 0.1")
    second = last.model_copy(update={"attempt": 2})
    resumed = ListedRun(run=RUNS[0], location=RunLocation.LOCAL, attempt=2, record=second, earlier=(first,))
    (line,) = cells([resumed])
    assert line["rate"] == "0.3 -> 0.1"
    assert line["took"] == "25.0 s in 2 attempts"
    page = "\n".join(run_page(resumed, second))
    assert "attempt 2: setting rate: 0.3 -> 0.1" in page
    assert "0.1 (began with 0.3)" in page
    assert page.count("took 12.5 s") == len(resumed.records)
    assert summary(resumed)["current_settings"] == {"seed": 0, "rate": 0.1}


def test_a_narrow_terminal_shows_whole_ids_and_lists_omitted_columns() -> None:
    rows = table([make_listed_run(0, width=8), make_listed_run(1, width=16)])
    assert fitted(rows, 200) == (rows, [])
    kept, omitted = fitted(rows, 60)
    assert omitted == ["started (UTC)", "location", "width"]
    assert kept[0] == ("run", "status", "experiment", "result", "took")
    assert kept[1][0] == RUNS[0]
