"""A net whose parameters are distributed over the ranks by FSDP2: each rank has a part of each parameter, gradient and optimizer state.

A block of the net gathers its parameters while it computes. The gradients of the ranks are summed in the order of a tree, so that neither
the backend nor the size of a message can change a bit. Nets for which FSDP2 would compute wrong results without an error are rejected.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather, DefaultReduceScatter

from trainer.base.errors import ExperimentError, SettingError
from trainer.training.shards.connections import connecting
from trainer.training.shards.parts import is_part, keep_parts
from trainer.training.shards.tree import exchanging, tree_sum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

_STEPS: Final = ("training_step", "validation_step", "test_step")
_LISTS: Final = (nn.ModuleList, nn.ModuleDict)
_OMIT: Final = "or omit --strategy"


def unsuitable(net: nn.Module) -> str | None:
    """Return why the parameters of a net cannot be distributed, or None if they can."""
    for name, each in net.named_parameters():
        if each.ndim == 0:
            return f"parameter {name} is a scalar, which cannot be distributed; make it torch.ones(1)"
        if not each.is_floating_point():
            return f"parameter {name} is {str(each.dtype).removeprefix('torch.')}; expected real floating-point numbers"
        if not each.is_contiguous():
            return f"parameter {name} is not contiguous; create it with .contiguous()"
    kinds = {each.dtype: name for name, each in net.named_parameters() if each.requires_grad}
    if len(kinds) > 1:
        return f"parameters {' and '.join(kinds.values())} have different dtypes"
    embeddings = [each for each in net.named_modules() if isinstance(each[1], nn.Embedding | nn.EmbeddingBag)]
    if sparse := [name for name, each in embeddings if each.sparse]:
        return f"{sparse[0]} has sparse gradients; create it with sparse=False"
    return None


def require_distributable(net: nn.Module) -> None:
    """Raise `SettingError` if the parameters of a net cannot be distributed."""
    if why := unsuitable(net):
        message = f"setting strategy is fsdp, which {type(net).__name__} does not support: {why}"
        raise SettingError(message, hint="omit --strategy")


def blocks_of(net: nn.Module) -> list[nn.Module]:
    """Return the blocks, which gather their parameters separately: the elements of the outermost lists and sequences of modules.

    A module that shares a parameter with another module is not a block; its parameters are gathered for the whole step.
    """
    uses = Counter(map(id, _parameters(net)))
    return list(dict.fromkeys(_blocks(net, uses)))


def _blocks(module: nn.Module, uses: Counter[int]) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, (*_LISTS, nn.Sequential)) and not isinstance(child, _LISTS):
            own = Counter(map(id, _parameters(child)))
            if own and all(uses[key] == count for key, count in own.items()):
                yield child
        else:
            yield from _blocks(child, uses)


def _parameters(net: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of all modules; a shared parameter is yielded once for each module."""
    own = chain.from_iterable(each._parameters.values() for each in net.modules())  # noqa: SLF001 - `parameters` omits repeated ones
    return (each for each in own if each is not None)


