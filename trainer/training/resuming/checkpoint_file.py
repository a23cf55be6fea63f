"""The checkpoint file: one safetensors file whose metadata holds all other values. Format: docs/reference/formats/checkpoint.md.

Reading a checkpoint runs no code of the file: it contains no pickle.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

import torch

from trainer.base.errors import DocumentError, ExperimentFailedError
from trainer.base.run_files import open_run_file
from trainer.comparison.weights import LARGEST_HEADER, read_parts
from trainer.runs.checkpoint_pointer import is_pickle
from trainer.training.resuming.checkpoint_tree import MAY_BE, NATIVE, as_bytes, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FORMAT: Final = "reprise.checkpoint/1"
_ALIGNED: Final = 8
_DTYPES: Final = {name: dtype for dtype, name in NATIVE.items()}


def write_checkpoint(file: IO[bytes], checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint; raise `ExperimentFailedError` for a value that the format cannot store, `OSError`."""
    packed = pack(dict(checkpoint))
    tree = json.dumps(packed.tree, allow_nan=False, separators=(",", ":"))
    tensors = dict(
        sorted(packed.tensors.items(), key=lambda item: -item[1].element_size())
    )  # aligns each tensor's start
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "tree": tree}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NATIVE[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    if len(text) > LARGEST_HEADER:
        said = f"the checkpoint has {len(text)} bytes beside its tensors; expected at most {LARGEST_HEADER}"
        raise ExperimentFailedError(said, hint=f"keep many numbers in one tensor or array; {MAY_BE}")
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(_bytes(tensor))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint into CPU memory; raise `DocumentError`."""
    with open_run_file(path) as file:
        return read_open_checkpoint(file, path)


def read_open_checkpoint(file: BinaryIO, path: Path) -> dict[str, Any]:
    """Read a checkpoint from an open file; `path` names it in messages; raise `DocumentError`."""
    if is_pickle(file):
        message = f"{path} is a pickle, as checkpoints were before version 1.0; pickles are not read"
        raise DocumentError(message, hint="start a new run")
    entries, metadata = read_parts(file, path)
    if metadata.get("format") != FORMAT:
        said = f"{path} has the format {metadata.get('format')!a}; expected {FORMAT!a}"
        raise DocumentError(said, hint="use another checkpoint, or the version of Reprise that wrote this one")
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise DocumentError(f"{path}: tensor {name!a} is of dtype {entry.dtype}", hint="use another checkpoint")
        data = torch.empty(entry.stop - entry.start, dtype=torch.uint8)
        file.seek(entry.start)
        file.readinto(data.numpy().data)  # type: ignore[attr-defined]
        tensors[name] = data.view(dtype).reshape(entry.shape)
    found = unpack(_tree(metadata.get("tree", ""), path), tensors, where=str(path))
    if not isinstance(found, dict):
        raise DocumentError(f"{path} holds a {type(found).__name__}; expected a dict", hint="use another checkpoint")
    return found


def _tree(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise DocumentError(f"{path}: its tree is not valid JSON: {fault}", hint="use another checkpoint") from fault


def _bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor's elements in row-major order, little-endian."""
    here = tensor.cpu().contiguous()
    whole = as_bytes(here.untyped_storage(), here.device)
    begin = here.storage_offset() * here.element_size()
    return whole[begin : begin + here.numel() * here.element_size()].numpy().data
