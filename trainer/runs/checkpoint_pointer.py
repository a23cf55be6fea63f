"""Pointers to checkpoints: `latest.json`, `previous.json` and `best.json` in the folder of checkpoints.

A pointer names the file, its digest, the position in the run and the sizes of the logs. Reading it needs no torch.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.digest import Digest
from trainer.base.document import Count, Document
from trainer.base.paths import path_fault

if TYPE_CHECKING:
    from trainer.base.safe_folder import Root

FOLDER: Final = "checkpoints"
LATEST: Final = "latest.json"
PREVIOUS: Final = "previous.json"
"""The checkpoint before the latest, used if the latest is damaged."""
BEST: Final = "best.json"
PICKLE: Final = b"PK"
"""The first bytes of a checkpoint of a version before 1.0: torch.save writes a ZIP archive that holds a pickle."""


def is_pickle(file: BinaryIO) -> bool:
    """Return whether a checkpoint is of a version before 1.0."""
    file.seek(0)
    begin = file.read(len(PICKLE))
    file.seek(0)
    return begin == PICKLE


def has_pickle(attempt: Root) -> bool:
    """Return whether an attempt has a checkpoint of a version before 1.0."""
    with suppress(FileNotFoundError), attempt.below(FOLDER) as folder:
        for name in folder.names():
            if folder.has_file(name):
                with folder.open(name) as file:
                    if is_pickle(file):
                        return True
    return False


class NextStage(StrEnum):
    """What follows a checkpoint."""

    BATCH = "batch"
    """Another batch of the epoch."""
    VALIDATION = "validation"
    """The validation that is due after the epoch's last batch."""
    EPOCH = "epoch"
    """The first batch of an epoch."""
    END = "end"
    """The test, after the training."""


class Checkpoint(Document):
    """A checkpoint's file."""

    path: str
    """The file's name in the folder of checkpoints."""
    sha256: Digest
    step: Count


class Saved(Checkpoint):
    """A checkpoint with its position in the run, its logs and the best checkpoint."""

    epoch: Count
    batch: Count
    """Batches of the epoch that were processed."""
    stage: NextStage = NextStage.BATCH
    logs: dict[str, Count] = {}
    """The size in bytes of each log when the checkpoint was saved."""
    best: Checkpoint | None = None
    """The best checkpoint so far if a metric is monitored; it may be this checkpoint."""

    def strange(self) -> str | None:
        """Return why no training wrote this pointer, such as a name outside the folder; `None` if it is valid.

        >>> Saved(path="a.ckpt", sha256=f"sha256:{64 * '0'}", step=1, epoch=0, batch=1, logs={"../x": 3}).strange()
        "log '../x': a part is '..'"
        """
        for checkpoint in (self, self.best) if self.best else (self,):
            if fault := path_fault(checkpoint.path) or ("a slash" if "/" in checkpoint.path else None):
                return f"checkpoint {checkpoint.path!a}: {fault}"
        for log in self.logs:
            if fault := path_fault(log):
                return f"log {log!a}: {fault}"
            if log.endswith(".json") or log.startswith(f"{FOLDER}/"):
                return f"log {log!a}: the name of another file"
        return None

    def to_json(self) -> bytes:
        """Return the file's bytes."""
        return self.model_dump_json().encode() + b"\n"
