"""The header of a safetensors file: what is read, and what is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.base.errors import DocumentError
from trainer.base.tensor_file import BITS, LARGEST_HEADER, read_header
from trainer.comparison.ulp import FORMATS


def write_safetensors(path: Path, header: Any, data: bytes, *, length: int | None = None) -> Path:
    """Write a safetensors file; `length` overrides the length of its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def header_entry(*offsets: int, dtype: str = "F32", shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_header_locates_each_tensor(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"a": "b"},
        "x": header_entry(0, 8),
        "e": header_entry(8, 8, shape=(0, 3)),
        "s": header_entry(8, 12, shape=()),
    }
    found = read_header(write_safetensors(tmp_path / "w", header, bytes(12)))
    start = found["x"].start
    assert {name: (tensor.start - start, tensor.stop - start) for name, tensor in found.items()} == {
        "x": (0, 8),
        "e": (8, 8),
        "s": (8, 12),
    }


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"x": header_entry(0, 8)}, 7, "ends at byte"),
        ({"x": header_entry(0, 8)}, 9, "1 bytes after its last tensor"),
        ({"x": header_entry(0, 7)}, 7, "has 7 bytes; F32 of shape [2] takes 8"),
        ({"x": header_entry(8, 0)}, 8, "has -8 bytes"),
        ({"x": header_entry(0, 8), "y": header_entry(4, 12)}, 12, "overlaps another"),
        ({"x": header_entry(0, 8), "y": header_entry(12, 20)}, 20, "leaves a gap"),
        ({"x": header_entry(-8, 0)}, 8, "data_offsets.0"),
        ({"x": header_entry(0, 8, dtype="F33")}, 8, "dtype 'F33'"),
        ({"x": header_entry(0, 8, shape=(2**52, 2**52))}, 8, "takes"),
        ({"x": header_entry(0, 8) | {"run": "rm"}}, 8, "unknown key 'x.run'"),
        ({"x": 1}, 8, "x: found 1"),
        ([], 0, "is a list"),
        (b'{"x": 1, "x": 2}', 0, "key x is given twice"),
        (b"[" * 100_000, 0, "too many nested brackets"),
        (b"\xff\xfe{", 0, "not valid JSON"),
        (b"", 0, "not valid JSON"),
    ],
)
def test_a_false_header_is_rejected(tmp_path: Path, header: Any, data: int, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_header(write_safetensors(tmp_path / "w", header, bytes(data)))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@given(
    header=st.dictionaries(
        st.sampled_from(["x", "y", "__metadata__", ""]),
        st.fixed_dictionaries(
            {},
            optional={
                "dtype": st.sampled_from(["F32", "F4", "BOOL", "C64", ""]) | st.none(),
                "shape": st.lists(st.integers(-1, 3) | st.integers() | st.text(), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 16) | st.floats(), max_size=3),
                "other": st.none(),
            },
        )
        | st.integers()
        | st.text(),
    )
    | st.binary(),
    data=st.binary(max_size=16),
    length=st.none() | st.integers(0, 2**64 - 1),
)
def test_any_file_is_read_or_rejected(header: Any, data: bytes, length: int | None) -> None:
    with TemporaryDirectory() as place:
        path = write_safetensors(Path(place) / "w", header, data, length=length)
        found, message = {}, ""
        try:
            found = read_header(path)
        except DocumentError as fault:
            message = fault.message
        assert "\n" not in message
        assert sum(tensor.stop - tensor.start for tensor in found.values()) <= len(data)
        assert all(0 < tensor.start <= tensor.stop <= path.stat().st_size for tensor in found.values())


@pytest.mark.parametrize("length", [2**64 - 1, LARGEST_HEADER + 1, 100])
def test_a_header_longer_than_the_file_is_rejected(tmp_path: Path, length: int) -> None:
    with pytest.raises(DocumentError, match="its header would have"):
        read_header(write_safetensors(tmp_path / "w", {}, b"", length=length))


@pytest.mark.parametrize("size", range(8))
def test_a_file_of_a_few_bytes_is_rejected(tmp_path: Path, size: int) -> None:
    (tmp_path / "w").write_bytes(bytes(size))
    with pytest.raises(DocumentError, match="not a safetensors file"):
        read_header(tmp_path / "w")


def test_the_number_formats_that_are_compared_have_these_bits() -> None:
    assert {name: BITS[name] for name in FORMATS} == {name: 8 * number.width for name, number in FORMATS.items()}
