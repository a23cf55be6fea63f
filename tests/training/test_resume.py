"""Resuming after a kill at any moment: the result is bit-identical to an uninterrupted run.

Kill points are the beginning, the forward pass and the end of each batch, each batch of a validation and of the test, each end of an epoch,
and each system call that writes a checkpoint or creates an attempt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.training.killing import Skip
from trainer.settings.determinism import Level, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.torch, pytest.mark.trains]
ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ("tensors.json", "weights.safetensors", "metrics.jsonl", "trace.jsonl", "metrics.json")
"""The files that are compared: weights and optimizer state by tensor, logged values, trace and outcome."""
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system without temporary files: a rename from one would fail
KILLED: Final = -9
ALL, NONE = Skip(reported=0, number=0), Skip(reported=-1, number=0)
"""Runs in which calls are watched from the beginning, or never."""


class Runs:
    """Runs of a small training; each attempt is a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        environ = {**os.environ, **variables(Level.MACHINE, threads=2), "PYTHONPATH": str(ROOT)}
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.killed", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
            cwd=ROOT,
        )

    def attempt(self, run: str, *words: str, kill: int = 0, skip: Skip = ALL) -> int:
        assert self.process.stdin
        assert self.process.stdout
        order = {"run": str(self.folder / run), "kill": kill, "skip": asdict(skip), "settings": words}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        code: int = json.loads(self.process.stdout.readline())
        return code

    def last(self, run: str) -> Path:
        return max((self.folder / run / "attempts").iterdir(), key=lambda path: int(path.name))

    def whole(self, *words: str) -> tuple[Path, list[str]]:
        name = f"whole{abs(hash(words))}"
        if not (self.folder / name).exists():
            assert self.attempt(name, *words) == 0
        return self.last(name), json.loads((self.last(name) / "kill-points.json").read_text())

    def differing(self, run: str, whole: Path) -> list[str]:
        last = self.last(run)
        return [name for name in RESULTS if (last / name).read_bytes() != (whole / name).read_bytes()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    yield runs
    runs.process.communicate()


OFTEN: Final = ("--accumulate", "2", "--checkpoint-every", "3")


@pytest.mark.parametrize("place", ["stepped 0.3", "validation 1.1", " fsync"])
def test_a_killed_run_resumes_to_identical_bits(runs: Runs, place: str) -> None:
    whole, places = runs.whole(*OFTEN)
    number = next(at for at, found in enumerate(places, 1) if found.endswith(place))
    assert runs.attempt(place, *OFTEN, kill=number) == KILLED
    assert runs.attempt(place, *OFTEN) == 0
    assert runs.differing(place, whole) == []


@pytest.mark.parametrize("place", ["step 0.2", "stepped 0.6", "validation 0.1", "epoch 0", "validation 1.1", "trained"])
def test_a_terminated_run_resumes_to_identical_bits(runs: Runs, place: str) -> None:
    whole, _ = runs.whole(*OFTEN)
    run = f"stopped {place}"
    assert runs.attempt(run, *OFTEN, "--stop-at", place) == 143
    saved = json.loads((runs.last(run) / "checkpoints/latest.json").read_text())
    assert runs.attempt(run, *OFTEN) == 0
    assert runs.differing(run, whole) == []
    assert saved["step"] == {"step 0.2": 2, "epoch 0": 4, "stepped 0.6": 4, "validation 0.1": 4}.get(place, 8)


NOISY: Final = (*OFTEN, "--noise", "0.5")


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.long), "2"])
def test_a_killed_run_with_a_transform_resumes_to_identical_bits(runs: Runs, workers: str) -> None:
    whole, places = runs.whole(*NOISY)
    assert (whole / "tensors.json").read_bytes() != (runs.whole(*OFTEN)[0] / "tensors.json").read_bytes()
    number = next(at for at, found in enumerate(places, 1) if found.endswith("stepped 1.1"))
    assert runs.attempt(f"noisy {workers}", *NOISY, kill=number) == KILLED
    assert runs.attempt(f"noisy {workers}", *NOISY, "--workers", workers) == 0
    assert runs.differing(f"noisy {workers}", whole) == []


AVERAGED: Final = (
    *("--ema-decay", "0.8", "--schedule", "one_cycle"),
    *("--patience", "1", "--min-delta", "9", "--max-epochs", "4"),
)
"""Options for averaged weights and a torch schedule; training ends after two of four epochs, because nothing improved enough."""


LONG: Final = pytest.mark.long


@pytest.mark.parametrize(
    "place", ["validation 1.1", "trained", pytest.param("stepped 0.3", marks=LONG), pytest.param("epoch 1", marks=LONG)]
)
def test_averaged_weights_and_early_stopping_resume_to_identical_bits(runs: Runs, place: str) -> None:
    whole, places = runs.whole(*AVERAGED)
    assert not any(one.startswith("step 2.") for one in places)
    assert runs.attempt(f"averaged {place}", *AVERAGED, kill=places.index(place) + 1) == KILLED
    assert runs.attempt(f"averaged {place}", *AVERAGED) == 0
    assert runs.differing(f"averaged {place}", whole) == []
    assert runs.attempt(f"ended {place}", *AVERAGED, "--stop-at", place) == 143
    assert runs.attempt(f"ended {place}", *AVERAGED) == 0
    assert runs.differing(f"ended {place}", whole) == []


