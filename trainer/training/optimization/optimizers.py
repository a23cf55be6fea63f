"""Optimizers by name, each with its settings; the ledger rejects settings of other optimizers.

Fused variants in torch are bit-identical on every x86-64 CPU; the other variants use the square root of MKL, which is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from trainer.base.errors import SettingError
from trainer.settings.determinism import Level
from trainer.settings.ledger import configured, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn
    from torch.optim import Optimizer

    Parameters = Iterable[nn.Parameter]

ANY_CPU: Final = ("adamw", "adam", "adagrad", "sgd")
"""Optimizers that are bit-identical on every x86-64 CPU."""


@configured
def make_optimizer(parameters: Parameters, *, optimizer: str, determinism: Level) -> Optimizer:
    """Return the named optimizer over `parameters`. Raise `SettingError` if it does not support the level of determinism."""
    if determinism is Level.PORTABLE and optimizer not in ANY_CPU:
        said = f"optimizer is {optimizer} at determinism portable; expected {', '.join(ANY_CPU)}"
        raise SettingError(f"{said}: its square roots differ between CPUs", hint="or choose determinism machine")
    chosen: Optimizer = _OPTIMIZERS[optimizer](list(parameters))
    return chosen


@configured
def adamw(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    how = {"lr": learning_rate, "betas": (beta1, beta2), "eps": epsilon, "weight_decay": weight_decay}
    return torch.optim.AdamW(parameters, fused=made(may_fuse), **how)  # type: ignore[arg-type]


@configured
def adam(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""
    how = {"lr": learning_rate, "betas": (beta1, beta2), "eps": epsilon, "weight_decay": weight_decay}
    return torch.optim.Adam(parameters, fused=made(may_fuse), **how)  # type: ignore[arg-type]


@configured
def nadam(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam with Nesterov momentum (Dozat, 2016)."""
    how = {"lr": learning_rate, "betas": (beta1, beta2), "eps": epsilon, "weight_decay": weight_decay}
    return torch.optim.NAdam(parameters, **how)  # type: ignore[arg-type]


@configured
def radam(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> Optimizer:
    """Adam with rectified variance, an automatic warm-up (Liu et al., 2020)."""
    how = {"lr": learning_rate, "betas": (beta1, beta2), "eps": epsilon, "weight_decay": weight_decay}
    return torch.optim.RAdam(parameters, **how)  # type: ignore[arg-type]


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
    fused = made(may_fuse) and all(each.device.type == "cpu" for each in parameters)  # torch has no other
    return torch.optim.Adagrad(parameters, lr=learning_rate, weight_decay=weight_decay, eps=epsilon, fused=fused)


@configured
def sgd(
    parameters: Parameters, *, learning_rate: float, weight_decay: float, momentum: float, nesterov: bool
) -> Optimizer:
    """Gradient descent with momentum."""
    if nesterov and not momentum:
        raise SettingError(
            "setting nesterov is on, and momentum is 0", hint="give --momentum 0.9, or leave nesterov out"
        )
    return torch.optim.SGD(
        parameters, lr=learning_rate, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov
    )


@configured
def may_fuse(*, precision: str, clip_norm: float | None) -> bool:
    """Return whether a fused kernel can be used: in mixed precision it unscales the gradients itself, after Lightning would clip."""
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
