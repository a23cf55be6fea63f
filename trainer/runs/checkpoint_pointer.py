"""What a checkpoint's pointer says: which file, which bytes, which place in the run, and how far the logs went.

Knows the files `latest.json`, `previous.json` and `best.json` beside the checkpoints. Refuses to know what a checkpoint holds: whoever
only looks for one needs no torch.
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
"""The one before the latest: where a disk lost the latest, a run goes on from here."""
BEST: Final = "best.json"


PICKLE: Final = b"PK"
"""How a checkpoint of a version before 1.0 begins: torch.save writes a ZIP archive with a pickle in it."""


def is_pickle(file: BinaryIO) -> bool:
    """Tell whether a checkpoint is of a version before 1.0."""
    file.seek(0)
    begin = file.read(len(PICKLE))
    file.seek(0)
    return begin == PICKLE


def has_pickle(attempt: Root) -> bool:
    """Whether one of the checkpoints of an attempt is of a version before 1.0."""
    with suppress(FileNotFoundError), attempt.below(FOLDER) as folder:
        for name in folder.names():
            if folder.has_file(name):
                with folder.open(name) as file:
                    if is_pickle(file):
                        return True
    return False


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

    def strange(self) -> str | None:
        """What of it no training writes: a name that leaves the folder, a name of another file. None if all is well.

        >>> Saved(path="a.ckpt", sha256=f"sha256:{64 * '0'}", step=1, epoch=0, batch=1, logs={"../x": 3}).strange()
        "log '../x': a part is '..'"
        """
        for part in (self, self.best) if self.best else (self,):
            if fault := path_fault(part.path) or ("a slash" if "/" in part.path else None):
                return f"checkpoint {part.path!a}: {fault}"
        for log in self.logs:
            if fault := path_fault(log):
                return f"log {log!a}: {fault}"
            if log.endswith(".json") or log.startswith(f"{FOLDER}/"):
                return f"log {log!a}: the name of another file"
        return None

    def to_json(self) -> bytes:
        """Write the pointer."""
        return self.model_dump_json().encode() + b"\n"