class FullySharded:
    """The distribution of a net's parameters over the ranks, and the checks of their use in each step."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        """Distribute the parameters over all ranks; `device` is this rank's device.

        Each block is moved to the device when it is distributed, so the whole net need not fit on the device. Raise `SettingError` if the
        parameters cannot be distributed, and `RankError` if an exchange fails.
        """
        require_distributable(net)
        self.net = net
        self.calls: list[int] = []
        """The exchanges in this step: the number of the unit for its parameters, the negative number for its gradients."""
        self.used: set[str] = set()
        """The parameters that the current shard used."""
        self.watched: set[str] = set()
        with exchanging(), connecting():
            mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        units: list[Any] = [*blocks_of(net), net]
        for number, unit in enumerate(units, start=1):
            fully_shard(unit, mesh=mesh)
            unit.set_custom_all_gather(_Gather(number, self.calls))
            unit.set_custom_reduce_scatter(_TreeReduceScatter(number, self.calls))
            unit.set_gradient_divide_factor(1.0)  # the strategy divides
            unit.set_force_sum_reduction_for_comms(True)
            unit.set_reduce_scatter_unused_params(True)
        net.to(device)  # metrics, which have no parameters
        for name in _STEPS:
            register_fsdp_forward_method(net, name)
        self.whole = dict(self._gathered_parameters(units))
        """The gathered parameters that a forward pass uses, by name; their memory is freed between two passes."""

    def _gathered_parameters(self, units: Sequence[Any]) -> Iterator[tuple[str, nn.Parameter]]:
        for unit in units:
            unit.unshard()
            yield from ((name, each) for name, each in self.net.named_parameters() if not is_part(each))
            unit.reshard()

    def begin_step(self) -> None:
        """Free the gathered parameters, and begin to record which of them the step uses or changes."""
        keep_parts(self.net)
        self.calls.clear()
        for name, each in self.net.named_parameters():
            if each.requires_grad and name not in self.watched:
                self.watched.add(name)
                whole: Any = self.whole[name].requires_grad_()  # torch has no types for hooks
                whole.register_post_accumulate_grad_hook(partial(self._note, name))
                part: Any = each
                part.register_hook(partial(_reject, name))
        self.versions = {name: each._version for name, each in self.whole.items()}  # noqa: SLF001 - the counter of in-place changes

    def begin_shard(self) -> None:
        """Clear the record of used parameters."""
        self.used.clear()

    def _note(self, name: str, _: Tensor) -> None:
        self.used.add(name)

    @property
    def order(self) -> int:
        """A 63-bit fingerprint of the step's exchanges, equal on all ranks that called the same blocks in the same order."""
        value = 0
        for number in self.calls:
            value = (value * 1_000_003 + number) % (1 << 63)
        return value

    def end_step(self) -> None:
        """Raise `ExperimentError` if the step changed a gathered parameter in place: the change is lost."""
        changed = (name for name, each in self.whole.items() if each._version != self.versions[name])  # noqa: SLF001 - see `begin_step`
        if name := next(changed, None):
            message = f"the net changes its parameter {name} in a step: with --strategy fsdp the change would be lost"
            raise ExperimentError(message, hint=f"change it between two steps (`on_train_batch_end`), {_OMIT}")


def _reject(name: str, _: Tensor) -> None:
    """Raise `ExperimentError`: a gradient that autograd computed for a rank's part would not be summed over the ranks."""
    message = f"the loss uses parameter {name} outside of the call of the module that has it"
    raise ExperimentError(message, hint=f"call the module, or read the parameter in its `forward`, {_OMIT}")


class _Gather(DefaultAllGather):
    """The exchange in which every rank receives the parameters of a unit."""

    def __init__(self, number: int, calls: list[int]) -> None:
        super().__init__()
        self.number, self.calls = number, calls

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False) -> Any:  # noqa: FBT001, FBT002 - torch's signature
        """Gather the parts. Raise `RankError` if the exchange fails."""
        self.calls.append(self.number)
        with exchanging():
            return distributed.all_gather_single(output_tensor, input_tensor, group=group, async_op=async_op)


class _TreeReduceScatter(DefaultReduceScatter):
    """The exchange in which every rank receives its part of a unit's gradients, summed in the order of a tree."""

    def __init__(self, number: int, calls: list[int]) -> None:
        super().__init__()
        self.number, self.calls = number, calls

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: Any,
        op: Any,
        async_op: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    ) -> Any:
        """Exchange and sum the parts. Raise `RankError` if the exchange fails."""
        del async_op  # ignored: the sum below needs the received values, so the exchange is always synchronous
        assert op == distributed.ReduceOp.SUM  # noqa: S101 - the strategy divides the sums
        self.calls.append(-self.number)
        received = torch.empty_like(input_tensor)
        with exchanging():
            distributed.all_to_all_single(received, input_tensor, group=group)
        output_tensor.copy_(tree_sum(received.view(distributed.get_world_size(group), -1)))
