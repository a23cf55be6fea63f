"""Tensors in JSON: a round trip changes no value, and a value that a type does not have is rejected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

np = pytest.importorskip("numpy")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as arrays  # noqa: E402

from trainer.models.package import TensorSpec  # noqa: E402
from trainer.models.serving.limits import RequestError, json_bytes  # noqa: E402
from trainer.models.serving.tensors import (  # noqa: E402
    DATATYPES,
    metadata,
    named_arrays,
    nested_array,
    protocol_inputs,
    protocol_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Callable

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


def values(dtype: str) -> st.SearchStrategy[Any]:
    """Arrays `[samples, ...]` of a type, with finite values."""
    elements = arrays.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
    return arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=elements)


def outcome(read: Callable[[], dict[str, Any]]) -> dict[str, Any] | RequestError:
    """Return the result of a call, or the error of the request."""
    try:
        return read()
    except RequestError as fault:
        return fault


def spec_for(value: Any) -> TensorSpec:
    return TensorSpec(name="x", dtype=str(value.dtype), shape=("any",) * (value.ndim - 1))


@given(st.sampled_from(sorted(DATATYPES)).flatmap(values))
def test_a_tensor_of_the_protocol_is_read_as_it_was_written(value: Any) -> None:
    written = json.loads(json_bytes({"inputs": [protocol_tensor("x", value)]}))
    found = protocol_inputs(written, [spec_for(value)])["x"]
    assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())


@given(st.sampled_from(sorted(DATATYPES)).flatmap(values))
def test_nested_lists_are_read_as_they_were_written(value: Any) -> None:
    written = json.loads(json_bytes(value.tolist()))
    found = nested_array(written, spec_for(value), where="x")
    assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
    tensor = {"name": "x", "shape": [*value.shape], "datatype": DATATYPES[str(value.dtype)], "data": written}
    assert np.array_equal(protocol_inputs({"inputs": [tensor]}, [spec_for(value)])["x"], value)


@given(JSON, st.sampled_from(sorted(DATATYPES)), st.integers(0, 3))
def test_any_json_is_an_array_of_the_type_or_rejected(value: Any, dtype: str, axes: int) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=("any",) * axes)
    tensor = {"name": "x", "shape": [1] * (axes + 1), "datatype": DATATYPES[dtype], "data": value}
    for read in (lambda: named_arrays({"x": value}, [spec]), lambda: protocol_inputs({"inputs": [tensor]}, [spec])):
        found = outcome(read)
        if isinstance(found, RequestError):
            assert (found.status, bool(found.hint)) == (422, True)
        else:
            assert str(found["x"].dtype) == dtype
            assert np.isfinite(found["x"]).all()


@given(st.dictionaries(st.sampled_from(["id", "inputs", "outputs", "x"]), JSON))
def test_any_request_of_the_protocol_is_read_or_rejected(request: dict[str, Any]) -> None:
    found = outcome(lambda: protocol_inputs(request, [TensorSpec(name="x", dtype="float32", shape=(2,))]))
    assert found.status == 422 if isinstance(found, RequestError) else not found


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", [256]),
        ("uint8", [-1]),
        ("int64", [2**63]),
        ("int32", [1.0]),
        ("int32", [True]),
        ("bool", [1]),
        ("float32", [True]),
        ("float16", [70000]),
        ("float32", [4e38]),
    ],
)
def test_a_value_of_another_type_is_rejected(dtype: str, value: list[Any]) -> None:
    with pytest.raises(RequestError):
        nested_array(value, TensorSpec(name="x", dtype=dtype, shape=()), where="x")


def test_metadata_has_minus_1_for_any_length() -> None:
    spec = TensorSpec(name="x", dtype="uint8", shape=(3, "any"))
    assert metadata(spec) == {"name": "x", "datatype": "UINT8", "shape": [-1, 3, -1]}