TUNED: Final = ("--frozen", '["body.*"]', "--learning-rates", '{"head.bias": 0.01}', "--checkpoint-every", "3")


@pytest.mark.parametrize("place", ["stepped 0.3", pytest.param("validation 1.1", marks=LONG)])
def test_a_fine_tuned_net_resumes_to_identical_bits(runs: Runs, place: str) -> None:
    whole, places = runs.whole(*TUNED)
    assert runs.attempt(f"tuned {place}", *TUNED, kill=places.index(place) + 1) == KILLED
    assert runs.attempt(f"tuned {place}", *TUNED) == 0
    assert runs.differing(f"tuned {place}", whole) == []


COMPILED: Final = ("--compile", "--checkpoint-every", "3")


@pytest.mark.long
@pytest.mark.parametrize("place", ["stepped 0.3", "validation 1.1", "trained"])
def test_a_compiled_net_resumes_to_identical_bits(runs: Runs, place: str) -> None:
    whole, _ = runs.whole(*COMPILED)
    assert runs.attempt(f"compiled {place}", *COMPILED, "--stop-at", place) == 143
    assert runs.attempt(f"compiled {place}", *COMPILED) == 0
    assert runs.differing(f"compiled {place}", whole) == []


def test_a_run_that_ends_within_an_epoch_is_validated(runs: Runs) -> None:
    words = ("--max-steps", "9", "--monitor", "none")
    whole, places = runs.whole(*words)
    assert "val_loss" in json.loads((whole / "metrics.json").read_text())
    last = len(places) - places[::-1].index("validation 2.1")
    assert runs.attempt("within", *words, kill=last) == KILLED
    assert runs.attempt("within", *words) == 0
    assert runs.differing("within", whole) == []


def test_a_lost_checkpoint_is_skipped(runs: Runs) -> None:
    whole, places = runs.whole(*OFTEN)
    assert runs.attempt("lost", *OFTEN, kill=places.index("step 1.6") + 1) == KILLED
    folder = runs.last("lost") / "checkpoints"
    pointer = json.loads((folder / "latest.json").read_text())
    (folder / pointer["path"]).write_bytes(b"")
    assert runs.attempt("lost", *OFTEN) == 0
    assert runs.differing("lost", whole) == []


def run_campaign(runs: Runs, name: str, words: tuple[str, ...]) -> tuple[str, list[str]]:
    """Kill a run at each kill point, resume it, and compare it; return the number of points and the differences."""
    whole, places = runs.whole(*words)
    wrong = []
    for number, place in enumerate(places, start=1):
        run = f"{name}{number}"
        killed = runs.attempt(run, *words, kill=number, skip=Skip.until(number, places))
        ended = runs.attempt(run, *words, skip=NONE)
        found = runs.differing(run, whole) if (killed, ended) == (KILLED, 0) else [f"{killed}, {ended}"]
        if found:
            wrong.append(f"{number} ({place}): {found}")
    kinds = sorted({place.split()[0].split(":")[0] for place in places})
    return f"{name}: killed at {len(places)} of {len(places)} places ({', '.join(kinds)}), {len(wrong)} wrong", wrong


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("accumulating", OFTEN),
        ("two workers", ("--workers", "2", "--checkpoint-every", "3", "--max-epochs", "1")),
        ("ending within an epoch", ("--max-steps", "5", "--checkpoint-every", "3", "--monitor", "none")),
    ],
)
def test_a_run_killed_at_every_point_resumes_to_identical_bits(
    tmp_path: Path, name: str, words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert MEMORY.stat().st_dev != tmp_path.stat().st_dev, (
        f"needs a file system at {MEMORY} that is not that of {tmp_path}"
    )
    folder = tmp_path if name == "two workers" else MEMORY / f"reprise-{os.getpid()}"
    runs = Runs(folder)
    try:
        message, wrong = run_campaign(runs, name, words)
        with capfd.disabled():
            sys.stdout.write(f"\n{message}\n")
        assert wrong == []
    finally:
        runs.process.communicate()
        if folder != tmp_path:
            subprocess.run(["rm", "-r", str(folder)], check=True)


@pytest.mark.long
def test_a_run_killed_repeatedly_resumes_to_identical_bits(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    whole, places = runs.whole(*OFTEN)
    kills = 0
    while (code := runs.attempt("again", *OFTEN, kill=30 + kills)) == KILLED:
        kills += 1
        assert kills < len(places)
    with capfd.disabled():
        sys.stdout.write(f"\nkilled again and again: {kills} kills of one run\n")
    assert (code, runs.differing("again", whole)) == (0, [])
