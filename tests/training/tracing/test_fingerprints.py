"""Fingerprints cover every bit of every element, and both algorithms agree on equality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from trainer.training.tracing.fingerprints import HostIntegers, device_prints, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

pytestmark = pytest.mark.torch
KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
ALGORITHMS: list[Callable[[list[Tensor]], list[int]]] = [
    HostIntegers().prints,
    lambda given: device_prints(given).tolist(),
]


def flip_bit(tensor: Tensor, place: int) -> Tensor:
    """Return a copy of the tensor with the last bit of element `place` changed."""
    changed = tensor.clone()
    changed.view(torch.uint8).reshape(-1)[place * tensor.element_size()] ^= 1
    return changed


@pytest.mark.parametrize("prints", ALGORITHMS)
@given(st.integers(0, 2999), st.sampled_from(KINDS))
def test_one_flipped_bit_changes_the_fingerprint(
    prints: Callable[[list[Tensor]], list[int]], place: int, kind: torch.dtype
) -> None:
    tensor, other = (torch.arange(3000) % 2).to(kind), torch.arange(7.0)
    before, after = prints([tensor, other]), prints([flip_bit(tensor, place), other])
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.parametrize("prints", ALGORITHMS)
def test_equal_bits_have_equal_fingerprints(prints: Callable[[list[Tensor]], list[int]]) -> None:
    tensor = torch.tensor([[1.0, float("nan")], [-0.0, 3.0]])
    assert prints([torch.ones(5), tensor]) == [*prints([torch.ones(5)]), *prints([tensor.t().contiguous().t()])]
    assert prints([tensor]) != prints([tensor.t()])
    assert prints([torch.zeros(4)]) != prints([torch.tensor([0.0, -0.0, 0.0, 0.0])])


@pytest.mark.parametrize("prints", ALGORITHMS)
def test_swapped_elements_change_the_fingerprint(prints: Callable[[list[Tensor]], list[int]]) -> None:
    tensor = torch.arange(5000.0)
    swapped = tensor.clone()
    swapped[[1, 4000]] = tensor[[4000, 1]]
    assert prints([tensor]) != prints([swapped])


@pytest.mark.parametrize("prints", ALGORITHMS)
def test_tensors_of_several_widths_keep_their_order(prints: Callable[[list[Tensor]], list[int]]) -> None:
    several = [torch.ones(3), torch.ones(2, dtype=torch.int64), torch.zeros(0), torch.tensor(1.0), torch.ones(1500)]
    assert prints(several) == [prints([tensor])[0] for tensor in several]


def test_on_a_cpu_the_fingerprint_is_xxh3_of_the_bytes() -> None:
    assert HostIntegers().prints([torch.tensor([1, 2], dtype=torch.int16)]) == [xxh3_64_intdigest(b"\1\0\2\0")]


def test_a_cached_view_follows_its_tensor() -> None:
    weight, views = torch.nn.Parameter(torch.zeros(8)), HostIntegers()
    first = views.weights([weight])
    with torch.no_grad():
        weight.add_(1)
    second = views.weights([weight])
    weight.data = torch.full((8,), 2.0)
    assert first != second
    assert views.weights([weight]) == HostIntegers().prints([torch.full((8,), 2.0)])


def test_a_batch_yields_its_tensors_in_order() -> None:
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [len(found) for found in tensors_in({"x": [a, (b, "name")], "y": c, "z": 7})] == [1, 2, 3]
