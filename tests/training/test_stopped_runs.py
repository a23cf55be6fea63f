"""`reprise train --resume`: only stopped and killed runs are resumed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trainer.runs.record import Record, RunStatus
from trainer.runs.run import load_record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
WORDS = ("--learning-rate", "0.02", "--max-epochs", "6", "--checkpoint-every", "5")
RESULTS = ("tensors.json", "weights.safetensors", "metrics.jsonl", "trace.jsonl")


def interrupt_training(checkout: Checkout, number: signal.Signals, *words: str) -> Path:
    """Train until the second epoch starts, send a signal, and return the run's folder."""
    known = set((checkout.root / "runs").glob("[0-9]*"))
    process = checkout.start(*WORDS, *words)
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/"):
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=60)
    return (set((checkout.root / "runs").glob("[0-9]*")) - known).pop()


def attempt_record(run: Path, number: int) -> Record:
    return load_record(run / f"attempts/{number}/record.json")


@pytest.fixture(scope="module")
def uninterrupted_attempt(checkout: Checkout) -> Path:
    assert checkout.train(*WORDS)[0] == 0
    return checkout.last()[0]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, RunStatus.PREEMPTED), (signal.SIGKILL, RunStatus.INTERRUPTED)]
)
def test_a_stopped_run_resumes_to_identical_bits(
    checkout: Checkout, uninterrupted_attempt: Path, number: signal.Signals, status: RunStatus
) -> None:
    run = interrupt_training(checkout, number, "--no-publish")
    experiment = checkout.root / "dots.py"
    text = experiment.read_text()
    experiment.write_text("raise SystemExit('the checkout was edited')")
    try:
        done = checkout.reprise("train", "--resume", run.name)
    finally:
        experiment.write_text(text)
    assert done.returncode == 0, done.stderr
    assert [attempt_record(run, 1).outcome.status, attempt_record(run, 2).outcome.status] == [
        status,
        RunStatus.COMPLETED,
    ]
    assert attempt_record(run, 2).identity == attempt_record(run, 1).identity
    first, second = (attempt_record(run, each).circumstances for each in (1, 2))
    assert (second.origins, second.execution) == (first.origins, first.execution)
    for name in RESULTS:
        assert (run / "attempts/2" / name).read_bytes() == (uninterrupted_attempt / name).read_bytes(), name
    again = checkout.reprise("train", "--resume", run.name)
    assert (again.returncode, "is completed" in again.stderr) == (88, True)


def test_a_changed_ingredient_is_rejected_unless_allowed(checkout: Checkout) -> None:
    run = interrupt_training(checkout, signal.SIGTERM, "--no-publish")
    other = ("--resume", run.name, "--weight-decay", "0.5")
    refused = checkout.reprise("train", *other)
    assert refused.returncode == 88
    assert "setting weight_decay: 0 -> 0.5" in refused.stderr
    assert "--allow settings" in refused.stderr
    assert not (run / "attempts/2").exists()
    assert checkout.reprise("train", *other, "--allow", "settings").returncode == 0
    around = attempt_record(run, 2).circumstances
    assert around.changed == ["setting weight_decay: 0 -> 0.5"]
    assert (around.origins["weight_decay"], around.origins["accelerator"]) == ("command line", "default")


def test_a_running_run_is_not_resumed(checkout: Checkout) -> None:
    known = set((checkout.root / "runs").glob("[0-9]*"))
    process = checkout.start("--max-epochs", "100000", "--no-publish", host="lab-3")
    assert process.stderr
    while not process.stderr.readline().startswith("epoch 2/"):
        assert process.poll() is None
    run = (set((checkout.root / "runs").glob("[0-9]*")) - known).pop()
    try:
        refused = checkout.reprise("train", "--resume", run.name)
    finally:
        process.kill()
        process.communicate()
    assert refused.returncode == 88
    assert "is still running on host lab-3" in refused.stderr


def test_a_run_preempted_elsewhere_is_pulled_and_resumed(checkout: Checkout, uninterrupted_attempt: Path) -> None:
    run = interrupt_training(checkout, signal.SIGTERM)
    aside = run.with_name(".gone")
    run.rename(aside)
    done = checkout.reprise("train", "--resume", run.name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == run.name
    for name in RESULTS:
        assert (run / "attempts/2" / name).read_bytes() == (uninterrupted_attempt / name).read_bytes(), name


def test_a_run_only_in_the_store_of_dotenv_is_pulled_and_resumed(checkout: Checkout) -> None:
    run = interrupt_training(checkout, signal.SIGTERM)
    run.rename(run.with_name(".away"))
    dotenv = checkout.root / ".env"
    dotenv.write_text(f"REPRISE_STORE={checkout.store}\n")
    command = [sys.executable, "-m", "trainer", "train", "--resume", run.name, "--no-publish"]
    environ = {name: value for name, value in checkout.environ.items() if name != "REPRISE_STORE"}
    try:
        done = subprocess.run(command, cwd=checkout.root, env=environ, capture_output=True, text=True, check=False)
    finally:
        dotenv.unlink()
        shutil.rmtree(run.with_name(".away"))
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--resume",), 2, "--resume needs a run"),
        (("--resume", "20200101t000000-aaaaaa"), 45, "20200101t000000-aaaaaa"),
        (("--resume", "latest", "--exp", "dots.py"), 2, "found --exp with --resume"),
    ],
)
def test_invalid_requests_are_one_line(checkout: Checkout, words: tuple[str, ...], code: int, message: str) -> None:
    done = checkout.reprise("train", *words)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_one_of_two_concurrent_resumes_is_rejected(checkout: Checkout) -> None:
    """The error names the other process or states that the run is complete; there is no third attempt."""
    run = interrupt_training(checkout, signal.SIGTERM, "--no-publish")
    command = [sys.executable, "-m", "trainer", "train", "--resume", run.name]
    both = [
        subprocess.Popen(command, cwd=checkout.root, env=checkout.environ, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = {process.communicate()[1]: process.returncode for process in both}
    assert sorted(results.values()) == [0, 88]
    (refusal,) = (text for text, code in results.items() if code)
    assert "attempt 2 of run" in refusal or f"run {run.name} is completed" in refusal, refusal
    assert not (run / "attempts/3").exists()


UNTIL_THE_PROCESS = """
import json, os, runpy, sys
os.execvpe = lambda _, words, environ: (print(json.dumps([os.getcwd(), words, environ]), flush=True), os._exit(0))
sys.argv[0] = "trainer"
runpy.run_module("trainer", run_name="__main__")
"""


def test_a_resume_whose_launcher_saw_an_attempt_open_is_rejected_when_that_attempt_is_complete(
    checkout: Checkout,
) -> None:
    """The launcher found attempt 2 without a record, which may be another user's or machine's; its own training process started late."""
    run = interrupt_training(checkout, signal.SIGTERM, "--no-publish")
    (run / "attempts/2").mkdir()
    command = [sys.executable, "-c", UNTIL_THE_PROCESS, "train", "--resume", run.name]
    late = subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=True)
    place, words, environ = json.loads(late.stdout)
    (run / "attempts/2").rmdir()
    first = checkout.reprise("train", "--resume", run.name)
    assert first.returncode == 0, first.stderr
    done = subprocess.run(words, cwd=place, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, f"attempt 2 of run {run.name} was just started" in done.stderr) == (88, True), done.stderr
    assert not (run / "attempts/3").exists()
