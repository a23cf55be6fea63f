"""Checks that outputs in eval mode are deterministic and independent of other samples, and that no output depends on a later input."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map

from trainer.base.suggestions import counted
from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck, listed, require
from trainer.training.checks import module_location
from trainer.training.checks.first_epoch import outputs
from trainer.training.checks.subject import state_of
from trainer.training.determinism.seeds import seed_all
from trainer.training.tasks.fit_checks import evaluating
from trainer.training.tasks.outputs import leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from trainer.training.checks.subject import Trial
    from trainer.training.tasks.task import Task

_NORMS: Final = (_NormBase, nn.LayerNorm, nn.GroupNorm)
_HINTS: Final[tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...]] = (
    (_ConvNd, "pad only on the left, F.pad(values, (kernel - 1, 0)), with padding=0"),
    (_NORMS, "normalize each position separately, not over time"),
    (nn.RNNBase, "bidirectional=False"),
    (nn.MultiheadAttention, "pass a causal mask: attn_mask, True for positions to ignore"),
    ((nn.TransformerEncoder, nn.TransformerEncoderLayer), "pass a causal mask: mask=..., is_causal=True"),
)


def evaluation(trial: Trial) -> str:
    """Compare the outputs of two passes in eval mode, and the weights and buffers before and after a validation step."""
    net = trial.net.eval()
    before = state_of(net)
    seed_all(1)
    first = outputs(net, trial.given)
    seed_all(2)
    second = outputs(net, trial.given)
    training = [name or "the net" for name, module in net.named_modules() if module.training]
    require(not training, f"a pass in eval mode switches to training mode: {listed(training)}")
    if not all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        place = _first_difference(net, trial.given, trial.given, lambda one, other: not torch.equal(one, other))
        raise CheckFailed(
            f"two passes in eval mode return different outputs{place}", hint="look for random numbers drawn in forward"
        )
    with torch.no_grad():
        net.validation_step(trial.batch, 0)
    changed = [name for name, value in state_of(net).items() if not torch.equal(value, before[name])]
    require(not changed, f"a validation changes {listed(changed)}")
    return f"two passes are equal; {len(before)} weights and buffers are unchanged"


def order(trial: Trial) -> str:
    """Compare outputs in eval mode with the outputs for the reversed batch, for a batch of other samples, and for a single sample."""
    net, given = trial.net.eval(), trial.given
    whole = outputs(net, given)
    if not all(bool(torch.isfinite(output).all()) for output in whole):
        raise NothingToCheck("the net's output is not finite")
    count = len(leaves(given)[0])
    reverse = torch.arange(count - 1, -1, -1, device=leaves(given)[0].device)
    reversed_outputs = outputs(net, tree_map(lambda each: each[reverse], given))
    require(
        _close(reversed_outputs, [output[reverse] for output in whole]),
        "the outputs depend on the order of the samples",
    )
    others = tree_map(lambda each: each[:1].expand(each.shape).contiguous(), given)
    first = [output[:1] for output in whole]
    if not _close([output[:1] for output in outputs(net, others)], first):

        def differ(one: Tensor, other: Tensor) -> bool:  # compares only the row of the first sample
            return one.dim() > 0 and len(one) == count and bool(module_location.far(one[:1], other[:1]).any())

        place = _first_difference(net, given, others, differ)
        raise CheckFailed(f"the output of the first sample depends on the other samples of its batch{place}")
    alone = outputs(net, tree_map(lambda each: each[:1].contiguous(), given))
    shapes, expected = ([list(output.shape) for output in some] for some in (alone, first))
    require(
        shapes == expected,
        f"for 1 sample the net returns {listed(list(map(str, shapes)))}; expected {listed(list(map(str, expected)))}",
        hint="look for squeeze() without a dimension",
    )
    require(_close(alone, first), "the output of the first sample is different in a batch of one sample")
    return f"{counted(count, 'sample')}: each output is the same in reverse order, with other samples and alone"


def _close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return not any(bool(module_location.far(one, other).any()) for one, other in zip(found, expected, strict=True))


def _first_difference(net: Task, given: Any, instead: Any, apart: Callable[[Tensor, Tensor], bool]) -> str:
    """Return the first module whose output differs between two passes, as a phrase to append to a finding."""
    call = module_location.first_difference(
        module_location.record_pass(net, given, seed=1), module_location.record_pass(net, instead, seed=2), apart
    )
    return module_location.first_in(call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """An output that depends on a later input: its position, the last position that affects it, and the changed inputs that show it."""

    place: int
    ahead: int
    changed: Tensor

    def describe(self, places: int) -> str:
        """Return the text of the finding."""
        return f"the output at position {self.place} depends on the input at position {self.ahead} (positions are 0 to {places - 1})"


def causality(trial: Trial) -> str:
    """Change the inputs after a position and compare the outputs up to that position, first in eval mode, then in training mode."""
    net, given = trial.net, trial.given
    if not type(net).causal:
        raise NothingToCheck("the task is not causal (`causal` is False)")
    if given.dim() < 2 or given.shape[1] < 2:  # noqa: PLR2004 - batch and time
        raise NothingToCheck(f"the input has the shape {list(given.shape)}: fewer than two positions")
    places = given.shape[1]
    with evaluating(net), _restoring_buffers(net):
        if leak := _find_leak(net, given):
            module = _leaking_module(net, given, leak)
            raise CheckFailed(f"{leak.describe(places)}{module_location.first_in(module)}", hint=_hint(module))
        if leak := _find_leak(net.train(), given):
            module = _leaking_module(net, given, leak)
            message = f"{leak.describe(places)}{module_location.first_in(module)}"
            message = f"in eval mode no output depends on later inputs; in training mode {message}"
            raise CheckNote(message, hint="the training loss is too low; the metrics of val and test are correct")
    return f"{places} positions: no output depends on a later input, in eval and training mode"


def _find_leak(net: Task, given: Tensor) -> Leak | None:
    """Return an output that depends on a later input, or None.

    Raise `NothingToCheck` if an output has NaN or no positions, or if two passes of one batch differ.
    """
    before = _outputs_by_position(net, given)
    if any(bool(output.isnan().any()) for output in before):
        raise NothingToCheck("the net's output has NaN")
    if not all(torch.equal(one, two) for one, two in zip(before, _outputs_by_position(net, given), strict=True)):
        raise NothingToCheck("two passes of one batch return different outputs")
    last = given.shape[1] - 1
    for cut in sorted({0, last // 4, last // 2, 3 * last // 4, last - 1}):
        changed = _with_changed_end(given, cut + 1)
        apart = [
            _differing_positions(one, two) for one, two in zip(before, _outputs_by_position(net, changed), strict=True)
        ]
        found = [int(each[: cut + 1].nonzero()[0]) for each in apart if bool(each[: cut + 1].any())]
        if found:
            place = min(found)
            return Leak(place=place, ahead=_furthest_input(net, given, place, sees=cut + 1), changed=changed)
    return None


def _furthest_input(net: Task, given: Tensor, place: int, *, sees: int) -> int:
    """Return the position of the last input on which the output at `place` depends; changes from `sees` on must affect this output."""
    before, none = _outputs_by_position(net, given), given.shape[1]
    while none - sees > 1:
        middle = (sees + none) // 2
        after = _outputs_by_position(net, _with_changed_end(given, middle))
        seen = any(bool(_differing_positions(one, two)[place]) for one, two in zip(before, after, strict=True))
        sees, none = (middle, none) if seen else (sees, middle)
    return sees


def _with_changed_end(given: Tensor, first: int) -> Tensor:
    """Return the inputs with the positions from `first` on replaced by the previous sample's, in reversed order."""
    return torch.cat([given[:, :first], given.roll(1, dims=0).flip(1)[:, first:]], dim=1)


