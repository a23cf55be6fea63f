"""Optimizers and learning rate schedules by name, each with its settings, and checks of the parameters that an optimizer gets.

The ledger rejects settings of other optimizers and schedules. Schedules are stateless: the factor of the rate depends only on the step.
Fused variants in torch are bit-identical on every x86-64 CPU; the other variants use the square root of MKL, which is not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.utils._pytree import tree_leaves

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.suggestions import counted
from trainer.settings.determinism import Level
from trainer.settings.ledger import call_configured, configured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import lightning as L
    from torch.optim import Optimizer

    Parameters = Iterable[Any]
    """Parameters, or groups of parameters as torch takes them."""

_FUSED: Final = ("adamw", "adam", "adagrad")
"""Optimizers with a fused kernel, which supports real numbers only."""
ANY_CPU: Final = ("adamw", "adam", "adagrad", "sgd")
"""Optimizers that are bit-identical on every x86-64 CPU."""


@configured
def make_optimizer(parameters: Parameters, *, optimizer: str, determinism: Level) -> Optimizer:
    """Return the named optimizer over `parameters`. Raise `SettingError` if it does not support the level of determinism."""
    if determinism is Level.PORTABLE and optimizer not in ANY_CPU:
        message = f"optimizer is {optimizer} at determinism portable, but its square roots differ between CPUs"
        raise SettingError(
            f"{message}; expected {', '.join(ANY_CPU)}", hint="choose another optimizer, or determinism machine"
        )
    return _OPTIMIZERS[optimizer](list(parameters))


@configured
def adamw(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return torch.optim.AdamW(
        parameters, learning_rate, (beta1, beta2), epsilon, weight_decay, fused=call_configured(may_fuse)
    )


@configured
def adam(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""
    return torch.optim.Adam(
        parameters, learning_rate, (beta1, beta2), epsilon, weight_decay, fused=call_configured(may_fuse)
    )


@configured
def nadam(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam with Nesterov momentum (Dozat, 2016)."""
    return torch.optim.NAdam(parameters, learning_rate, (beta1, beta2), epsilon, weight_decay)


