"""What a checkpoint's pointer says: which file, which bytes, which place in the run, and how far the logs went.

Knows the files `latest.json`, `previous.json` and `best.json` beside the checkpoints. Refuses to know what a checkpoint holds: whoever
only looks for one needs no torch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from trainer.digest import Digest
from trainer.document import Count, Document

FOLDER: Final = "checkpoints"
LATEST: Final = "latest.json"
PREVIOUS: Final = "previous.json"
"""The one before the latest: where a disk lost the latest, a run goes on from here."""
BEST: Final = "best.json"


class Stage(StrEnum):
    """What is next where a checkpoint was made."""

    BATCH = "batch"
    """Another batch of the epoch."""
    VALIDATION = "validation"
    """The validation that is due after the epoch's last batch."""
    EPOCH = "epoch"
    """The first batch of an epoch."""
    END = "end"
    """Nothing of the training: the test."""


class Checkpoint(Document):
    """A checkpoint's file."""

    path: str
    """Its name in the folder."""
    sha256: Digest
    step: Count


class Saved(Checkpoint):
    """A checkpoint, its place in the run, and what belongs to it."""

    epoch: Count
    batch: Count
    """Batches of the epoch that were seen."""
    stage: Stage = Stage.BATCH
    logs: dict[str, Count] = {}
    """Bytes that each log had: what came after them was not yet true."""
    best: Checkpoint | None = None
    """The best checkpoint so far, where something is monitored; another file than this one, or this one itself."""

    def to_json(self) -> bytes:
        """Write the pointer."""
        return self.model_dump_json().encode() + b"\n"
