"""Tensors in JSON: nested lists, and the tensors of the Open Inference Protocol, version 2.

    {"name": "image", "shape": [2, 1, 4, 4], "datatype": "FP32", "data": [0.0, 0.5, ...]}

`data` holds the values in row-major order, flat or nested. Every value must be of the tensor's type: values are not converted, except that
a number is rounded to the nearest value of a float type.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.suggestions import did_you_mean, listed, short
from trainer.models.serving.limits import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.models.package import TensorSpec

Array = np.ndarray[Any, Any]
DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""The protocol's names for the types of a package."""
_KEYS: Final = frozenset({"name", "shape", "datatype", "data", "parameters"})
_REQUEST_KEYS: Final = frozenset({"id", "inputs", "outputs", "parameters"})
_LONGEST_ID: Final = 200
_DESCRIBED: Final = "/openapi.json describes the request"


def nested_array(value: Any, spec: TensorSpec, *, where: str) -> Array:
    """Return nested lists as an array `[samples, ...]` of a spec's type. Raise `RequestError` for invalid values, not for the shape."""
    flat, shape = _flattened(value, where=where)
    return _typed(flat, spec, where=where).reshape(shape)


def named_arrays(value: Any, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return the arrays of `{name: nested lists}`. Raise `RequestError` for an unknown name or invalid values."""
    if not isinstance(value, dict):
        raise _invalid(f"inputs is {_kind(value)}; expected an object with {listed(each.name for each in specs)}")
    known = {each.name: each for each in specs}
    return {name: nested_array(each, _known(name, known), where=f"input {name}") for name, each in value.items()}


def protocol_inputs(request: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return the arrays of an inference request of the protocol. Raise `RequestError` for an invalid request."""
    if unknown := next((key for key in request if key not in _REQUEST_KEYS), None):
        raise RequestError(422, f"unknown key {short(unknown)!r}", hint=did_you_mean(unknown, _REQUEST_KEYS))
    inputs, known = request.get("inputs"), {each.name: each for each in specs}
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise _invalid("inputs is not a list of tensors")
    arrays: dict[str, Array] = {}
    for each in inputs:
        name, array = _protocol_tensor(each, known)
        if name in arrays:
            raise _invalid(f"input {name} is given twice")
        arrays[name] = array
    return arrays


def requested_outputs(request: Mapping[str, Any], specs: Sequence[TensorSpec]) -> list[str]:
    """Return the names of the outputs that an inference request selects, by default all. Raise `RequestError` for an unknown name."""
    names, wanted = [each.name for each in specs], request.get("outputs")
    if wanted is None or wanted == []:
        return names
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise _invalid("outputs is not a list of objects with names")
    for each in wanted:
        if each.get("name") not in names:
            found = short(str(each.get("name")))
            raise RequestError(422, f"the package has no output {found!r}", hint=did_you_mean(found, names))
    return list(dict.fromkeys(each["name"] for each in wanted))


def request_id(request: Mapping[str, Any]) -> str | None:
    """Return the ID of an inference request. Raise `RequestError` if it is not a string or is too long."""
    value = request.get("id")
    if value is not None and (not isinstance(value, str) or len(value) > _LONGEST_ID):
        raise _invalid(f"id is not a string of at most {_LONGEST_ID} characters")
    return value


def protocol_tensor(name: str, array: Array) -> dict[str, Any]:
    """Return an array as a tensor of the protocol."""
    kind, values = DATATYPES[str(array.dtype)], array.reshape(-1).tolist()
    return {"name": name, "shape": [*array.shape], "datatype": kind, "data": values}


def metadata(spec: TensorSpec) -> dict[str, Any]:
    """Return the metadata of a tensor; -1 stands for any length."""
    shape = [-1, *(-1 if each == "any" else each for each in spec.shape)]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _protocol_tensor(tensor: Mapping[str, Any], known: Mapping[str, TensorSpec]) -> tuple[str, Array]:
    if unknown := next((key for key in tensor if key not in _KEYS), None):
        raise RequestError(422, f"unknown key {short(unknown)!r} of an input", hint=did_you_mean(unknown, _KEYS))
    spec = _known(tensor.get("name"), known)
    expected, found = DATATYPES[spec.dtype], tensor.get("datatype")
    if found != expected:
        raise _invalid(f"input {spec.name} has the datatype {short(str(found))!r}; expected {expected}")
    if "data" not in tensor:
        raise RequestError(
            422, f"input {spec.name} has no data", hint="send the values in JSON; binary data is not supported"
        )
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(each) is int and each > 0 for each in shape):
        raise _invalid(f"the shape of input {spec.name} is not a list of lengths")
    if len(shape) != len(spec.shape) + 1:
        raise _invalid(f"input {spec.name} has the shape {_form(shape)}; expected [samples, ...] of {spec}")
    flat, own = _flattened(tensor["data"], where=f"input {spec.name}")
    if own not in {tuple(shape), (math.prod(shape),)}:
        raise _invalid(f"input {spec.name} has data of the shape {_form(own)}; its shape is {_form(shape)}")
    return spec.name, _typed(flat, spec, where=f"input {spec.name}").reshape(shape)


