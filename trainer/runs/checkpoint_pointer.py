"""Pointers to checkpoints: `latest.json`, `previous.json` and `best.json` in the folder of checkpoints.

A pointer names the file, its digest, the position in the run and the sizes of the logs. This module does not need torch.

`restore_checkpoint` prepares an attempt that resumes a run: it uses the newest checkpoint that matches its digest. Earlier attempts are
never changed, and a pointer to a file outside its attempt is rejected. The new pointer is written last: if the attempt is killed before
that, the next attempt selects the same checkpoint.
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, digest_of_open
from trainer.base.document import Count, Document, parse_json
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.paths import path_fault
from trainer.base.safe_folder import Root, run_root
from trainer.runs.run import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from trainer.base.safe_folder import Root

FOLDER: Final = "checkpoints"
LATEST: Final = "latest.json"
PREVIOUS: Final = "previous.json"
"""The pointer to the checkpoint before the latest one, which is used if the latest is damaged."""
BEST: Final = "best.json"
PICKLE: Final = b"PK"
"""The first bytes of a checkpoint written by a version before 0.1.0: `torch.save` writes a ZIP archive that contains a pickle."""


def is_pickle(file: BinaryIO) -> bool:
    """Return whether a version before 0.1.0 wrote the checkpoint."""
    file.seek(0)
    begin = file.read(len(PICKLE))
    file.seek(0)
    return begin == PICKLE


def has_pickle(attempt: Root) -> bool:
    """Return whether an attempt has a checkpoint that a version before 0.1.0 wrote."""
    with suppress(FileNotFoundError), attempt.below(FOLDER) as folder:
        for name in folder.names():
            if folder.has_file(name):
                with folder.open(name) as file:
                    if is_pickle(file):
                        return True
    return False


class NextStage(StrEnum):
    """The stage that follows a checkpoint."""

    BATCH = "batch"
    """Another batch of the epoch."""
    VALIDATION = "validation"
    """The validation that is due after the epoch's last batch."""
    EPOCH = "epoch"
    """The first batch of an epoch."""
    END = "end"
    """The test, after training."""


class Checkpoint(Document):
    """The file of a checkpoint."""

    path: str
    """The file's name in the folder of checkpoints."""
    sha256: Digest
    step: Count


class Saved(Checkpoint):
    """A checkpoint with its position in the run, its logs and the best checkpoint."""

    epoch: Count
    batch: Count
    """The number of batches of the epoch that were processed."""
    stage: NextStage = NextStage.BATCH
    logs: dict[str, Count] = {}
    """The size in bytes of each log when the checkpoint was saved."""
    best: Checkpoint | None = None
    """The best checkpoint so far if a metric is monitored; it may be this checkpoint."""

    def fault_of_pointer(self) -> str | None:
        """Return why the pointer is invalid, for example a path outside the folder; `None` if it is valid.

        >>> Saved(path="a.ckpt", sha256=f"sha256:{64 * '0'}", step=1, epoch=0, batch=1, logs={"../x": 3}).fault_of_pointer()
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
        """Return the bytes of the pointer's file."""
        return self.model_dump_json().encode() + b"\n"


_BLOCK = 1 << 20
_LARGEST = 1 << 20
"""The maximum size of a pointer in bytes."""
_LOGS: Final = ("metrics.jsonl", "trace.jsonl")


def restore_checkpoint(
    attempt: Path,
    *,
    say: Callable[[str], None],
    unfit: Mapping[str, str] = MappingProxyType({}),
    passed: Collection[int] = (),
) -> Saved | None:
    """Prepare `attempt`, the newest of its run, to resume from the newest usable checkpoint; return `None` if no checkpoint is usable.

    `unfit` maps the digest of each checkpoint that could not be restored to the reason. Attempts in `passed` are ignored. `say` reports
    each skipped checkpoint. Raise `UnsafePathError` if a file is a link, `DigestMismatchError` if a pointer is invalid, `DiskFullError` or
    `NotWritableError` if the files cannot be written.
    """
    with disk_faults(attempt), run_root(attempt.parents[1]) as run:
        with run.below(f"{ATTEMPTS}/{attempt.name}") as current:
            _clear(current)
        for number in range(int(attempt.name) - 1, 0, -1):
            if number in passed or run.stat(f"{ATTEMPTS}/{number}") is None:
                continue
            with run.below(f"{ATTEMPTS}/{number}") as earlier:
                for saved in _usable(earlier, say, unfit):
                    with run.below(f"{ATTEMPTS}/{attempt.name}") as current:
                        return _prepare(earlier, current, saved)
    return None


