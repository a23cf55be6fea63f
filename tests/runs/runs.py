"""Runs for tests, created in a folder by the package's functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.records import circumstances, ingredients
from trainer.runs.open_run import OpenRun, open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import new_run
from trainer.source.capture import freeze

if TYPE_CHECKING:
    from pathlib import Path


def start_run(runs: Path) -> OpenRun:
    """Open a run with a frozen source."""
    checkout = runs.parent / "checkout"
    if not checkout.is_dir():
        checkout.mkdir(parents=True)
    (checkout / "code.py").write_text("x = 1\n")
    _, folder = new_run(runs)
    bundle = freeze(checkout, folder)
    return open_run(folder, ingredients=ingredients(source=bundle.digest), circumstances=circumstances())


def finish_run(runs: Path, *, status: RunStatus = RunStatus.COMPLETED, accuracy: float = 0.1 + 0.2) -> OpenRun:
    """Create a run with a few files and close it, by default as completed."""
    run = start_run(runs)
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "last.ckpt").write_bytes(b"weights" * 100)
    (run.folder / "metrics.jsonl").write_text('{"step":1}\n')
    run.close(Outcome(status=status, metrics={"test_accuracy": accuracy}, steps=10))
    return run