def _known(name: Any, known: Mapping[str, TensorSpec]) -> TensorSpec:
    if not isinstance(name, str) or name not in known:
        found = short(str(name))
        raise RequestError(422, f"the package has no input {found!r}", hint=did_you_mean(found, known))
    return known[name]


def _flattened(value: Any, *, where: str) -> tuple[list[Any], tuple[int, ...]]:
    """Return the values of nested lists in row-major order, and the shape. Raise `RequestError` for lists of different lengths."""
    if type(value) is not list:
        raise _invalid(f"{where} is {_kind(value)}; expected lists of samples")
    level, shape = value, [len(value)]
    while level and type(level[0]) is list:
        length = len(level[0])
        if set(map(type, level)) != {list} or set(map(len, level)) != {length}:
            raise _invalid(f"{where} has lists of different lengths on level {len(shape) + 1}")
        shape.append(length)
        level = list(chain.from_iterable(level))
    if list in set(map(type, level)):
        raise _invalid(f"{where} has lists and values on the same level")
    return level, tuple(shape)


def _typed(flat: list[Any], spec: TensorSpec, *, where: str) -> Array:
    """Return values as a flat array of a spec's type. Raise `RequestError` for the first value that the type does not have."""
    dtype = np.dtype(spec.dtype)
    kinds: set[type] = {"b": {bool}, "f": {int, float}}.get(dtype.kind, {int})  # type: ignore[assignment]
    if not kinds.issuperset(map(type, flat)):
        number, value = next((number, each) for number, each in enumerate(flat, start=1) if type(each) not in kinds)
        raise _invalid(f"value {number} of {where} is {_shown(value)}; expected {_EXPECTED[dtype.kind]}")
    if dtype.kind in "iu" and flat:
        bounds = np.iinfo(dtype)
        if min(flat) < bounds.min or max(flat) > bounds.max:
            raise _invalid(f"a value of {where} is outside of {spec.dtype}: {bounds.min} to {bounds.max}")
    with np.errstate(over="ignore"):
        array = np.array(flat, dtype="float64" if dtype.kind == "f" else dtype).astype(dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise _invalid(f"a value of {where} is beyond the largest {spec.dtype}")
    return array


_EXPECTED: Final = {"b": "true or false", "f": "a number", "i": "an integer", "u": "an integer"}


def _invalid(message: str) -> RequestError:
    return RequestError(422, message, hint=_DESCRIBED)


def _kind(value: Any) -> str:
    number = "a number"
    names = {dict: "a JSON object", str: "a string", bool: "a boolean", type(None): "null", int: number, float: number}
    return names.get(type(value), "a list")


def _shown(value: Any) -> str:
    return "an object" if isinstance(value, dict) else short(repr(value))


def _form(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
