"""Simulated machines that share a store. Each has its own folder of runs, and uses the package's functions to take part in a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.records import circumstances, ingredients
from trainer.base.digest import digest_of_bytes
from trainer.runs.checkpoint_pointer import FOLDER, LATEST, Checkpoint, Saved, restore_checkpoint
from trainer.runs.claims import claim_in_store, hold_claimed_numbers
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_later, pull_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.resume import require_resumable
from trainer.runs.run import attempts, new_run, pulled_snapshots, recorded_attempts
from trainer.runs.snapshot import OpenCheckpoint, publish_snapshot
from trainer.source.capture import freeze

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.open_run import OpenRun
    from trainer.runs.record import Ingredients
    from trainer.runs.seal import Snapshot
    from trainer.stores.contract import Store


def weights(step: int) -> bytes:
    """Return the weights of a deterministic training after `step` steps; each step depends on the previous step."""
    value = b"begin"
    for _ in range(step):
        value = hashlib.sha256(value).digest()
    return value * 40


@dataclass(slots=True, kw_only=True)
class Machine:
    """A machine with a folder of runs and an attempt of one run."""

    name: str
    runs: Path
    store: Store
    run: str = ""
    opened: OpenRun | None = None
    step: int = 0

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        return self.runs / self.run

    @property
    def attempt(self) -> OpenRun:
        """The attempt in progress."""
        assert self.opened is not None
        return self.opened

    def begin(self) -> str:
        """Open attempt 1 of a new run and claim it."""
        checkout = self.runs.parent / "checkout"
        checkout.mkdir(parents=True)
        (checkout / "code.py").write_text("x = 1\n")
        self.run, folder = new_run(self.runs)
        self.opened = self._open(ingredients(source=freeze(checkout, folder).digest))
        claim_in_store(self.folder, self.store, attempt=1)
        return self.run

    def _open(self, inputs: Ingredients) -> OpenRun:
        around = circumstances()
        host = around.host.model_copy(update={"name": self.name})
        return open_run(self.folder, ingredients=inputs, circumstances=around.model_copy(update={"host": host}))

    def take_over(self, run: str, *, after_hold: object = None) -> int:
        """Resume a run from the store as the next attempt; return the step from which it is resumed.

        Raise `ClaimedError` if another machine takes the number between probing and claiming.
        """
        self.run = run
        if self.numbers():
            pull_later(self.folder, self.store)
        else:
            pull_run(run, self.store, runs=self.runs)
        record = require_resumable(self.folder, host=self.name)
        hold_claimed_numbers(self.folder, self.store, identity=record.identity)
        if callable(after_hold):
            after_hold()
        opened = self._open(record.ingredients)
        try:
            claim_in_store(self.folder, self.store, attempt=opened.record.attempt)
        except BaseException:
            opened.withdraw()
            raise
        saved = restore_checkpoint(opened.folder, say=lambda _: None)
        self.opened, self.step = opened, saved.step if saved else 0
        assert saved is None or (opened.folder / FOLDER / saved.path).read_bytes() == weights(saved.step)
        return self.step

    def train(self, steps: int) -> Saved:
        """Take steps, write a log line for each step, and save a checkpoint."""
        folder = self.attempt.folder
        (folder / FOLDER).mkdir(exist_ok=True)
        with (folder / "metrics.jsonl").open("ab") as log:
            for step in range(self.step + 1, self.step + steps + 1):
                log.write(b'{"step":%d}\n' % step)
        self.step += steps
        text, name = weights(self.step), f"step-{self.step:09d}.safetensors"
        (folder / FOLDER / name).write_bytes(text)
        point = Checkpoint(path=name, sha256=digest_of_bytes(text), step=self.step)
        logs = {"metrics.jsonl": (folder / "metrics.jsonl").stat().st_size}
        saved = Saved(**point.model_dump(), epoch=0, batch=self.step, logs=logs)
        (folder / FOLDER / LATEST).write_bytes(saved.to_json())
        return saved

    def snapshot(self, saved: Saved) -> Snapshot:
        """Publish the checkpoint that was just saved."""
        checkpoint = OpenCheckpoint.of(self.attempt.folder, saved)
        try:
            return publish_snapshot(checkpoint, self.store)
        finally:
            checkpoint.close()

    def finish(self, status: RunStatus = RunStatus.COMPLETED) -> list[int]:
        """Close the attempt, publish the run, and return the numbers of the sealed attempts."""
        self.attempt.close(Outcome(status=status, steps=self.step))
        publish_run(self.folder, self.store)
        return [number for number in recorded_attempts(self.folder) if number not in pulled_snapshots(self.folder)]

    def numbers(self) -> list[int]:
        """Return the numbers of the attempts in the run's folder."""
        return attempts(self.folder)
