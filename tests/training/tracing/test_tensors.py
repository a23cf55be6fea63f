"""Digests of tensors: equal digests mean equal bits."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from trainer.training.tracing.trace import described, parameter_names, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


def test_a_tensors_digest_depends_on_its_bytes() -> None:
    expected = hashlib.sha256(struct.pack("<4f", 1, 2, 3, 4)).hexdigest()
    found = described(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert found == {"dtype": "float32", "shape": [2, 2], "sha256": f"sha256:{expected}"}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_dtype_and_shape_has_a_digest(kind: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape, dtype=kind)
    assert described(tensor.T if tensor.ndim == 2 else tensor) == described(
        tensor.T.contiguous() if tensor.ndim == 2 else tensor.clone()
    )


def test_one_changed_bit_changes_the_digest() -> None:
    assert described(torch.tensor(0.0)) != described(torch.tensor(-0.0))


def test_weights_and_tensor_table_match_the_checkpoint(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()], "global_step": 1}
    digest = write_tensors(tmp_path, state, parameter_names(net, [optimizer]))
    table = json.loads((tmp_path / "tensors.json").read_bytes())
    assert set(table["weights"]) == {"weight", "bias"}
    assert set(table["optimizer"]) == {"weight/momentum_buffer", "bias/momentum_buffer"}
    assert torch.equal(load_file(tmp_path / "weights.safetensors")["weight"], net.weight)
    assert digest.startswith("sha256:")
