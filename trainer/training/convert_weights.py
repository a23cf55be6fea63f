"""Converts the tensors of a pickled checkpoint to a safetensors file, with `weights_only`: no code in the file is run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file

from trainer.base.errors import DatasetError
from trainer.base.suggestions import listed, short, type_with_article

if TYPE_CHECKING:
    from pathlib import Path

_ENTRY: Final = "state_dict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """The result of a conversion."""

    tensors: int
    entry: str
    """The name of the entry that held the tensors; empty if they were at the top level of the file."""
    left_out: list[str]
    """The names of the entries that were not converted."""


def convert_weights(path: Path, target: Path) -> Conversion:
    """Write the tensors of the pickle `path`, or of the state dict in it, to the safetensors file `target`.

    Tensors that share memory, as tied weights do, are written under each name. Raise `DatasetError` if the file cannot be read without
    running its code, or if it has no tensors or a sparse or quantized tensor.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        message = (
            f"{path} holds Python objects besides tensors, which cannot be loaded without running code: {_cause(fault)}"
        )
        hint = "save only the tensors with the program that wrote the file: torch.save(net.state_dict(), FILE)"
        raise DatasetError(message, hint=hint) from fault
    except Exception as fault:  # the unpickler raises exceptions of many types for a damaged file
        raise DatasetError(
            f"{path} is not a file that torch.save wrote: {_cause(fault)}", hint="it may be truncated"
        ) from fault
    entry, found = _state_dict(content)
    tensors = {
        name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        kind = type_with_article(content) + (
            f" with {listed(map(str, content))}" if isinstance(content, Mapping) else ""
        )
        message = f"{path} holds {kind}; expected tensors by name, or an entry {_ENTRY} that holds them"
        raise DatasetError(message, hint="save net.state_dict() with the program that wrote it")
    if odd := next(
        (name for name, value in tensors.items() if value.layout != torch.strided or value.is_quantized), None
    ):
        message = f"tensor {odd} of {path} is sparse or quantized, which a safetensors file cannot hold"
        raise DatasetError(message, hint="save a dense tensor: value.to_dense() or value.dequantize()")
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, target)
    others = [str(name) for name in found if name not in tensors]
    others += [str(name) for name in content if name != entry] if entry else []
    return Conversion(tensors=len(tensors), entry=entry, left_out=others)


def _state_dict(content: Any) -> tuple[str, Mapping[Any, Any]]:
    """Return the name and the content of the entry with the tensors: `state_dict`, or the only table that has tensors.

    Without such an entry, return an empty name and all content. Content that is not a table counts as an empty table.
    """
    if not isinstance(content, Mapping):
        return "", {}
    if isinstance(content.get(_ENTRY), Mapping):
        return _ENTRY, content[_ENTRY]
    if not any(isinstance(value, torch.Tensor) for value in content.values()):
        tables = [name for name, value in content.items() if isinstance(value, Mapping) and _has_tensors(value)]
        if len(tables) == 1:
            return str(tables[0]), content[tables[0]]
    return "", content


def _has_tensors(table: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in table.values())


def _cause(fault: BaseException) -> str:
    return short(" ".join(str(fault).split()).partition(" Please file an issue")[0])