def _outputs_by_position(net: Task, given: Tensor) -> list[Tensor]:
    """Return the outputs that have positions, `[batch, time, ...]`. Raise `NothingToCheck` if there are none."""
    seed_all(0)
    found = [output for output in outputs(net, given) if output.shape[:2] == given.shape[:2]]
    if not found:
        raise NothingToCheck(
            f"the net's output is not [{given.shape[0]}, {given.shape[1]}, ...]: positions cannot be compared"
        )
    return found


def _differing_positions(one: Tensor, other: Tensor) -> Tensor:
    """Return the mask `[time]` of the positions at which two outputs differ."""
    return module_location.far(one, other).flatten(2).any(dim=2).any(dim=0)


def _leaking_module(net: Task, given: Tensor, leak: Leak) -> module_location.Call | None:
    """Return the innermost module whose output depends on later positions and whose inputs do not."""
    time, kept = given.shape[1], leak.place + 1

    def leaks(one: Tensor, other: Tensor, *, unknown: bool = False) -> bool:
        axes = [axis for axis, size in enumerate(one.shape) if size == time]
        if not axes:
            return unknown and not torch.equal(one, other)
        return all(
            bool(module_location.far(one.narrow(axis, 0, kept), other.narrow(axis, 0, kept)).any()) for axis in axes
        )

    before, after = module_location.record_pass(net, given), module_location.record_pass(net, leak.changed)
    return module_location.first_difference(
        before, after, leaks, given=lambda one, other: leaks(one, other, unknown=True)
    )


def _hint(call: module_location.Call | None) -> str | None:
    return next((hint for kinds, hint in _HINTS if call and isinstance(call.module, kinds)), None)


@contextmanager
def _restoring_buffers(net: Task) -> Iterator[None]:
    """Restore the net's buffers at the end of the block: passes in training mode change them."""
    buffers = {buffer: buffer.clone() for buffer in net.buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