@configured
def radam(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam with rectified variance, an automatic warm-up (Liu et al., 2020)."""
    return torch.optim.RAdam(parameters, learning_rate, (beta1, beta2), epsilon, weight_decay)


@configured
def rmsprop(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta2: float, epsilon: float
) -> Optimizer:
    """RMSprop: gradients divided by the root of their mean square, smoothed by `beta2` (Tieleman and Hinton, 2012)."""
    return torch.optim.RMSprop(parameters, lr=learning_rate, weight_decay=weight_decay, alpha=beta2, eps=epsilon)


@configured
def adagrad(parameters: Parameters, *, learning_rate: float, weight_decay: float, epsilon: float) -> Optimizer:
    """Adagrad: gradients divided by the root of the sum of their squares (Duchi et al., 2011)."""
    parameters = list(parameters)
    each_parameter = (one for each in parameters for one in (each["params"] if isinstance(each, dict) else [each]))
    # Torch has a fused Adagrad for the CPU only.
    fused = call_configured(may_fuse) and all(each.device.type == "cpu" for each in each_parameter)
    return torch.optim.Adagrad(parameters, lr=learning_rate, weight_decay=weight_decay, eps=epsilon, fused=fused)


@configured
def sgd(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, momentum: float, nesterov: bool
) -> Optimizer:
    """Gradient descent with momentum."""
    if nesterov and not momentum:
        raise SettingError("setting nesterov is on, but momentum is 0", hint="use --momentum 0.9, or omit nesterov")
    return torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=nesterov)


@configured
def may_fuse(*, precision: str, clip_norm: float | None) -> bool:
    """Return whether a fused kernel can be used: in mixed precision it unscales the gradients itself, after Lightning clips them."""
    return clip_norm is None or not precision.endswith("-mixed")


_OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {
    "adamw": adamw,
    "adam": adam,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "sgd": sgd,
}


def steps_of_each(trainer: L.Trainer, *, optimizers: int) -> int:
    """Return the number of steps of each of a run's optimizers."""
    steps, most = int(trainer.estimated_stepping_batches), trainer.max_steps
    return min(steps, -(-most // optimizers)) if most > 0 else steps  # Lightning counts the steps of all optimizers


def describe_short_warmup(schedule: LRScheduler, *, steps: int) -> str:
    """Return a note on a schedule of this module whose warm-up is not complete after `steps`; else an empty string."""
    if not isinstance(schedule, LambdaLR):
        return ""
    warmup_steps = round(
        1 / schedule.lr_lambdas[0](0)
    )  # read from the first factor: a schedule without warm-up does not use the setting
    if warmup_steps <= steps:
        return ""
    reached = f"the learning rate increases only to {steps / warmup_steps:.2g} of learning_rate"
    return f"warmup_steps is {warmup_steps:,}, but the run has {counted(steps, 'optimizer step')}: {reached}"


@configured
def make_schedule(optimizer: Optimizer, *, steps: int, schedule: str) -> LRScheduler:
    """Return the named schedule for a run of `steps`."""
    return _SCHEDULES[schedule](optimizer, steps)


@configured
def constant(optimizer: Optimizer, steps: int, *, warmup_steps: int) -> LRScheduler:
    """A constant rate after the warm-up."""
    del steps
    return _after_warmup(optimizer, warmup_steps, lambda _: 1.0)


@configured
def cosine(optimizer: Optimizer, steps: int, *, warmup_steps: int, final_rate: float) -> LRScheduler:
    """A half cosine down to `final_rate` (Loshchilov and Hutter, 2017)."""

    def factor(step: int) -> float:
        half = 0.5 * (1.0 + math.cos(math.pi * _completed(step, warmup_steps, steps)))
        return final_rate + (1.0 - final_rate) * half

    return _after_warmup(optimizer, warmup_steps, factor)


@configured
def linear(optimizer: Optimizer, steps: int, *, warmup_steps: int, final_rate: float) -> LRScheduler:
    """A linear decrease to `final_rate`."""
    return _after_warmup(
        optimizer, warmup_steps, lambda step: 1.0 - (1.0 - final_rate) * _completed(step, warmup_steps, steps)
    )


@configured
def step(optimizer: Optimizer, steps: int, *, warmup_steps: int, step_size: int, gamma: float) -> LRScheduler:
    """A multiplication by `gamma` every `step_size` steps after the warm-up."""
    del steps
    return _after_warmup(optimizer, warmup_steps, lambda step: gamma ** ((step - warmup_steps) // step_size))


@configured
def one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Torch's one-cycle schedule: an increase for 30% of the steps, then a decrease to about 0 (Smith and Topin, 2018).

    The momentum stays constant.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=rates, total_steps=max(steps, 2), cycle_momentum=False)


def _after_warmup(optimizer: Optimizer, warmup_steps: int, factor: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: (step + 1) / warmup_steps if step < warmup_steps else factor(step))


def _completed(step: int, warmup_steps: int, steps: int) -> float:
    return min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))


_SCHEDULES: Final[dict[str, Callable[..., LRScheduler]]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "one_cycle": one_cycle,
}


@configured
def require_trainable(net: nn.Module, *, optimizer: str) -> None:
    """Raise `ExperimentError` if the net has no trainable parameter, or a parameter that the optimizer does not support."""
    parameters = list(net.named_parameters())
    if not parameters:
        message = f"{type(net).__name__} has no parameters: there is nothing to train"
        raise ExperimentError(
            message, hint="keep layers as attributes, or in an nn.ModuleList: those in a plain list are not found"
        )
    trained = {name: each for name, each in parameters if each.requires_grad}
    if not trained:
        message = f"{type(net).__name__} has no parameter to train: requires_grad is False for all {len(parameters)}"
        raise ExperimentError(message, hint="leave a parameter with requires_grad=True")
    for name, each in trained.items():  # the module of an uninitialized parameter sets its size at the first call
        if optimizer in _FUSED and not isinstance(each, UninitializedParameter) and each.is_complex():
            kind = str(each.dtype).removeprefix("torch.")
            raise ExperimentError(
                f"parameter {name} is {kind}; {optimizer} supports real parameters only, expected float32",
                hint="use --optimizer sgd, or a real parameter with torch.view_as_complex in forward",
            )
    for name, module in net.named_modules():
        is_sparse = isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
        if is_sparse and optimizer != "sgd" and any(each.requires_grad for each in module.parameters()):
            raise ExperimentError(
                f"{name} ({type(module).__name__}) produces sparse gradients, which {optimizer} does not support",
                hint="create it with sparse=False, or use --optimizer sgd",
            )


def require_reached(net: nn.Module, predicted: Any, parameters: Iterable[Tensor]) -> None:
    """Raise `ExperimentError` if the output of `forward` depends on a parameter not in `parameters`: it would not be trained."""
    known = {id(each) for each in parameters}
    for leaf in _leaves([each for each in tree_leaves(predicted) if isinstance(each, Tensor)]):
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known:
            kind, name = str(leaf.dtype).removeprefix("torch."), type(net).__name__
            raise ExperimentError(
                f"{name}.forward uses a parameter, {kind} {list(leaf.shape)}, that the optimizer does not have: it is never trained",
                hint="make layers in the constructor, and keep them as attributes or in an nn.ModuleList: the optimizer "
                "does not have those of a plain list or dict, and those made in `forward`",
            )


def _leaves(tensors: list[Tensor]) -> Iterator[Tensor]:
    """Yield the leaf tensors that receive gradients from any of these tensors."""
    waiting, seen = [each.grad_fn for each in tensors], set[Any]()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [each for each, _ in node.next_functions]
