"""Damaged checkpoints: a resumed run falls back to the previous checkpoint or to step 0, and never exits with code 1."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.training.test_stopped_runs import RESULTS, WORDS, interrupt_training
from trainer.base.digest import digest_of_file
from trainer.training.resuming.checkpoint_file import read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]


@pytest.fixture(scope="module")
def stopped_run(checkout: Checkout) -> tuple[Path, Path]:
    """Return a run that was stopped in its second epoch, and a copy of its folder."""
    run = interrupt_training(checkout, signal.SIGTERM, "--no-publish")
    shutil.copytree(run, kept := checkout.root.parent / "kept")
    return run, kept


@pytest.fixture
def run(stopped_run: tuple[Path, Path]) -> Path:
    """Restore the folder of the stopped run, which another test may have changed."""
    run, kept = stopped_run
    shutil.rmtree(run)
    shutil.copytree(kept, run)
    return run


@pytest.fixture(scope="module")
def uninterrupted_attempt(checkout: Checkout) -> Path:
    assert checkout.train(*WORDS)[0] == 0
    return checkout.last()[0]


def change_checkpoint(run: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the checkpoint that a pointer names, and update the digest in the pointer."""
    pointer = run / "attempts/1/checkpoints" / name
    document = json.loads(pointer.read_bytes())
    path = pointer.with_name(document["path"])
    checkpoint = read_checkpoint(path)
    change(checkpoint)
    with path.open("wb") as file:
        write_checkpoint(file, checkpoint)
    document["sha256"] = digest_of_file(path)
    if document.get("best") and document["best"]["path"] == document["path"]:
        document["best"]["sha256"] = document["sha256"]
    pointer.write_text(json.dumps(document))


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a missing key": (
        lambda found: found.pop("pytorch-lightning_version"),
        "key 'pytorch-lightning_version' is missing",
    ),
    "nothing of the place": (lambda found: found["reprise"].pop("stage"), "key 'stage' is missing"),
    "no loops": (lambda found: found.update(loops={}), "KeyError: 'fit_loop'"),
    "another type": (lambda found: found.update(optimizer_states={}), "optimizer_states has type dict; expected list"),
    "another shape": (
        lambda found: found["state_dict"].update({"layers.4.bias": found["state_dict"]["layers.0.bias"]}),
        "size mismatch for layers.4.bias",
    ),
    "another optimizer": (
        lambda found: found["optimizer_states"][0]["param_groups"].pop(),
        "different number of parameter groups",
    ),
    "another run's": (
        lambda found: found["reprise"].update(run="20200101t000000-aaaaaa"),
        "belongs to run '20200101t000000-aaaaaa'; expected run ",
    ),
    "no averages": (lambda found: found["reprise"].update(averages={}), "KeyError: 'logged'"),
}


QUICK = {"a missing key", "another shape", "another run's"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in WRONG]
)
def test_a_checkpoint_with_an_invalid_schema_is_skipped(
    checkout: Checkout, run: Path, uninterrupted_attempt: Path, name: str
) -> None:
    change, message = WRONG[name]
    change_checkpoint(run, "latest.json", change)
    done = checkout.reprise("train", "--resume", run.name)
    assert done.returncode == 0, done.stderr
    assert "skipped: checkpoint " in done.stderr
    assert message in done.stderr
    assert done.stderr.count("resuming from step") == 2
    for file in RESULTS:
        assert (run / "attempts/2" / file).read_bytes() == (uninterrupted_attempt / file).read_bytes(), file


def test_a_run_without_a_usable_checkpoint_is_reported(
    checkout: Checkout, run: Path, uninterrupted_attempt: Path
) -> None:
    for name in ("latest.json", "previous.json"):
        change_checkpoint(run, name, lambda found: found.pop("state_dict"))
    done = checkout.reprise("train", "--resume", run.name)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("skipped: ") == 2
    assert "no checkpoint can be used: starting from step 0" in done.stderr
    for file in RESULTS:
        assert (run / "attempts/2" / file).read_bytes() == (uninterrupted_attempt / file).read_bytes(), file


def test_an_unusable_best_checkpoint_is_detected_before_training(checkout: Checkout, run: Path) -> None:
    latest = run / "attempts/1/checkpoints/latest.json"
    document = json.loads(latest.read_bytes())
    best = latest.with_name("step-000000001.safetensors")
    with best.open("wb") as file:
        write_checkpoint(file, {"state_dict": {}})
    document["best"] = {"path": best.name, "sha256": digest_of_file(best), "step": 1}
    latest.write_text(json.dumps(document))
    done = checkout.reprise("train", "--resume", run.name)
    assert done.returncode == 0, done.stderr
    assert "skipped: checkpoint" in done.stderr
    assert "key 'epoch' is missing" in done.stderr
