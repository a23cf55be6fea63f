from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from trainer.training.shards.tree import TreeSum, tree_sum  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[3]


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


RANK = """
import os, sys, torch
from torch import distributed
from trainer.training.shards.tree import begin_every_rank, sum_over_ranks
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=4)
values = torch.load(sys.argv[3])[rank]
mine = [values[:3].clone(), values[3:].clone()]
sum_over_ranks(mine)
torch.save((torch.cat(mine), begin_every_rank([rank, 2**64 - 1])()), f"{sys.argv[3]}.{rank}")
distributed.destroy_process_group()
"""


@pytest.mark.trains
@pytest.mark.parametrize("size", [11, 300_001])
def test_four_processes_sum_few_and_many_values_in_the_order_of_the_tree(tmp_path: Path, size: int) -> None:
    """Few values are sent whole to every rank; many values are sent in parts."""
    parts = torch.randn(4, size, generator=torch.Generator().manual_seed(0)) * 10 ** torch.arange(4.0)[:, None]
    torch.save(parts, tmp_path / "parts")
    environ = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    words = (str(tmp_path / "meeting"), str(tmp_path / "parts"))
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), *words], cwd=ROOT, env=environ) for rank in range(4)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0, 0, 0]
    for rank in range(4):
        total, integers = torch.load(tmp_path / f"parts.{rank}")
        assert torch.equal(total, tree_sum(parts))
        assert integers == [each for other in range(4) for each in (other, 2**64 - 1)]
