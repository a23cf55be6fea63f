"""Conversion of a checkpoint's values to a JSON tree with separate tensors, and back. Reading a tree runs no code.

Each object of the tree has one key, the kind of its value: docs/reference/formats/checkpoint.md lists the kinds.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trainer.base.errors import DocumentError, ExperimentFailedError
from trainer.base.suggestions import with_article
from trainer.runs.checkpoint_pointer import NextStage
from trainer.training.shards.parts import is_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

DEEPEST: Final = 100
"""The maximum depth of a tree: a deeper value is assumed to contain itself."""
NATIVE: Final = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The dtypes that safetensors supports, in the order in which its library writes tensors; tensors of other dtypes are stored as bytes."""
MAY_BE: Final = (
    "on_save_checkpoint may return tensors, arrays, numbers, strings, lists and dicts; "
    "convert the value to one of these types, or omit it"
)
_INTEGER_BITS: Final = 64
_ARRAYS: Final = "biufcmMSU"
_VIEW_KEYS: Final = frozenset({"of", "dtype", "shape", "stride", "offset"})
_FLAGS: Final = {"requires_grad", "parameter"}


@dataclass(slots=True)
class Packed:
    """A value as a tree, and the value's tensors by their names in the tree."""

    tree: Any = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    whole: dict[tuple[str, int], str] = field(default_factory=dict)
    """The name of each packed storage, by device and address, so that a shared storage is stored once."""


def pack(value: object) -> Packed:
    """Convert a checkpoint to a tree. Raise `ExperimentFailedError` with the location of a value that cannot be saved."""
    packed = Packed()
    packed.tree = _pack(value, (), packed)
    return packed


def unpack(tree: Any, tensors: Mapping[str, Tensor], *, where: str) -> Any:
    """Convert a tree to its value. Raise `DocumentError` if the tree is damaged."""
    try:
        return _unpack(tree, tensors)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError, RecursionError) as fault:
        message = f"{where}: its tree is damaged: {type(fault).__name__}: {fault}"
        raise DocumentError(message, hint="use another checkpoint") from fault


def _pack(value: Any, path: tuple[str, ...], packed: Packed) -> Any:
    if len(path) > DEEPEST:
        raise _unsavable(path[:8], f"is nested more than {DEEPEST} levels deep, or contains itself")
    if value is None or type(value) in {bool, str}:
        return value
    if isinstance(value, torch.Tensor):
        return _pack_tensor(value, path, packed)
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAYS:
        return {"scalar": [value.dtype.str, b64encode(value.tobytes()).decode()]}
    if (writer := _WRITERS.get(type(value))) is None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise _unsavable(path, f"is {with_article(kind)}, which a checkpoint cannot hold")
    return writer(value, path, packed)


def _unsavable(path: Iterable[str], message: str) -> ExperimentFailedError:
    return ExperimentFailedError(f"the checkpoint cannot be saved: {'/'.join(path) or 'it'} {message}", hint=MAY_BE)


def _each(values: Iterable[Any], path: tuple[str, ...], packed: Packed) -> list[Any]:
    return [_pack(value, (*path, str(number)), packed) for number, value in enumerate(values)]


def _items(value: Mapping[Any, Any], path: tuple[str, ...], packed: Packed) -> list[Any]:
    return [[_pack(key, path, packed), _pack(each, (*path, str(key)), packed)] for key, each in value.items()]


def _pack_dict(value: dict[Any, Any], path: tuple[str, ...], packed: Packed) -> Any:
    if all(type(key) is str for key in value):
        return {"dict": {key: _pack(each, (*path, key), packed) for key, each in value.items()}}
    return {"items": _items(value, path, packed)}


def _pack_ordered(value: OrderedDict[Any, Any], path: tuple[str, ...], packed: Packed) -> Any:
    """Convert an `OrderedDict`; for a module's state_dict, add the versions of the modules, which torch stores as an attribute."""
    versions = getattr(value, "_metadata", None)
    more = [] if versions is None else [_pack(versions, (*path, "_metadata"), packed)]
    return {"OrderedDict": [_items(value, path, packed), *more]}


def _pack_set(kind: str) -> Callable[..., Any]:
    return lambda value, path, packed: {kind: sorted(_each(value, path, packed), key=json.dumps)}


