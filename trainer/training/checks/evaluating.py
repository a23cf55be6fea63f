"""Checks of evaluation: it trains nothing, it comes out the same twice, and what is told of a sample depends on no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from trainer.training.checks.fitting import outputs
from trainer.training.checks.wrong import Nothing, listed, require
from trainer.training.determinism.seeds import seed_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trainer.training.checks.trial import Trial
    from trainer.training.tasks.task import Task

_CLOSE: Final = 1e-4
"""Kernels for other batch sizes add in another order: how far apart outputs may be, relative to the largest of them."""


def evaluation(trial: Trial) -> str:
    """Pass a batch twice, and validate one, in eval mode."""
    net = trial.net.eval()
    before = _state(net)
    first, second = _seeded(net, trial.given, seed=1), _seeded(net, trial.given, seed=2)
    training = [name or "the net" for name, module in net.named_modules() if module.training]
    require(not training, f"a pass in eval mode switches training on: {listed(training)}")
    same = all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    require(same, "two passes in eval mode give different outputs", look="what draws random numbers in forward")
    with torch.no_grad():
        net.validation_step(trial.batch, 0)
    changed = [name for name, value in _state(net).items() if not torch.equal(value, before[name])]
    require(not changed, f"a validation changes {listed(changed)}")
    return f"two passes are equal, and {len(before)} weights and buffers stay as they are"


def order(trial: Trial) -> str:
    """Pass samples in another order, beside others, and alone, in eval mode."""
    net, given = trial.net.eval(), trial.given
    whole = outputs(net, given)
    if not all(bool(torch.isfinite(output).all()) for output in whole):
        raise Nothing("what the net gives is not finite")
    turned = torch.arange(len(given) - 1, -1, -1, device=given.device)
    moved = outputs(net, given[turned])
    require(_close(moved, [output[turned] for output in whole]), "in another order, samples get other outputs")
    beside = outputs(net, given[:1].expand(given.shape).contiguous())
    first = [output[:1] for output in whole]
    require(
        _close([output[:1] for output in beside], first),
        "the first sample gets another output when the others of its batch are replaced",
    )
    alone = outputs(net, given[:1].contiguous())
    shapes = [list(output.shape) for output in alone]
    fits = shapes == [list(output.shape) for output in first]
    require(fits, f"alone in a batch, a sample gets outputs of shape {shapes}", look="squeeze() without a dimension")
    require(_close(alone, first), "alone in a batch, the first sample gets another output")
    return f"{len(given)} samples: in reverse, beside others and alone, each gets the output that is its own"


def _seeded(net: Task, given: Tensor, *, seed: int) -> list[Tensor]:
    seed_all(seed)
    return outputs(net, given)


def _state(net: Task) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in [*net.named_parameters(), *net.named_buffers()]}


def _close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(
        bool((one.double() - other.double()).abs().max() <= _CLOSE * max(1e-6, float(other.double().abs().max())))
        for one, other in zip(found, expected, strict=True)
    )
