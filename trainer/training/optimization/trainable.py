"""Checks of parameters before the first step, with errors that name an unsupported parameter.

Torch's optimizers reject some kinds of parameters at the first step, and leave others unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from torch import nn
from torch.nn.parameter import UninitializedParameter

from trainer.base.errors import ExperimentError
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

_FUSED: Final = ("adamw", "adam", "adagrad")
"""Optimizers with a fused kernel, which supports real numbers only."""
_TAKES_SPARSE: Final = ("sgd",)


@configured
def require_trainable(net: nn.Module, *, optimizer: str) -> None:
    """Raise `ExperimentError` if the net has no trainable parameter, or a parameter that the optimizer does not support."""
    known = list(net.named_parameters())
    if not known:
        said = f"{type(net).__name__} has no parameters: there is nothing to train"
        raise ExperimentError(
            said, hint="keep layers as attributes, or in an nn.ModuleList: those in a plain list are not found"
        )
    trained = {name: each for name, each in known if each.requires_grad}
    if not trained:
        said = f"{type(net).__name__} has no parameter to train: requires_grad is False for all {len(known)}"
        raise ExperimentError(said, hint="leave a parameter with requires_grad=True")
    for name, each in trained.items():
        _require_real(name, each, optimizer)
    for name, module in net.named_modules():
        if getattr(module, "sparse", False) is True and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            _require_sparse(name, module, optimizer)


def require_reached(net: nn.Module, predicted: Tensor, parameters: Iterable[Tensor]) -> None:
    """Raise `ExperimentError` if the output of `forward` depends on a parameter not in `parameters`: it would not be trained."""
    known = {id(each) for each in parameters}
    for leaf in _leaves(predicted):
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known:
            kind, name = str(leaf.dtype).removeprefix("torch."), type(net).__name__
            raise ExperimentError(
                f"{name}.forward uses a parameter, {kind} {list(leaf.shape)}, that the optimizer does not have: it is never trained",
                hint="make layers in the constructor, and keep them as attributes or in an nn.ModuleList: the optimizer "
                "does not have those of a plain list or dict, and those made in `forward`",
            )


def _leaves(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the leaf tensors that receive gradients from a tensor."""
    waiting, seen = [tensor.grad_fn], set[Any]()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [each for each, _ in node.next_functions]


def _require_real(name: str, parameter: Tensor, optimizer: str) -> None:
    if isinstance(parameter, UninitializedParameter):
        return  # its module sets the size at the first call, before the first step
    if parameter.is_complex() and optimizer in _FUSED:
        kind = str(parameter.dtype).removeprefix("torch.")
        raise ExperimentError(
            f"parameter {name} is {kind}; {optimizer} trains real numbers alone, expected float32",
            hint="--optimizer sgd, or keep it as real numbers: torch.view_as_complex in forward",
        )


def _require_sparse(name: str, module: nn.Module, optimizer: str) -> None:
    if optimizer not in _TAKES_SPARSE and any(each.requires_grad for each in module.parameters()):
        raise ExperimentError(
            f"{name} ({type(module).__name__}) gives sparse gradients, which {optimizer} does not take",
            hint="make it with sparse=False, or give --optimizer sgd",
        )
