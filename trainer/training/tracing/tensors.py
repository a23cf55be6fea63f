"""Files of a run's weights: `weights.safetensors` with the values, `tensors.json` with the digests for comparison."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from trainer.base.digest import canonical, digest_of_document
from trainer.training.attempt_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

FORMAT = "reprise.tensors/1"


def write_tensors(folder: Path, net: nn.Module, checkpoint: Mapping[str, Any]) -> str:
    """Write both files for a checkpoint of `net`; return the digest of the weights' table."""
    weights: dict[str, Tensor] = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint["state_dict"].items()
    }
    names = [name for name, _ in net.named_parameters()]
    table = {name: described(value) for name, value in weights.items()}
    moments = [optimizer_tensors(state, names) for state in checkpoint["optimizer_states"]]
    document = {
        "format": FORMAT,
        "step": checkpoint["global_step"],
        "weights": table,
        "optimizer": {name: described(value) for tensors in moments for name, value in tensors.items()},
    }
    write_whole(folder / "weights.safetensors", save({name: value.clone() for name, value in weights.items()}))
    write_whole(folder / "tensors.json", canonical(document) + b"\n")
    return digest_of_document(table)


def described(tensor: Tensor) -> dict[str, Any]:
    """Return dtype, shape, and the sha256 of a tensor's elements in row-major, little-endian order.

    >>> described(torch.zeros(2, 3))["shape"]
    [2, 3]
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().data if flat.numel() else b""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "sha256": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }


def optimizer_tensors(state: Mapping[str, Any], names: list[str]) -> dict[str, Tensor]:
    """Return an optimizer's tensors by parameter and quantity, such as `layers.0.weight/exp_avg`."""
    return {
        f"{names[index]}/{quantity}": value
        for index, quantities in state["state"].items()
        for quantity, value in quantities.items()
        if isinstance(value, torch.Tensor)
    }
