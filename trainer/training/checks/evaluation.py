"""Checks of evaluation: it does not train, it is repeatable, and the output for a sample does not depend on other samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.training.check_result import CheckFailed, NothingToCheck, listed, require
from trainer.training.checks import module_location
from trainer.training.checks.first_epoch import outputs
from trainer.training.determinism.seeds import seed_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from trainer.training.checks.subject import Trial
    from trainer.training.tasks.task import Task


def evaluation(trial: Trial) -> str:
    """Pass a batch twice and validate a batch, in eval mode."""
    net = trial.net.eval()
    before = _state(net)
    first, second = _seeded(net, trial.given, seed=1), _seeded(net, trial.given, seed=2)
    training = [name or "the net" for name, module in net.named_modules() if module.training]
    require(not training, f"a pass in eval mode switches to training mode: {listed(training)}")
    if not all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        place = _first(net, trial.given, trial.given, lambda one, other: not torch.equal(one, other))
        raise CheckFailed(
            f"two passes in eval mode give different outputs{place}", look="random numbers drawn in forward"
        )
    with torch.no_grad():
        net.validation_step(trial.batch, 0)
    changed = [name for name, value in _state(net).items() if not torch.equal(value, before[name])]
    require(not changed, f"a validation changes {listed(changed)}")
    return f"two passes are equal; {len(before)} weights and buffers are unchanged"


def order(trial: Trial) -> str:
    """Pass samples in another order, with other samples, and alone, in eval mode."""
    net, given = trial.net.eval(), trial.given
    whole = outputs(net, given)
    if not all(bool(torch.isfinite(output).all()) for output in whole):
        raise NothingToCheck("the net's output is not finite")
    turned = torch.arange(len(given) - 1, -1, -1, device=given.device)
    moved = outputs(net, given[turned])
    require(_close(moved, [output[turned] for output in whole]), "the outputs depend on the order of the samples")
    others = given[:1].expand(given.shape).contiguous()
    first = [output[:1] for output in whole]
    if not _close([output[:1] for output in outputs(net, others)], first):
        place = _first(net, given, others, _of_the_first(len(given)))
        raise CheckFailed(f"the output of the first sample depends on the other samples of its batch{place}")
    alone = outputs(net, given[:1].contiguous())
    shapes = [list(output.shape) for output in alone]
    fits = shapes == [list(output.shape) for output in first]
    require(fits, f"the outputs of a batch of one have the shape {shapes}", look="squeeze() without a dimension")
    require(_close(alone, first), "the output of the first sample is different in a batch of one")
    return f"{len(given)} samples: each output is the same in reverse order, with other samples and alone"


def _seeded(net: Task, given: Tensor, *, seed: int) -> list[Tensor]:
    seed_all(seed)
    return outputs(net, given)


def _state(net: Task) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in [*net.named_parameters(), *net.named_buffers()]}


def _close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return not any(bool(module_location.far(one, other).any()) for one, other in zip(found, expected, strict=True))


def _of_the_first(count: int) -> Callable[[Tensor, Tensor], bool]:
    """Return a function that compares the first sample's row of two tensors with `count` rows."""

    def apart(one: Tensor, other: Tensor) -> bool:
        return one.dim() > 0 and len(one) == count and bool(module_location.far(one[:1], other[:1]).any())

    return apart


def _first(net: Task, given: Tensor, instead: Tensor, apart: Callable[[Tensor, Tensor], bool]) -> str:
    """Return the first module whose output differs between two passes, as a phrase to append to a finding."""
    call = module_location.first_difference(
        module_location.record_pass(net, given, seed=1), module_location.record_pass(net, instead, seed=2), apart
    )
    return module_location.first_in(call)
