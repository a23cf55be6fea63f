"""Find which differing ingredients cause two runs to diverge, by swapping them.

A set of swaps is tested by a run of A with these ingredients taken from B. The run matches A, matches B, matches neither, or cannot be run.
Results are based only on runs that swap an ingredient, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Way(StrEnum):
    """The run that a hybrid run matches, as far as it was compared."""

    A = "as A"
    B = "as B"
    OTHER = "another way"
    NONE = "nowhere: it cannot be run"
    """The hybrid cannot be run, for example if a setting of B needs B's source. This is no evidence for or against the swap."""


@dataclass(frozen=True, slots=True, order=True)
class Swap:
    """An ingredient that differs and can be swapped."""

    kind: Literal["setting", "source", "dataset", "image"]
    name: str = ""

    def __str__(self) -> str:
        """Return a readable name.

        >>> str(Swap("setting", "learning_rate")), str(Swap("source"))
        ('setting learning_rate', 'source')
        """
        return f"{self.kind} {self.name}".strip()


Swaps = frozenset[Swap]
NONE: Final[Swaps] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The result of the swaps."""

    sets: tuple[Swaps, ...] = ()
    """The smallest sets of swaps that make A match B; no proper subset of a set does."""
    confirmed: bool = False
    """True if B matches A once the first set is swapped back, so no other ingredient has an effect."""
    ways: dict[Swap, Way] = field(default_factory=dict)
    """The result of swapping each ingredient alone into A."""
    failed: Literal["A", "B"] | None = None
    """The run that could not be reproduced unchanged; nothing can be attributed in this case."""


def attribute(swaps: Sequence[Swap], go: Callable[[Swaps], Way]) -> Attribution:
    """Find the smallest sets of `swaps` that cause the difference; `go` starts a run and is called once per set."""
    known: dict[Swaps, Way] = {}

    def way(swapped: Swaps) -> Way:
        if swapped not in known:
            known[swapped] = go(swapped)
        return known[swapped]

    every = frozenset(swaps)
    if way(NONE) is not Way.A:
        return Attribution(failed="A")
    if way(every) is not Way.B:
        return Attribution(failed="B")
    ways = {swap: way(frozenset({swap})) for swap in swaps}
    alone = tuple(frozenset({swap}) for swap, went in ways.items() if went is Way.B)
    found = alone or (smallest(_promising(ways, way, every), lambda some: way(some) is Way.B),)
    return Attribution(sets=found, confirmed=way(every - found[0]) is Way.A, ways=ways)


def _promising(ways: dict[Swap, Way], way: Callable[[Swaps], Way], every: Swaps) -> Swaps:
    """Return the swaps that change something alone if they suffice together, else all swaps."""
    some = frozenset(swap for swap, went in ways.items() if went is not Way.A)
    return some if len(some) > 1 and way(some) is Way.B else every


def smallest(given: Swaps, enough: Callable[[Swaps], bool]) -> Swaps:
    """Return a minimal subset of `given` for which `enough` is true, by bisection; `enough(given)` must be true.

    Zeller and Hildebrandt, Simplifying and isolating failure-inducing input, IEEE Transactions on Software Engineering 28 (2002), 183-200.
    """
    parts = 2
    left = sorted(given)
    while len(left) > 1:
        chunks = [frozenset(left[place::parts]) for place in range(parts)]
        whole = frozenset(left)
        if found := next((chunk for chunk in chunks if len(chunk) < len(whole) and enough(chunk)), None):
            left, parts = sorted(found), 2
        elif found := next((whole - chunk for chunk in chunks if parts > 2 and enough(whole - chunk)), None):  # noqa: PLR2004 - with two halves, one is the complement of the other
            left, parts = sorted(found), max(parts - 1, 2)
        elif parts >= len(left):
            break
        else:
            parts = min(len(left), 2 * parts)
    return frozenset(left)
