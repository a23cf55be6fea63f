"""`reprise sweep` is killed and continued, and no point is trained twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainer.runs.record import RunStatus
from trainer.runs.run import attempts, record_of

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
GRID = ("dots.py", "--learning-rate", "0.01,0.02", "--max-epochs", "12", "--checkpoint-every", "5", "--no-publish")


def sweep_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "trainer", "sweep", *words]


def run_sweep(checkout: Checkout, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        sweep_command(*words), cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False
    )


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_killed_sweep_continues_from_its_frozen_source(checkout: Checkout) -> None:
    process = subprocess.Popen(
        sweep_command(*GRID), cwd=checkout.root, env=checkout.environ, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if "[2/2]   epoch 2/" in line:
            (point,) = children(process.pid)
            process.kill()
            os.kill(point, signal.SIGKILL)
            break
    process.communicate()
    experiment = checkout.root / "dots.py"
    text = experiment.read_text()
    experiment.write_text("raise SystemExit('the checkout was edited')")
    try:
        done = run_sweep(checkout, "--continue", "latest", "--json")
    finally:
        experiment.write_text(text)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 points to train" in done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    first, second = (checkout.root / "runs" / point["run"] for point in document["points"])
    assert (attempts(first), attempts(second)) == ([1], [1, 2])
    assert [record_of(run).outcome.status for run in (first, second)] == [RunStatus.COMPLETED] * 2
    assert record_of(first).ingredients.source == record_of(second).ingredients.source == document["source"]
    assert Path(document["plot"]).read_text().startswith("<?xml")
    again = run_sweep(checkout, *GRID, "--json")
    assert (again.returncode, json.loads(again.stdout)["points"]) == (0, document["points"])
    other = run_sweep(checkout, *GRID[:2], "0.02,0.01", *GRID[3:], "--json")
    assert other.stderr.count("already exists") == 2
    assert [point["run"] for point in json.loads(other.stdout)["points"]] == [second.name, first.name]


@pytest.mark.long
def test_a_point_that_fails_stops_no_other(checkout: Checkout) -> None:
    done = run_sweep(
        checkout, "dots.py", "--breaks", "true,false", "--max-steps", "2", "--no-publish", "--json", "--jobs", "2"
    )
    assert done.returncode == 80, done.stderr
    assert [point["status"] for point in json.loads(done.stdout)["points"]] == ["failed", "finished"]
    assert "1 of 2 points" in done.stderr
