"""A complete run with the real command: its files, its bit-identical repetition, and its stop."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import ExperimentError, ExperimentFailedError, NotFiniteError
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.record import EvaluatedWeights, Record, RunStatus
from trainer.runs.run import load_record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]


@pytest.fixture(scope="module")
def finished_run(checkout: Checkout) -> tuple[str, str, Path, Record]:
    """Train once with a setting from the command line; return output and record."""
    code, out, err = checkout.train("--learning-rate", "0.01")
    assert code == 0, err
    return (out, err, *checkout.last())


def test_the_first_line_names_environment_image_and_device(finished_run: tuple[str, str, Path, Record]) -> None:
    first = finished_run[1].splitlines()[0]
    if IMAGE_FILE.exists():  # in the development container
        assert first.startswith("environment cpu, image ")
    else:
        assert first.startswith("no environment (this machine's Python), image unknown, device cpu")


def test_the_last_block_names_run_result_record_and_store(
    finished_run: tuple[str, str, Path, Record], checkout: Checkout
) -> None:
    out, _, folder, record = finished_run
    lines = dict(line.split(None, 1) for line in out.splitlines() if not line.startswith("test_"))
    assert lines["run"] == f"{record.run} (completed)"
    assert lines["record"] == str((folder / "record.json").relative_to(checkout.root))
    assert lines["published"] == str(checkout.store)


def test_the_record_has_ingredients_results_and_files(finished_run: tuple[str, str, Path, Record]) -> None:
    record = finished_run[3]
    assert (record.ingredients.experiment, record.ingredients.datasets["dots"].version) == ("dots.py", 1)
    assert record.ingredients.settings["learning_rate"] == 0.01
    assert {"workers", "progress", "threads"}.isdisjoint(record.ingredients.settings)
    assert record.circumstances.origins["learning_rate"] == "command line"
    assert record.circumstances.origins["classes"] == "experiment"
    assert (
        record.outcome.ledger["learning_rate"]
        .bound[0]
        .startswith("adamw (trainer/training/optimization/optimizers.py:")
    )
    assert record.outcome.ledger["classes"].bound[0].startswith("Net (dots.py:")
    assert {"test_accuracy", "test_loss", "val_loss"} <= record.outcome.metrics.keys()
    assert record.outcome.steps == 14
    assert record.outcome.evaluated == EvaluatedWeights(epoch=2, step=14)


@pytest.mark.parametrize(
    ("words", "evaluated"),
    [
        (("--monitor", "val_loss", "--learning-rate", "0.1"), EvaluatedWeights(epoch=1, step=7)),
        (("--max-steps", "9"), EvaluatedWeights(epoch=2, step=9)),
    ],
)
def test_the_record_has_the_epoch_of_the_tested_weights(
    checkout: Checkout, words: tuple[str, ...], evaluated: EvaluatedWeights
) -> None:
    code, _, err = checkout.train(*words)
    assert code == 0, err
    assert checkout.last()[1].outcome.evaluated == evaluated


def test_the_frozen_source_is_what_runs(finished_run: tuple[str, str, Path, Record], checkout: Checkout) -> None:
    copy = finished_run[2].parents[1] / "source"
    assert (copy / "dots.py").read_bytes() == (checkout.root / "dots.py").read_bytes()


def test_metrics_have_full_precision_and_no_times(finished_run: tuple[str, str, Path, Record]) -> None:
    lines = [json.loads(line) for line in (finished_run[2] / "metrics.jsonl").read_bytes().splitlines()]
    assert lines[-1]["test_loss"] == finished_run[3].outcome.metrics["test_loss"]
    assert not any("time" in name for line in lines for name in line)


def test_the_same_command_gives_the_same_bits(finished_run: tuple[str, str, Path, Record], checkout: Checkout) -> None:
    before, record = finished_run[2:]
    checkout.store.rename(checkout.store.with_name("away"))
    try:
        code, out, err = checkout.train("--learning-rate", "0.01", "--workers", "1")
    finally:
        checkout.store.with_name("away").rename(checkout.store)
    assert code == 0, err
    folder, again = checkout.last()
    for name in ("tensors.json", "metrics.jsonl", "weights.safetensors"):
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    assert (again.identity, again.outcome.weights) == (record.identity, record.outcome.weights)
    (reason, remedy) = out.splitlines()[-2:]
    assert re.match(r"published +local only: ", reason)
    assert str(checkout.store) in reason
    assert remedy.strip() == f"scripts/reprise runs publish {again.run} --store {checkout.store}"


def test_a_terminated_run_finishes_its_step(checkout: Checkout) -> None:
    process = checkout.start("--max-epochs", "100000", "--no-publish")
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    folder, record = checkout.last()
    assert process.returncode == 75, err
    assert record.outcome.status is RunStatus.PREEMPTED
    pointer = json.loads((folder / "checkpoints/latest.json").read_bytes())
    assert (folder / "checkpoints" / pointer["path"]).is_file()
    assert pointer["step"] >= 14


def test_a_run_terminated_as_it_opens_closes_its_record(checkout: Checkout) -> None:
    known = set((checkout.root / "runs").glob("*/attempts/1/record.json"))
    process = checkout.start("--no-publish", host="lab-3")
    while not (found := set((checkout.root / "runs").glob("*/attempts/1/record.json")) - known):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    record = load_record(found.pop())
    ends = {(143, RunStatus.PREEMPTED), (75, RunStatus.PREEMPTED), (130, RunStatus.INTERRUPTED)}
    assert (process.returncode, record.outcome.status) in ends, err
    assert record.circumstances.host.name == "lab-3"


def test_a_net_without_parameters_is_rejected_and_leaves_no_run(checkout: Checkout) -> None:
    code = (checkout.root / "dots.py").read_text().replace("self.layers(", "(lambda x: x.flatten(1)[:, :2])(")
    code = code.replace("        self.layers = nn", "        print('\\udcff\\uac00')\n        layers = nn")
    (checkout.root / "empty.py").write_text(code)
    before = set((checkout.root / "runs").iterdir())
    number, _, err = checkout.train("--exp", "empty.py")
    assert number == ExperimentError.code, err
    assert "reprise: Net has no parameters: there is nothing to train" in err
    assert "bug in Reprise" not in err
    assert set((checkout.root / "runs").iterdir()) == before


def test_an_experiment_that_exits_is_a_failed_run_with_its_line(checkout: Checkout) -> None:
    code = (
        (checkout.root / "dots.py")
        .read_text()
        .replace("return self.layers", "raise SystemExit(0)\n        return self")
    )
    (checkout.root / "leaves.py").write_text(code)
    number, _, err = checkout.train("--exp", "leaves.py")
    assert number == ExperimentFailedError.code, err
    assert "the experiment raised SystemExit: 0" in err
    assert checkout.last()[1].outcome.status is RunStatus.FAILED


@pytest.mark.long
@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--breaks"], 82, "the experiment raised"),
        (["--momentum", "0.5"], 41, "momentum is given (command line), but nothing in this run uses it"),
        (["--learning-rat", "1"], 41, "unknown setting --learning-rat"),
        (["--monitor", "val_los"], 41, "does not measure"),
        (["--dataset", "dot"], 44, "dataset 'dot' is not declared"),
        (["--batch-size", "64", "--devices", "2"], 44, "expected a batch of 64"),
    ],
)
def test_invalid_input_is_one_line_with_its_exit_code(
    checkout: Checkout, argv: list[str], code: int, message: str
) -> None:
    before = set((checkout.root / "runs").iterdir())
    found, _, err = checkout.train(*argv)
    assert (found, "Traceback" in err) == (code, False), err
    assert message in err
    remaining = set((checkout.root / "runs").iterdir()) - before
    assert len(remaining) == (code == ExperimentFailedError.code)
    for run in remaining:
        assert json.loads((run / "attempts/1/record.json").read_bytes())["outcome"]["status"] == "failed"


def test_a_non_finite_loss_ends_the_run_at_its_step(checkout: Checkout) -> None:
    code, _, err = checkout.train("--optimizer", "sgd", "--learning-rate", "1e30", "--no-publish")
    folder, record = checkout.last()
    assert (code, record.outcome.status) == (NotFiniteError.code, RunStatus.FAILED), err
    assert "reprise: the training loss of step " in err
    assert "the last finite loss was 0." in err
    assert "--learning-rate, --clip-norm" in err
    assert not (folder / "checkpoints").exists()
    assert re.search(r"published +local only: failed runs are published only by `runs publish`", err)


def test_a_training_may_continue_after_a_non_finite_loss(checkout: Checkout) -> None:
    words = ("--optimizer", "sgd", "--learning-rate", "1e30", "--max-epochs", "2", "--no-publish")
    code, _, err = checkout.train(*words, "--no-terminate-on-nan")
    record = checkout.last()[1]
    assert (code, record.outcome.status, record.outcome.steps) == (NotFiniteError.code, RunStatus.FAILED, 14), err
    assert record.outcome.metrics["val_loss"] in {"NaN", "Infinity"}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.3, 0.6, 0.9, 1.4, 2.0, 3.0])
def test_a_signal_at_any_moment_leaves_no_incomplete_run(checkout: Checkout, number: int, after: float) -> None:
    before = set((checkout.root / "runs").iterdir())
    process = checkout.start("--max-epochs", "100000", "--no-publish")
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode in {75, 130, 143, -number}
    for run in set((checkout.root / "runs").iterdir()) - before:
        assert json.loads((run / "attempts/1/record.json").read_bytes())["outcome"]["status"] != "running"
