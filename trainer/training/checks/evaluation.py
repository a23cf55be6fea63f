"""Checks of evaluation: it does not train, it is repeatable, and the output for a sample does not depend on other samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.training.check_result import CheckFailed, NothingToCheck, listed, require
from trainer.training.checks import module_location
from trainer.training.checks.first_epoch import outputs
from trainer.training.checks.subject import state_of
from trainer.training.determinism.seeds import seed_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from trainer.training.checks.subject import Trial
    from trainer.training.tasks.task import Task


def evaluation(trial: Trial) -> str:
    """Pass a batch twice and validate a batch, in eval mode."""
    net = trial.net.eval()
    before = state_of(net)
    seed_all(1)
    first = outputs(net, trial.given)
    seed_all(2)
    second = outputs(net, trial.given)
    training = [name or "the net" for name, module in net.named_modules() if module.training]
    require(not training, f"a pass in eval mode switches to training mode: {listed(training)}")
    if not all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        place = _first(net, trial.given, trial.given, lambda one, other: not torch.equal(one, other))
        raise CheckFailed(
            f"two passes in eval mode give different outputs{place}", look="random numbers drawn in forward"
        )
    with torch.no_grad():
        net.validation_step(trial.batch, 0)
    changed = [name for name, value in state_of(net).items() if not torch.equal(value, before[name])]
    require(not changed, f"a validation changes {listed(changed)}")
    return f"two passes are equal; {len(before)} weights and buffers are unchanged"


def order(trial: Trial) -> str:
    """Pass samples in another order, with other samples, and alone, in eval mode."""
    net, given = trial.net.eval(), trial.given
    whole = outputs(net, given)
    if not all(bool(torch.isfinite(output).all()) for output in whole):
        raise NothingToCheck("the net's output is not finite")
    reverse = torch.arange(len(given) - 1, -1, -1, device=given.device)
    reversed_outputs = outputs(net, given[reverse])
    require(
        _close(reversed_outputs, [output[reverse] for output in whole]),
        "the outputs depend on the order of the samples",
    )
    others = given[:1].expand(given.shape).contiguous()
    first = [output[:1] for output in whole]
    if not _close([output[:1] for output in outputs(net, others)], first):

        def differ(one: Tensor, other: Tensor) -> bool:  # the first sample's row
            return one.dim() > 0 and len(one) == len(given) and bool(module_location.far(one[:1], other[:1]).any())

        place = _first(net, given, others, differ)
        raise CheckFailed(f"the output of the first sample depends on the other samples of its batch{place}")
    alone = outputs(net, given[:1].contiguous())
    shapes = [list(output.shape) for output in alone]
    fits = shapes == [list(output.shape) for output in first]
    require(fits, f"the outputs of a batch of one have the shape {shapes}", look="squeeze() without a dimension")
    require(_close(alone, first), "the output of the first sample is different in a batch of one")
    return f"{len(given)} samples: each output is the same in reverse order, with other samples and alone"


def _close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return not any(bool(module_location.far(one, other).any()) for one, other in zip(found, expected, strict=True))


def _first(net: Task, given: Tensor, instead: Tensor, apart: Callable[[Tensor, Tensor], bool]) -> str:
    """Return the first module whose output differs between two passes, as a phrase to append to a finding."""
    call = module_location.first_difference(
        module_location.record_pass(net, given, seed=1), module_location.record_pass(net, instead, seed=2), apart
    )
    return module_location.first_in(call)