def _pack_array(value: np.ndarray[Any, Any], path: tuple[str, ...], packed: Packed) -> Any:
    if value.dtype.kind not in _ARRAYS:
        raise _unsavable(path, f"is an array of dtype {value.dtype}, which a checkpoint cannot hold")
    data = torch.from_numpy(np.frombuffer(bytearray(value.tobytes()), np.uint8)) if value.nbytes else torch.empty(0)
    name = _named(path, data if value.nbytes else data.to(torch.uint8), packed)
    return {"ndarray": [name, value.dtype.str, list(value.shape)]}


def _pack_tensor(value: Tensor, path: tuple[str, ...], packed: Packed) -> Any:
    kind, layout = type(value), value.layout
    is_plain = kind in {torch.Tensor, torch.nn.Parameter} and layout is torch.strided and not value.is_quantized
    if not (is_plain or is_part(value)):
        message = f"is {with_article(f'{kind.__module__}.{kind.__qualname__}')} of layout {layout}{', quantized' * value.is_quantized}"
        raise _unsavable(path, f"{message}; expected a dense torch.Tensor")
    if value.is_meta:
        raise _unsavable(path, "is a tensor on the meta device, which has no values")
    flags = {"requires_grad": value.requires_grad, "parameter": isinstance(value, torch.nn.Parameter)}
    more = {name: True for name, is_set in flags.items() if is_set}
    if is_part(value):
        if value.dtype not in NATIVE:
            raise _unsavable(path, f"is a distributed tensor of {value.dtype}, which a safetensors file cannot hold")
        return {"tensor": {"of": _named(path, value, packed), **more}}
    value = value.detach().resolve_conj().resolve_neg()
    size = value.numel() * value.element_size()
    if size == 0 and value.dtype in NATIVE:
        return {"tensor": {"of": _named(path, value.contiguous(), packed), **more}}
    storage = value.untyped_storage()
    key = (str(value.device), storage.data_ptr())
    is_whole = value.dtype in NATIVE and value.is_contiguous() and size == storage.nbytes()
    if key not in packed.whole:
        name = packed.whole[key] = _named(path, value if is_whole else as_bytes(storage, value.device), packed)
        if is_whole:
            return {"tensor": {"of": name, **more}}
    view = {
        "of": packed.whole[key],
        "dtype": _dtype_name(value.dtype),
        "shape": list(value.shape),
        "stride": list(value.stride()),
        "offset": value.storage_offset(),
    }
    return {"tensor": {**view, **more}}


def as_bytes(storage: torch.UntypedStorage, device: torch.device) -> Tensor:
    """Return a storage as a tensor of bytes."""
    return torch.empty(0, dtype=torch.uint8, device=device).set_(storage)


def _named(path: tuple[str, ...], value: Tensor, packed: Packed) -> str:
    """Store a tensor under its path in the checkpoint; append a number if two paths have the same spelling."""
    wanted = "/".join(path).encode(errors="backslashreplace").decode() or "tensor"
    name, number = wanted, 1
    while name in packed.tensors or name == "__metadata__":
        number += 1
        name = f"{wanted}#{number}"
    packed.tensors[name] = value
    return name


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _pack_float(value: float, *_: object) -> Any:
    return value if math.isfinite(value) else {"float": str(value)}


_WRITERS: Final[dict[type, Callable[..., Any]]] = {
    int: lambda value, *_: value if value.bit_length() < _INTEGER_BITS else {"int": hex(value)},
    float: _pack_float,
    complex: lambda value, *_: {"complex": [_pack_float(value.real), _pack_float(value.imag)]},
    list: _each,
    tuple: lambda value, path, packed: {"tuple": _each(value, path, packed)},
    set: _pack_set("set"),
    frozenset: _pack_set("frozenset"),
    bytes: lambda value, *_: {"bytes": b64encode(value).decode()},
    dict: _pack_dict,
    OrderedDict: _pack_ordered,
    Counter: lambda value, path, packed: {"Counter": _items(value, path, packed)},
    timedelta: lambda value, *_: {"timedelta": [value.days, value.seconds, value.microseconds]},
    NextStage: lambda value, *_: {"Stage": value.value},
    np.ndarray: _pack_array,
    torch.Size: lambda value, *_: {"Size": list(value)},
    torch.dtype: lambda value, *_: {"dtype": _dtype_name(value)},
    torch.device: lambda value, *_: {"device": str(value)},
}


