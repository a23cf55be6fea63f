"""Strangers' code in a shared store does not run without consent; the tests need no container engine."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.training.test_stopped_runs import RESULTS, WORDS, interrupt_training
from trainer.base.digest import digest_of_file
from trainer.base.errors import DotenvError
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.register import is_own
from trainer.runs.run import record_of
from trainer.stores import open_store

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]


@pytest.fixture(scope="module")
def stranger_run(stranger: Checkout) -> str:
    """Return the ID of a run that the stranger stopped and published."""
    return interrupt_training(stranger, signal.SIGTERM).name


@pytest.fixture(scope="module")
def own_stopped_run(checkout: Checkout) -> tuple[Path, Path]:
    """Return the folder of a run that the victim stopped and published, and a copy of the folder."""
    run = interrupt_training(checkout, signal.SIGTERM)
    shutil.copytree(run, kept := checkout.root.parent / "mine")
    return run, kept


@pytest.fixture
def run(own_stopped_run: tuple[Path, Path]) -> Path:
    """Restore the folder of the victim's run, which another test may have changed."""
    run, kept = own_stopped_run
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(kept, run)
    return run


def run_reprise(checkout: Checkout, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer", *words],
        cwd=cwd or checkout.root,
        env=checkout.environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("pulled", [True, False])
def test_an_untrusted_run_is_not_resumed(checkout: Checkout, stranger_run: str, stolen: Path, *, pulled: bool) -> None:
    shutil.rmtree(checkout.root / "runs" / stranger_run, ignore_errors=True)
    if pulled:
        assert run_reprise(checkout, "runs", "pull", stranger_run).returncode == 0
    done = checkout.reprise("train", "--resume", stranger_run)
    assert done.returncode == 85, done.stderr
    assert "from another user or machine" in done.stderr
    assert "+        pathlib.Path(_name).write_text" in done.stderr
    assert f"train --resume {stranger_run} --trust" in done.stderr
    assert not stolen.exists()
    assert not (checkout.root / "runs" / stranger_run / "source").exists()


def test_a_trusted_run_still_needs_an_isolated_container(checkout: Checkout, stranger_run: str, stolen: Path) -> None:
    done = checkout.reprise("train", "--resume", stranger_run, "--trust")
    assert done.returncode == DotenvError.code, done.stderr
    assert not stolen.exists()


def test_a_run_with_full_access_needs_its_own_grant_and_stays_untrusted(
    checkout: Checkout, stranger_run: str, stolen: Path
) -> None:
    done = checkout.reprise("train", "--resume", stranger_run, "--trust", "--grant", "machine", "--no-publish")
    assert done.returncode == 0, done.stderr
    assert stolen.exists()
    runs = checkout.root / "runs"
    assert not is_own(runs / stranger_run / "attempts/2", runs=runs, users={os.getuid()})
    shutil.rmtree(runs / stranger_run)


@pytest.mark.parametrize("words", [("reproduce",), ("reproduce", "--trust", "--no-container"), ("why",)])
def test_reproduce_and_why_need_trust_too(
    checkout: Checkout, stranger_run: str, run: Path, stolen: Path, words: tuple[str, ...]
) -> None:
    verb, *rest = words
    subjects = [stranger_run, run.name] if verb == "why" else [stranger_run]
    here = [] if "--no-container" in rest else ["--no-container"]
    path = checkout.root / "runs" / stranger_run
    if not path.exists():
        assert run_reprise(checkout, "runs", "pull", stranger_run).returncode == 0
    closed = path / "attempts/1/record.json"
    closed.write_text(closed.read_text().replace('"preempted"', '"completed"'))
    (path / "attempts/1/published.json").unlink()  # otherwise the command would report the edit
    done = run_reprise(checkout, verb, *subjects, *rest, *here)
    shutil.rmtree(path)
    assert done.returncode == 85, done.stderr
    assert not stolen.exists()


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "harm")


def sealed_by_a_stranger(checkout: Checkout, run: Path, harm: Path, aside: Path) -> None:
    """Publish attempt 2 of the victim's run, with a pickle as its checkpoint and with other settings."""
    home = aside / run.name
    shutil.copytree(run, home)
    record = record_of(home)
    around = record.circumstances.model_copy(update={"changed": ["setting learning_rate: 0.02 -> 99.0"]})
    second = open_run(home, ingredients=record.ingredients, circumstances=around)
    folder = second.folder / "checkpoints"
    shutil.copytree(home / "attempts/1/checkpoints", folder)
    pointer = json.loads((folder / "latest.json").read_bytes())
    path = folder / "step-000000450.ckpt"
    path.write_bytes(b"PK" + pickle.dumps(Harm(harm)))
    pointer |= {"path": path.name, "sha256": digest_of_file(path), "logs": {}}
    (folder / "latest.json").write_text(json.dumps(pointer))
    second.close(Outcome(status=RunStatus.PREEMPTED))
    publish_run(home, open_store(str(checkout.store)))


@pytest.fixture(scope="module")
def uninterrupted_attempt(checkout: Checkout) -> Path:
    assert checkout.train(*WORDS)[0] == 0
    return checkout.last()[0]


@pytest.mark.parametrize("trusted", [(), ("--trust",)])
def test_an_attempt_added_by_another_user_is_skipped(
    checkout: Checkout, run: Path, uninterrupted_attempt: Path, stolen: Path, tmp_path: Path, trusted: tuple[str, ...]
) -> None:
    if not (checkout.store / "runs" / run.name / "attempts/2").exists():
        sealed_by_a_stranger(checkout, run, stolen, tmp_path)
    pulled = run_reprise(checkout, "runs", "pull", run.name)
    assert pulled.returncode == 0, pulled.stderr
    assert (run / "attempts/2").is_dir()
    done = checkout.reprise("train", "--resume", run.name, "--no-publish", *trusted)
    assert done.returncode == 0, done.stderr
    assert "skipped: attempt 2, from another user or machine" in done.stderr
    assert not stolen.exists()
    assert record_of(run).circumstances.changed == []
    for name in RESULTS:
        assert (run / "attempts/3" / name).read_bytes() == (uninterrupted_attempt / name).read_bytes(), name


def test_a_run_of_equal_code_is_resumed_after_trust(checkout: Checkout, run: Path) -> None:
    shutil.rmtree(checkout.store / "runs" / run.name, ignore_errors=True)  # it may have an attempt from another test
    register = next((checkout.root / "runs").glob(".own-*"))
    register.rename(aside := register.with_name(".aside"))
    try:
        result = checkout.reprise("train", "--resume", run.name, "--no-publish")
        trusted = checkout.reprise("train", "--resume", run.name, "--no-publish", "--trust")
    finally:
        shutil.rmtree(register)
        aside.rename(register)
    assert result.returncode == 85, result.stderr
    assert "its code is identical to this checkout's" in result.stderr
    assert trusted.returncode == 0, trusted.stderr
    assert "resuming from step" in trusted.stderr
