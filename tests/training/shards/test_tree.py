from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from trainer.training.shards.tree import TreeSum, tree_sum  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.torch


def in_process(parts: Sequence[object]) -> object:
    total = TreeSum()
    for part in parts:
        total.add([part.clone()])  # type: ignore[attr-defined]
    return total.total()[0]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_a_sum_has_the_same_bits_for_any_number_of_processes(ranks: int) -> None:
    parts = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)) * 10 ** torch.arange(8.0)[:, None]
    subtrees = [in_process(list(each)) for each in parts.chunk(ranks)]
    assert torch.equal(tree_sum(torch.stack(subtrees)), tree_sum(parts))


def test_the_order_matters_for_these_numbers() -> None:
    parts = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)) * 10 ** torch.arange(8.0)[:, None]
    one_by_one = parts[0].clone()
    for part in parts[1:]:
        one_by_one += part
    assert not torch.equal(one_by_one, tree_sum(parts))


def test_a_process_keeps_few_partial_sums() -> None:
    total, most = TreeSum(), 0
    for _ in range(64):
        total.add([torch.ones(1)])
        most = max(most, len(total.partial))
    assert (most, total.total()[0].item()) == (6, 64)
