"""The weights of two runs, compared in blocks and in every number format."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import Values, float_tensor, save_weights
from trainer.base.errors import DigestMismatchError
from trainer.comparison.ulp import FORMATS, ArrayDistance
from trainer.comparison.weights import WEIGHTS, WeightsComparison, compare_weights

if TYPE_CHECKING:
    from pathlib import Path


def write_and_compare(place: Path, a: Values, b: Values) -> WeightsComparison:
    for name in "ab":
        (place / name).mkdir()
    one, other = save_weights(place / "a", a), save_weights(place / "b", b)
    return compare_weights(place / "a", place / "b", digests=(one, other))


def test_a_difference_in_the_last_block_has_its_position(tmp_path: Path) -> None:
    values = [float(place) for place in range(70_001)]
    last = [*values[:-1], values[-1] + 0.0078125]
    found = write_and_compare(
        tmp_path,
        {"w": float_tensor(*values), "x": float_tensor(1.0)},
        {"w": float_tensor(*last), "x": float_tensor(2.0)},
    )
    assert [tensor.apart and (tensor.apart.first, tensor.apart.ulp) for tensor in found.differing] == [
        (70_000, 1),
        (0, 1 << 23),
    ]
    assert found.numbers


@pytest.mark.parametrize("dtype", FORMATS)
def test_every_format_is_compared(tmp_path: Path, dtype: str) -> None:
    width = FORMATS[dtype].width
    found = write_and_compare(tmp_path, {"w": (dtype, bytes(2 * width))}, {"w": (dtype, b"\1" + bytes(2 * width - 1))})
    (tensor,) = found.differing
    assert tensor.apart is not None
    assert (tensor.apart.differing, tensor.apart.first, tensor.apart.ulp) == (1, 0, 1)


def test_missing_and_incompatible_tensors_have_no_distance(tmp_path: Path) -> None:
    a = {"gone": float_tensor(1.0), "half": float_tensor(1.0), "longer": float_tensor(1.0)}
    b = {"new": float_tensor(1.0), "half": ("F16", struct.pack("<e", 1.0)), "longer": float_tensor(1.0, 2.0)}
    found = write_and_compare(tmp_path, a, b)
    assert {tensor.name: (tensor.dtypes, tensor.shapes) for tensor in found.differing} == {
        "gone": (("float32", None), ((1,), None)),
        "half": (("float32", "float16"), ((1,), (1,))),
        "longer": (("float32", "float32"), ((1,), (2,))),
        "new": ((None, "float32"), (None, (1,))),
    }
    assert all(tensor.apart is None for tensor in found.differing)


def test_equal_weights_have_no_differences(tmp_path: Path) -> None:
    found = write_and_compare(
        tmp_path, {"a": float_tensor(1.0), "e": float_tensor()}, {"e": float_tensor(), "a": float_tensor(1.0)}
    )
    assert (found.differing, found.tensors) == ((), 2)


def test_signs_of_zeros_and_nans_are_counted(tmp_path: Path) -> None:
    found = write_and_compare(
        tmp_path, {"w": float_tensor(0.0, float("nan"), 1.0)}, {"w": float_tensor(-0.0, 1.0, 1.0)}
    )
    expected = ArrayDistance(differing=2, first=0, ulp=1, zero_signs=1, nan_against_number=1)
    assert [tensor.apart for tensor in found.differing] == [expected]


def test_a_tensor_missing_in_the_table_is_rejected(tmp_path: Path) -> None:
    write_and_compare(tmp_path, {"w": float_tensor(1.0)}, {"w": float_tensor(1.0)})
    (tmp_path / "c").mkdir()
    digest = save_weights(tmp_path / "c", {"w": float_tensor(1.0)})
    path = tmp_path / "c" / WEIGHTS
    path.write_bytes(path.read_bytes().replace(b'"w"', b'"v"'))
    with pytest.raises(DigestMismatchError, match="tensor 'v' is missing in this file or in"):
        compare_weights(tmp_path / "a", tmp_path / "c", digests=(digest, digest))
