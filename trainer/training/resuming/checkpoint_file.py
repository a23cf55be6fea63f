"""The checkpoint file: one safetensors file whose metadata holds all other values. Format: docs/reference/formats/checkpoint.md.

Reading a checkpoint runs no code: the file contains no pickle. `_SCHEMA` and `_POSITION` list the values that resuming and serving need.
"""

from __future__ import annotations

import json
import mmap
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.json_faults import json_fault
from trainer.base.run_files import folder_of, open_run_file
from trainer.base.suggestions import type_with_article
from trainer.base.tensor_file import read_parts
from trainer.runs.checkpoint_pointer import NextStage, is_pickle
from trainer.training.atomic_write import replacing
from trainer.training.resuming.checkpoint_tree import NATIVE, pack, unpack
from trainer.training.tensor_file import write_tensor_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import lightning as L
    from torch import Tensor

FORMAT: Final = "reprise.checkpoint/1"
_LARGE: Final = 2**20
"""The size of the smallest tensor in bytes that is read when it is used."""
_BULK: Final = ("state_dict/", "optimizer_states/")
"""The parts of a checkpoint whose tensors are copied when they are loaded."""
_PRIVATE: Final = mmap.MAP_PRIVATE | 0x4000
"""A private mapping (`MAP_NORESERVE`, without a name before Python 3.13): a file may be larger than the machine's memory."""
_DTYPES: Final = {name: dtype for dtype, name in NATIVE.items()}
_SCHEMA: Final = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "reprise": dict,
}
"""The keys that Lightning reads from a checkpoint, and the key that `Checkpoints` adds."""
_POSITION: Final = {
    "run": str,
    "step": int,
    "epoch": int,
    "batch": int,
    "stage": NextStage,
    "results": dict,
    "best_value": float,
    "averages": dict,
}


def write_checkpoint(file: IO[bytes] | None, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint. If it has distributed tensors, every rank must call this function: rank 0 with the file, the others with None.

    Raise `ExperimentFailedError` if the format cannot store a value, `OSError` if writing fails, and `RankError` if an exchange fails.
    """
    packed = pack(dict(checkpoint))
    tree = json.dumps(packed.tree, allow_nan=False, separators=(",", ":"))
    ordered = sorted(packed.tensors.items(), key=lambda item: -item[1].element_size())
    write_tensor_file(file, dict(ordered), metadata={"format": FORMAT, "tree": tree})


def read_checkpoint(path: Path, *, is_mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint into CPU memory, as `read_open_checkpoint` does. Raise `DocumentError` if the file is not a valid checkpoint."""
    with open_run_file(path) as file:
        return read_open_checkpoint(file, path, is_mapped=is_mapped)


def read_open_checkpoint(file: BinaryIO, path: Path, *, is_mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint from an open file; messages contain `path`. Raise `DocumentError` if the file is not a valid checkpoint.

    If `is_mapped`, the bytes of large weights and optimizer states are read from the file when they are used. A change to such a tensor
    does not change the file. The file keeps its space on the disk until these tensors are freed: copy those that are needed for long.
    """
    if is_pickle(file):
        message = f"{path} is a pickle, as checkpoints were before version 1.0; pickles are not supported"
        raise DocumentError(message, hint="start a new run")
    entries, metadata = read_parts(file, path)
    if metadata.get("format") != FORMAT:
        message = f"{path} has the format {metadata.get('format')!a}; expected {FORMAT!a}"
        raise DocumentError(message, hint="use another checkpoint, or the version of Reprise that wrote this one")
    mapping = _map(file) if is_mapped else None
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            message = f"{path}: tensor {name!a} has dtype {entry.dtype}, which is not supported"
            raise DocumentError(message, hint="use another checkpoint")
        size = entry.stop - entry.start
        # bytes may be viewed as another dtype
        is_aligned = entry.start % (8 if dtype is torch.uint8 else dtype.itemsize) == 0
        if mapping is not None and name.startswith(_BULK) and size >= _LARGE and is_aligned:
            data = torch.frombuffer(mapping, dtype=torch.uint8, count=size, offset=entry.start)
        else:
            data = torch.empty(size, dtype=torch.uint8)
            file.seek(entry.start)
            file.readinto(data.numpy().data)  # type: ignore[attr-defined]
        tensors[name] = data.view(dtype).reshape(entry.shape)
    try:
        tree = json.loads(metadata.get("tree", ""))
    except RecursionError as fault:
        raise DocumentError(f"{path}: its tree has too many nested brackets", hint="use another checkpoint") from fault
    except ValueError as fault:
        message = f"{path}: its tree is not valid JSON: {json_fault(fault)}"
        raise DocumentError(message, hint="use another checkpoint") from fault
    found = unpack(tree, tensors, where=str(path))
    if not isinstance(found, dict):
        raise DocumentError(f"{path} holds {type_with_article(found)}; expected a dict", hint="use another checkpoint")
    return found


def _map(file: BinaryIO) -> mmap.mmap | None:
    """Map a file into memory; return None if its file system cannot."""
    with suppress(OSError):
        return mmap.mmap(file.fileno(), 0, flags=_PRIVATE)
    return None


class WholeCheckpointIO(CheckpointIO):
    """A checkpoint plugin for Lightning that replaces files atomically."""

    def __init__(self, read: Callable[[Path], dict[str, Any]] = read_checkpoint) -> None:
        self._read = read

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        del storage_options
        with replacing(Path(path)) as file:
            write_checkpoint(file, checkpoint)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,  # noqa: FBT001 - Lightning's signature
    ) -> dict[str, Any]:
        """Read a checkpoint of this run into CPU memory. Reading runs no code, so `weights_only` is ignored."""
        del map_location, weights_only
        return self._read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        path = Path(path)
        with folder_of(path) as folder:
            folder.unlink(path.name, missing_ok=True)


def require_whole(checkpoint: Mapping[str, Any], *, run: str) -> None:
    """Raise `DocumentError` if a checkpoint lacks a value needed for resuming, and `DigestMismatchError` if it belongs to another run."""
    _require_types(checkpoint, _SCHEMA, where="the checkpoint")
    _require_types(checkpoint["reprise"], _POSITION, where="the checkpoint, reprise")
    if (found := checkpoint["reprise"]["run"]) != run:
        raise DigestMismatchError(
            f"the checkpoint belongs to run {found!a}; expected run {run}", hint="pull the run again"
        )


def _require_types(found: Mapping[str, Any], expected: Mapping[str, type], *, where: str) -> None:
    for key, kind in expected.items():
        if key not in found:
            raise DocumentError(f"{where}: key {key!r} is missing", hint="use another checkpoint")
        if not isinstance(found[key], kind):
            message = f"{where}: {key} has type {type(found[key]).__name__}; expected {kind.__name__}"
            raise DocumentError(message, hint="use another checkpoint")


def require_servable(checkpoint: Mapping[str, Any], net: L.LightningModule, *, run: str) -> None:
    """Raise `DocumentError` if a checkpoint is incomplete or its weights do not match the net by name and shape.

    Raise `DigestMismatchError` if the checkpoint belongs to another run.
    """
    require_whole(checkpoint, run=run)
    theirs, ours = (
        {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
        for state in (checkpoint["state_dict"], net.state_dict())
    )
    if odd := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
        shapes = f"found {theirs.get(odd[0], 'nothing')}, expected {ours.get(odd[0], 'nothing')}"
        raise DocumentError(
            f"the best checkpoint is not of this net: {odd[0]}: {shapes}", hint="use another checkpoint"
        )