def _clear(attempt: Root) -> None:
    """Remove the files of an earlier preparation, whose checkpoint could not be restored."""
    if attempt.stat(FOLDER) is not None:
        attempt.remove_tree(FOLDER)
    for name in _LOGS:
        attempt.unlink(name, missing_ok=True)


def _usable(earlier: Root, say: Callable[[str], None], unfit: Mapping[str, str]) -> Iterator[Saved]:
    """Yield the usable checkpoints of an attempt, newest first."""
    for name in (LATEST, PREVIOUS):
        if earlier.stat(f"{FOLDER}/{name}") is None:
            continue
        try:
            saved = _pointer(earlier, name)
            reason = unfit.get(saved.sha256) or _checkpoint_fault(earlier, saved)
        except (OSError, DocumentError) as error:
            reason = str(error)
        else:
            if reason is None:
                yield saved
                continue
        say(f"skipped: {reason}")


def _pointer(earlier: Root, name: str) -> Saved:
    path = str(earlier.path / FOLDER / name)
    saved = parse_json(earlier.read(f"{FOLDER}/{name}", most=_LARGEST), Saved, where=path)
    if fault := saved.fault_of_pointer():
        raise DigestMismatchError(
            f"{path} is not a pointer written by a training run: {fault}", hint="do not resume this run"
        )
    return saved


def _checkpoint_fault(earlier: Root, saved: Saved) -> str | None:
    """Return why a checkpoint cannot be used; `None` if it can."""
    for checkpoint in (saved, saved.best) if saved.best else (saved,):
        with earlier.open(f"{FOLDER}/{checkpoint.path}") as file:
            digest = digest_of_open(file)
        if digest != checkpoint.sha256:
            return f"{earlier.path / FOLDER / checkpoint.path}: expected {checkpoint.sha256[:19]}, found {digest[:19]}"
    for log, size in saved.logs.items():
        with earlier.open(log) as file:
            if os.fstat(file.fileno()).st_size < size:
                return f"{earlier.path / log} is shorter than when checkpoint {saved.path} was saved"
    return None


def _prepare(earlier: Root, attempt: Root, saved: Saved) -> Saved:
    for log, size in saved.logs.items():
        _copy(earlier, attempt, log, size)
    with attempt.below(FOLDER, make=True) as folder:
        for part in {part.path for part in (saved, saved.best) if part}:
            _link_or_copy(earlier, folder, part)
        if saved.best:
            folder.write_whole(BEST, saved.best.model_dump_json().encode() + b"\n")
        folder.write_whole(LATEST, saved.to_json())
    return saved


def _copy(earlier: Root, attempt: Root, log: str, size: int | None = None) -> None:
    """Copy the first `size` bytes of a file, or the whole file if `size` is `None`."""
    with earlier.open(log) as source, attempt.create(log, make=True) as target:
        while block := source.read(_BLOCK if size is None else min(size, _BLOCK)):
            target.write(block)
            size = None if size is None else size - len(block)
        target.flush()
        os.fsync(target.fileno())


def _link_or_copy(earlier: Root, folder: Root, name: str) -> None:
    """Create a hard link to a checkpoint in the new attempt; copy the file if linking fails."""
    with suppress(OSError):
        earlier.link(f"{FOLDER}/{name}", name, to=folder)
        return
    with earlier.below(FOLDER) as checkpoints:
        _copy(checkpoints, folder, name)
