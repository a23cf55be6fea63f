"""The location of a problem in a net: the innermost module, by name and type, found by comparing two passes call by call."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from trainer.training.determinism.seeds import seed_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Apart = Callable[[Tensor, Tensor], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a module: inputs and outputs."""

    name: str
    module: nn.Module
    given: list[Tensor]
    gave: list[Tensor]


@dataclass(slots=True)
class Pass:
    """A pass of a net: the completed calls in order, and the calls that were running at a failure, the innermost last."""

    ended: list[Call] = field(default_factory=list)
    begun: list[Call] = field(default_factory=list)


def told(name: str, module: nn.Module) -> str:
    """Return a module's name and type.

    >>> told("layers.3", nn.Linear(1, 1)), told("", nn.Identity())
    ('layers.3 (Linear)', 'the net itself (Identity)')
    """
    return f"{name or 'the net itself'} ({type(module).__name__})"


def grouped(net: nn.Module, names: Sequence[str], *, most: int = 4) -> str:
    """Return parameter names grouped by module.

    >>> grouped(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), ["0.weight", "0.bias", "1.bias"])
    'weight and bias of 0 (Linear), bias of 1 (Linear)'
    """
    found: dict[str, list[str]] = {}
    for name in names:
        owner, _, own = name.rpartition(".")
        found.setdefault(owner, []).append(own)
    parts = [f"{' and '.join(owns)} of {told(owner, net.get_submodule(owner))}" for owner, owns in found.items()]
    rest = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def watched(net: nn.Module) -> Iterator[Pass]:
    """Record every call of every module in the block."""
    seen, handles = Pass(), []
    for name, module in net.named_modules():
        begin, end = _hooks(seen, name)
        handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(module.register_forward_hook(end, with_kwargs=True))
    try:
        yield seen
    except Exception as fault:
        if seen.begun:
            call = seen.begun[-1]
            fault.add_note(f"in {told(call.name, call.module)}, given {_described(call.given)}")
        raise
    finally:
        for handle in handles:
            handle.remove()


def passed(net: nn.Module, given: Tensor, *, seed: int = 0) -> Pass:
    """Record every call of a pass with this seed."""
    seed_all(seed)
    with torch.no_grad(), watched(net) as seen:
        net(given)
    return seen


def first_apart(one: Pass, other: Pass, apart: Apart, *, given: Apart | None = None) -> Call | None:
    """Return the first call with different outputs for equal inputs; None if the passes call different modules.

    `given` compares the inputs, if they need another comparison.
    """
    for here, there in zip(one.ended, other.ended, strict=False):
        if here.name != there.name:
            return None
        if _any(here.gave, there.gave, apart) and not _any(here.given, there.given, given or apart):
            return here
    return None


def first_odd(seen: Pass, odd: Callable[[Tensor], bool]) -> Call | None:
    """Return the first call with an odd output and no odd input."""
    return next((call for call in seen.ended if any(map(odd, call.gave)) and not any(map(odd, call.given))), None)


def _any(one: Sequence[Tensor], other: Sequence[Tensor], apart: Apart) -> bool:
    pairs = zip(one, other, strict=False)
    return any(here.shape == there.shape and apart(here, there) for here, there in pairs)


def _hooks(seen: Pass, name: str) -> tuple[Any, Any]:
    def begin(module: nn.Module, positional: Any, named: Any) -> None:
        seen.begun.append(Call(name=name, module=module, given=_kept((positional, named)), gave=[]))

    def end(module: nn.Module, positional: Any, named: Any, gave: Any) -> None:
        del module, positional, named
        begun = seen.begun.pop()
        seen.ended.append(Call(name=name, module=begun.module, given=begun.given, gave=_kept(gave)))

    return begin, end


def _kept(values: Any) -> list[Tensor]:
    """Return copies of the tensors: later code may write into them."""
    return [leaf.detach().clone() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _described(given: Sequence[Tensor]) -> str:
    return ", ".join(f"{str(each.dtype).removeprefix('torch.')}{list(each.shape)}" for each in given) or "no tensor"
