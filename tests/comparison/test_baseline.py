"""Baselines: the results that match, the metrics that changed, and whether the environment or the code differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from trainer.base.document import parse_json
from trainer.comparison.baseline import (
    Baseline,
    BaselineEntry,
    EnvironmentKey,
    MetricLevel,
    compare_with_entry,
    digest_of_code,
    levels,
)

if TYPE_CHECKING:
    from pathlib import Path

ONE: Final = "sha256:" + "1" * 64
TWO: Final = "sha256:" + "2" * 64
KEY: Final = EnvironmentKey(lock=ONE, python="3.11", device="AMD EPYC")
OTHER: Final = KEY.model_copy(update={"lock": TWO})
ENTRY: Final = BaselineEntry(
    key=KEY,
    image=None,
    code=ONE,
    seeds=5,
    metrics={"test_loss": MetricLevel(value=1.0, tolerance=0.1)},
    why="the first",
)


@pytest.mark.parametrize(
    ("value", "key", "code", "holds", "message"),
    [
        (
            1.0,
            KEY,
            ONE,
            True,
            "bit-identical to the baseline; the baseline was written with this code, in this environment",
        ),
        (
            1.05,
            KEY,
            TWO,
            True,
            "within what seeds explain; the baseline was written with another state of the code, in this environment",
        ),
        (
            1.5,
            KEY,
            TWO,
            False,
            "beyond what seeds explain; the baseline was written with another state of the code, in this environment",
        ),
        (
            1.5,
            OTHER,
            ONE,
            False,
            "beyond what seeds explain; the baseline was written with this code, in another environment (lock)",
        ),
        (
            1.05,
            OTHER,
            ONE,
            True,
            "within what seeds explain; the baseline was written with this code, in another environment (lock)",
        ),
        (
            0.5,
            OTHER,
            TWO,
            False,
            "beyond what seeds explain; the baseline was written with another state of the code, in another environment (lock)",
        ),
    ],
)
def test_environment_changes_are_distinguished_from_code_changes(
    value: float, key: EnvironmentKey, code: str, message: str, *, holds: bool
) -> None:
    verdict = compare_with_entry(ENTRY, key=key, code=code, metrics={"test_loss": value})
    assert (verdict.holds, verdict.summary) == (holds, message)
    assert bool(verdict.changes) == (value != 1.0)


def test_imported_files_identify_the_relevant_code() -> None:
    entry = ENTRY.model_copy(update={"imported": ONE})
    metrics = {"test_loss": 1.0}
    assert compare_with_entry(entry, key=KEY, code=TWO, imported=ONE, metrics=metrics).same_code
    assert not compare_with_entry(entry, key=KEY, code=ONE, imported=TWO, metrics=metrics).same_code
    assert compare_with_entry(entry, key=KEY, code=ONE, metrics=metrics).same_code
    assert compare_with_entry(ENTRY, key=KEY, code=ONE, imported=TWO, metrics=metrics).same_code


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_value_exceeds_every_tolerance(value: float) -> None:
    verdict = compare_with_entry(ENTRY, key=KEY, code=ONE, metrics={"test_loss": value})
    assert (verdict.holds, verdict.summary.partition(";")[0]) == (False, "beyond what seeds explain")


def test_a_baseline_without_metrics_never_holds() -> None:
    verdict = compare_with_entry(
        ENTRY.model_copy(update={"metrics": {}}), key=KEY, code=ONE, metrics={"test_loss": 1.0}
    )
    assert (verdict.holds, verdict.summary.partition(":")[0]) == (False, "nothing was compared")


@pytest.mark.parametrize(
    ("loss", "accuracy", "holds", "message"),
    [
        (1.0005, 0.5, True, "within what rounding explains"),
        (1.0005, 0.55, True, "within what seeds explain"),
        (
            1.005,
            0.5,
            False,
            "beyond what rounding explains, within what seeds do: other numbers are computed, or drawn",
        ),
        (1.005, 0.9, False, "beyond what seeds explain"),
        (1.0, 0.9, False, "beyond what seeds explain"),
    ],
)
def test_equal_seeds_may_differ_by_rounding_only(loss: float, accuracy: float, message: str, *, holds: bool) -> None:
    metrics = {
        "loss": MetricLevel(value=1.0, tolerance=0.3, rounding=0.001),
        "accuracy": MetricLevel(value=0.5, tolerance=0.1),
    }
    entry = ENTRY.model_copy(update={"metrics": metrics})
    verdict = compare_with_entry(entry, key=OTHER, code=ONE, metrics={"loss": loss, "accuracy": accuracy})
    assert (verdict.holds, verdict.summary) == (
        holds,
        f"{message}; the baseline was written with this code, in another environment (lock)",
    )


def test_rounding_tolerances_come_from_perturbed_runs() -> None:
    seeds = [dict.fromkeys("abcd", 1.0), dict.fromkeys("abcd", 1.5), dict.fromkeys("abcd", 2.0)]
    nudged = [{"a": 1.0 + 2**-10, "b": 1.0 + 2**-40, "c": 9.0, "d": 1.0}, dict.fromkeys("abcd", 1.0)]
    found = levels(seeds, nudged)
    assert [found[name].rounding for name in "abd"] == [10 * 2**-10, 1e-4, None]
    assert found["c"].rounding == found["c"].tolerance
    assert found["d"].allowed == found["d"].tolerance


def test_a_missing_metric_does_not_hold() -> None:
    verdict = compare_with_entry(ENTRY, key=KEY, code=ONE, metrics={"test_error": 0.1})
    assert not verdict.holds
    assert verdict.changes == [
        "! test_loss: 1 before, not measured now",
        "test_error: 0.1 now, not measured before",
    ]


def test_a_metric_that_is_nan_now_does_not_hold() -> None:
    verdict = compare_with_entry(ENTRY, key=KEY, code=ONE, metrics={"test_loss": float("nan")})
    assert not verdict.holds
    assert verdict.summary.startswith("beyond what seeds explain")


def test_tolerances_come_from_the_spread_of_seeds() -> None:
    runs: list[dict[str, float]] = [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 2.0, "b": 1.0, "c": float("nan")}]
    found = levels([*runs, {"a": 3.0, "b": 1.0, "c": 1.0}])
    assert found.keys() == {"a", "b"}
    assert found["a"].tolerance == pytest.approx(4.303 * 2**0.5)
    assert found["b"] == MetricLevel(value=1.0, tolerance=0.01)


def test_an_environment_has_one_entry_and_the_nearest_counts() -> None:
    mine = ENTRY.model_copy(update={"key": OTHER, "why": "a new torch"})
    both = Baseline(experiment="digits", entries=[ENTRY]).with_entry(mine).with_entry(mine)
    assert [entry.why for entry in both.entries] == ["the first", "a new torch"]
    assert both.nearest(KEY) == ENTRY
    assert both.nearest(OTHER.model_copy(update={"python": "3.12"})) == mine
    assert parse_json(both.to_json(), Baseline, where="test") == both
    assert len(both.to_json().splitlines()) == 4


def test_the_code_digest_covers_training_files_only(tmp_path: Path) -> None:
    training: Any = tmp_path / "trainer/training"
    training.mkdir(parents=True)
    (training / "fit.py").write_text("a")
    experiment = tmp_path / "mine.py"
    experiment.write_text("b")
    before = digest_of_code(tmp_path, experiment)
    (tmp_path / "trainer/cli.py").write_text("c")
    assert digest_of_code(tmp_path, experiment) == before
    experiment.write_text("d")
    assert digest_of_code(tmp_path, experiment) != before
