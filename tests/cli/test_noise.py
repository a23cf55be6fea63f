"""The command `reprise noise` with existing runs: nothing is trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances, ingredients
from trainer.base.errors import ExperimentError, UsageError
from trainer.cli.configuration import CHECKOUT
from trainer.cli.noise import main
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import new_run
from trainer.source.capture import capture

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["digits", "--seeds", "3"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return three runs of digits with the defaults of `reprise noise`."""
    runs = tmp_path / "runs"
    monkeypatch.setenv("REPRISE_RUNS", str(runs))
    source = capture(CHECKOUT, runs=runs).digest
    for seed, loss in enumerate((0.5, 0.6, 0.7)):  # the accuracy is equal in all of them
        around = circumstances().model_copy(update={"origins": {"seed": "command line", "learning_rate": "experiment"}})
        recorded = ingredients(source=source, settings={"seed": seed, "learning_rate": 0.001})
        run = open_run(new_run(runs)[1], ingredients=recorded, circumstances=around)
        run.close(Outcome(status=RunStatus.COMPLETED, metrics={"test_loss": loss, "test_accuracy": 1.0}, steps=3))
    return runs


def test_completed_runs_are_only_summarized(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    out, err = capsys.readouterr()
    assert err.count("is reused") == 3
    assert next(line for line in out.splitlines() if "0.6" in line).split()[:5] == [
        "test_loss",
        "0.6",
        "0.1",
        "0.5",
        "0.7",
    ]
    assert [line.split() for line in out.splitlines() if "no spread" in line] == [["test_accuracy", "no", "spread"]]
    kept = json.loads(next((runs / "noise").iterdir()).read_bytes())
    assert (kept["seeds"], kept["metrics"]["test_loss"]) == ([0, 1, 2], [0.5, 0.6, 0.7])


@pytest.mark.usefixtures("runs")
def test_the_number_of_seeds_for_a_gain_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--gain", "0.1"]) == 0
    assert ["test_loss", "17"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main([*WORDS, "--gain", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spread"]["test_loss"]["seeds_needed"] == 17


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["digits", "--seeds", "2"], UsageError, "needs 3 or more"),
        (["digits", "--gain", "0"], UsageError, "above 0"),
        (["digits", "--seed", "1"], UsageError, "--seed: noise chooses the seeds itself"),
        (["digits", "--exp", "faces"], UsageError, "--exp: the experiment is the first argument"),
        (["digitz"], ExperimentError, "digitz"),
        (["digits", "--seeds", "x"], UsageError, "--seeds is 'x'; expected an integer"),
    ],
)
def test_an_unmeasurable_request_is_rejected_before_any_run(
    words: list[str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        main(words)