def _unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpack(each, tensors) for each in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    return _READERS[kind](value, tensors)


def _unpack_items(value: list[Any], tensors: Mapping[str, Tensor]) -> list[tuple[Any, Any]]:
    return [(_unpack(key, tensors), _unpack(each, tensors)) for key, each in value]


def _unpack_ordered(value: list[Any], tensors: Mapping[str, Tensor]) -> OrderedDict[Any, Any]:
    items, *more = value
    unpacked: Any = OrderedDict(_unpack_items(items, tensors))
    if more:
        unpacked._metadata = _unpack(more[0], tensors)  # noqa: SLF001 - torch has no public name for it
    return unpacked  # type: ignore[no-any-return]


def _unpack_array(value: list[Any], tensors: Mapping[str, Tensor]) -> Any:
    name, dtype, shape = value
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape} has a negative length")
    return np.frombuffer(tensors[name].numpy().tobytes(), _array_dtype(dtype)).reshape(shape).copy()


def _unpack_scalar(value: list[str], _: Mapping[str, Tensor]) -> Any:
    dtype, data = value
    return np.frombuffer(b64decode(data), _array_dtype(dtype), count=1)[0]


def _array_dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except SyntaxError as fault:  # NumPy parses a shape in the name of a dtype as a Python literal
        raise ValueError(f"dtype {name[:100]!r} is not supported") from fault
    if dtype.kind not in _ARRAYS:
        raise ValueError(f"dtype {dtype} is not supported")
    return dtype


def _unpack_tensor(value: dict[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    flags = value.keys() & _FLAGS
    view = {key: value[key] for key in value.keys() - _FLAGS}
    made = tensors[view.pop("of")]
    if view:
        made = _view(made, **view)
    if "parameter" in flags:
        return torch.nn.Parameter(made, requires_grad="requires_grad" in flags)
    return made.requires_grad_() if flags else made


def _view(whole: Tensor, *, dtype: str, shape: list[int], stride: list[int], offset: int) -> Tensor:
    """Return a view of the bytes of a tensor. Raise `ValueError` if the view exceeds the bytes."""
    kind = _torch_dtype(dtype)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    is_inside = (last + 1) * kind.itemsize <= whole.untyped_storage().nbytes()
    if min([offset, *shape, *stride]) < 0 or not (is_inside or 0 in shape):
        raise ValueError(f"a view of shape {shape}, stride {stride}, offset {offset} leaves its tensor")
    return torch.empty(0, dtype=kind).set_(whole.untyped_storage(), offset, shape, stride)


def _torch_dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"{name!a} is not a dtype")
    return found


_READERS: Final[dict[str, Callable[[Any, Mapping[str, Tensor]], Any]]] = {
    "int": lambda value, _: int(value, 16),
    "float": lambda value, _: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value],
    "complex": lambda value, tensors: complex(*_unpack(value, tensors)),
    "tuple": lambda value, tensors: tuple(_unpack(value, tensors)),
    "set": lambda value, tensors: set(_unpack(value, tensors)),
    "frozenset": lambda value, tensors: frozenset(_unpack(value, tensors)),
    "bytes": lambda value, _: b64decode(value, validate=True),
    "dict": lambda value, tensors: {key: _unpack(each, tensors) for key, each in value.items()},
    "items": lambda value, tensors: dict(_unpack_items(value, tensors)),
    "OrderedDict": _unpack_ordered,
    "Counter": lambda value, tensors: Counter(dict(_unpack_items(value, tensors))),
    "timedelta": lambda value, _: timedelta(*value),
    "Stage": lambda value, _: NextStage(value),
    "path": lambda value, _: Path(value),
    "ndarray": _unpack_array,
    "scalar": _unpack_scalar,
    "tensor": _unpack_tensor,
    "Size": lambda value, _: torch.Size(value),
    "dtype": lambda value, _: _torch_dtype(value),
    "device": lambda value, _: torch.device(value),
}
