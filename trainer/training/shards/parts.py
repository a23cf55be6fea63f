"""Tensors of which each rank has a part: consecutive rows of the first dimension, as FSDP2 distributes parameters.

The ranks exchange parts and add nothing, or add in the order of a tree: no bit depends on the backend or on the size of a message.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.training.shards.tree import begin_gather, exchanging, tree_sum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


def is_part(value: object) -> bool:
    """Return whether each rank has only a part of a tensor."""
    return isinstance(value, DTensor)


def part_of(tensor: Tensor) -> Tensor:
    """Return this rank's part of a distributed tensor, without a copy, or the tensor itself if it is not distributed."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor  # noqa: SLF001 - autograd records `to_local`


def elements_before(tensor: Tensor) -> int:
    """Return the number of elements before this rank's part, in row-major order; 0 if the tensor is not distributed."""
    if not isinstance(tensor, DTensor):
        return 0
    rows, mesh = tensor.shape[0], tensor.device_mesh
    first = min(mesh.get_local_rank() * -(-rows // mesh.size()), rows)
    return first * math.prod(tensor.shape[1:])


def keep_parts(net: nn.Module) -> None:
    """Free the gathered parameters of a net, so that its parameters are parts, as between two steps."""
    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gathered(values: Any, *, keep: bool) -> Any:
    """Return nested dicts and lists with each distributed tensor replaced by the whole tensor in CPU memory, or by None unless `keep`.

    Every rank must call this function with the same names. Raise `RankError` if an exchange fails.
    """
    if isinstance(values, dict):
        return {key: gathered(value, keep=keep) for key, value in values.items()}
    if isinstance(values, list):
        return [gathered(value, keep=keep) for value in values]
    if not isinstance(values, DTensor):
        return values
    with exchanging(), torch.no_grad():
        whole: Tensor = values.full_tensor()
    return whole.cpu() if keep else None


def as_part(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, which every rank has, distributed like `like`; unchanged if `like` is not distributed."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def load_whole(net: nn.Module, state: Mapping[str, Tensor], *, strict: bool) -> None:
    """Load whole tensors, which every rank has, into a net; its parameters may be distributed."""
    keep_parts(net)
    own = net.state_dict(keep_vars=True)
    net.load_state_dict({name: as_part(value, own.get(name, value)) for name, value in state.items()}, strict=strict)


def norm_over_ranks(tensors: Sequence[Tensor]) -> Tensor:
    """Return the joint norm of distributed tensors, `[]`, bit-identical on all ranks. Every rank must call this function."""
    own = torch.stack(torch._foreach_norm([part_of(each) for each in tensors]))  # noqa: SLF001 - there is no public name
    squares = tree_sum(begin_gather(own.double().square()[None])())
    return squares.sum().sqrt().to(own.dtype)
