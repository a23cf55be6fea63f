"""The location of a problem in a net: the innermost module, by name and type, found by comparing two passes call by call.

Outputs are compared with a tolerance, because a kernel may add in another order for another batch size.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from trainer.training.determinism.seeds import seed_all
from trainer.training.tasks.outputs import called

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Differ = Callable[[Tensor, Tensor], bool]

TOLERANCE: Final = 1e-4
"""The largest difference between values that count as equal, relative to the largest value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a module: inputs and outputs."""

    name: str
    module: nn.Module
    inputs: list[Tensor]
    outputs: list[Tensor]


@dataclass(slots=True)
class Pass:
    """A pass of a net: the completed calls in order, and the calls that were running at a failure, the innermost last."""

    ended: list[Call] = field(default_factory=list)
    running: list[Call] = field(default_factory=list)


def describe_module(name: str, module: nn.Module) -> str:
    """Return a module's name and type.

    >>> describe_module("layers.3", nn.Linear(1, 1)), describe_module("", nn.Identity())
    ('layers.3 (Linear)', 'the net itself (Identity)')
    """
    return f"{name or 'the net itself'} ({type(module).__name__})"


def first_in(call: Call | None) -> str:
    """Return the location of a call as a phrase to append to a finding; an empty string for None."""
    return f", first in {describe_module(call.name, call.module)}" if call else ""


def grouped(net: nn.Module, names: Sequence[str], *, most: int = 4) -> str:
    """Return parameter names grouped by module.

    >>> grouped(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), ["0.weight", "0.bias", "1.bias"])
    'weight and bias of 0 (Linear), bias of 1 (Linear)'
    """
    found: dict[str, list[str]] = {}
    for name in names:
        owner, _, own = name.rpartition(".")
        found.setdefault(owner, []).append(own)
    parts = [
        f"{' and '.join(owns)} of {describe_module(owner, net.get_submodule(owner))}" for owner, owns in found.items()
    ]
    rest = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def recording(net: nn.Module) -> Iterator[Pass]:
    """Record every call of every module in the block. An exception gets a note with the innermost running module and its inputs."""
    seen, handles = Pass(), []
    for name, module in net.named_modules():
        begin, end = _hooks(seen, name)
        handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(module.register_forward_hook(end, with_kwargs=True))
    try:
        yield seen
    except Exception as fault:
        if seen.running:
            call = seen.running[-1]
            fault.add_note(f"in {describe_module(call.name, call.module)}, given {_described(call.inputs)}")
        raise
    finally:
        for handle in handles:
            handle.remove()


def record_pass(net: nn.Module, given: Any, *, seed: int = 0) -> Pass:
    """Record every call of every module in a pass that starts from `seed`."""
    seed_all(seed)
    with torch.no_grad(), recording(net) as seen:
        called(net, given)
    return seen


def first_difference(one: Pass, other: Pass, differ: Differ, *, given: Differ | None = None) -> Call | None:
    """Return the first call with different outputs for equal inputs; None if there is none before the passes call different modules.

    `given` compares the inputs; by default, `differ` does.
    """
    for here, there in zip(one.ended, other.ended, strict=False):
        if here.name != there.name:
            return None
        if _any(here.outputs, there.outputs, differ) and not _any(here.inputs, there.inputs, given or differ):
            return here
    return None


def first_odd(seen: Pass, odd: Callable[[Tensor], bool]) -> Call | None:
    """Return the first call with an odd output and no odd input."""
    return next((call for call in seen.ended if any(map(odd, call.outputs)) and not any(map(odd, call.inputs))), None)


def _any(one: Sequence[Tensor], other: Sequence[Tensor], differ: Differ) -> bool:
    pairs = zip(one, other, strict=False)
    return any(here.shape == there.shape and differ(here, there) for here, there in pairs)


def _hooks(seen: Pass, name: str) -> tuple[Any, Any]:
    def begin(module: nn.Module, positional: Any, named: Any) -> None:
        seen.running.append(Call(name=name, module=module, inputs=_copies((positional, named)), outputs=[]))

    def end(module: nn.Module, positional: Any, named: Any, gave: Any) -> None:
        del module, positional, named
        call = seen.running.pop()
        seen.ended.append(Call(name=name, module=call.module, inputs=call.inputs, outputs=_copies(gave)))

    return begin, end


def _copies(values: Any) -> list[Tensor]:
    """Return copies of the tensors: later code may write into them."""
    return [leaf.detach().clone() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _described(given: Sequence[Tensor]) -> str:
    return ", ".join(f"{str(each.dtype).removeprefix('torch.')}{list(each.shape)}" for each in given) or "no tensor"


def far(one: Tensor, other: Tensor) -> Tensor:
    """Return the mask of the values that differ between tensors of the same shape; NaN equals only NaN, infinity the same infinity.

    >>> far(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([1.00001, 2.1, torch.inf])).tolist()
    [False, True, False]
    """
    first, second = one.double(), other.double()
    equal = (first == second) | (first.isnan() & second.isnan())
    largest = float(second[second.isfinite()].abs().max()) if bool(second.isfinite().any()) else 0.0
    return ~equal & ~((first - second).abs() <= TOLERANCE * max(1e-6, largest))
