"""Tensors of which each rank has a part: consecutive rows of the first dimension, as FSDP2 distributes parameters.

The ranks exchange parts and add nothing, or add in the order of a tree: no bit depends on the backend or on the size of a message.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from trainer.base.errors import ExperimentError
from trainer.training.shards.tree import MESSAGE, begin_every_rank, begin_gather, exchanging, tree_sum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
    return _rows(tensor, tensor.device_mesh.get_local_rank()).start * math.prod(tensor.shape[1:])


def _rows(tensor: DTensor, rank: int) -> range:
    """Return the numbers of the rows that a rank has of a distributed tensor; the last ranks may have fewer rows, or none."""
    rows, each = tensor.shape[0], -(-tensor.shape[0] // tensor.device_mesh.size())
    return range(min(rank * each, rows), min((rank + 1) * each, rows))


def keep_parts(net: nn.Module) -> None:
    """Free the gathered parameters of a net, so that its parameters are parts, as between two steps."""
    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def require_same_parts(tensors: Mapping[str, Tensor]) -> None:
    """Raise `ExperimentError` if the ranks have other distributed tensors: an exchange of their rows would never end.

    Every rank must call this function if one does. Raise `RankError` if the exchange fails.
    """
    text = repr([(name, each.dtype, each.shape) for name, each in tensors.items()])
    own = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    if len({*begin_every_rank([own])()}) > 1:
        message = "the devices save different distributed tensors in a checkpoint"
        raise ExperimentError(message, hint="on_save_checkpoint must add the same tensors on every device")


def bytes_on_rank_0(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the bytes of a distributed tensor on rank 0, in row-major order: pieces in CPU memory, uint8 `[n]` with n up to `MESSAGE`.

    A piece is valid until the next one is requested: rank 0 receives the rows of the other ranks piece by piece. Every rank must iterate to
    the end; the other ranks send their rows, and get no piece. Raise `RankError` if an exchange fails.
    """
    assert isinstance(tensor, DTensor)  # noqa: S101 - the caller has found `is_part`
    is_first = distributed.get_rank() == 0
    if tensor.placements != (Shard(0),):  # only an optimizer's state, or a value of `on_save_checkpoint`
        with exchanging(), torch.no_grad():
            whole: Tensor = tensor.full_tensor()
        yield from _pieces(whole) if is_first else ()
        return
    own = _pieces(part_of(tensor))
    if not is_first:
        for piece in own:
            with exchanging():
                distributed.send(piece, 0)
        return
    yield from own
    for rank in range(1, tensor.device_mesh.size()):
        size = len(_rows(tensor, rank)) * math.prod(tensor.shape[1:]) * tensor.element_size()
        received = torch.empty(min(size, MESSAGE), dtype=torch.uint8)
        for start in range(0, size, MESSAGE):
            piece = received[: size - start]
            with exchanging():
                distributed.recv(piece, rank)
            yield piece


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return (data[start : start + MESSAGE].cpu() for start in range(0, len(data), MESSAGE))


def as_part(value: Tensor, like: Tensor) -> Tensor:
    """Return a copy of this rank's rows of a whole tensor, distributed like `like`; the tensor itself if `like` is not distributed."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    rows = _rows(like, like.device_mesh.get_local_rank())
    own = value[rows.start : rows.stop].to(like.device, copy=True)
    return DTensor.from_local(own, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def load_whole(net: nn.Module, state: Mapping[str, Tensor], *, strict: bool) -> None:
    """Load whole tensors, which every rank has, into a net; its parameters may be distributed."""
    keep_parts(net)
    own = net.state_dict(keep_vars=True)
    parts = OrderedDict((name, as_part(value, own.get(name, value))) for name, value in state.items())
    if (
        versions := getattr(state, "_metadata", None)
    ) is not None:  # torch stores the versions of the modules in an attribute
        parts._metadata = versions  # type: ignore[attr-defined]  # noqa: SLF001
    net.load_state_dict(parts, strict=strict)


def norm_over_ranks(tensors: Sequence[Tensor]) -> Tensor:
    """Return the joint norm of distributed tensors, `[]`, bit-identical on all ranks. Every rank must call this function."""
    own = torch.stack(torch._foreach_norm([part_of(each) for each in tensors]))  # noqa: SLF001 - there is no public name
    squares = tree_sum(begin_gather(own.double().square()[None])())
    return squares.sum().sqrt().to(own.dtype)
