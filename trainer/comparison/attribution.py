"""Attribution: which of the ingredients that differ makes two runs part, found by swapping them.

Knows which sets to try, and what the answers together allow to say. Refuses to run anything, and to call a cause what was only found beside
the difference: what is said was seen in runs that swap it, in both directions.

A set of swaps is tried by a run of A with these ingredients of B. It goes A's way, B's way, or another one, as far as it is
looked at; or it cannot be run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Way(StrEnum):
    """How a run went, as far as it was looked at."""

    A = "as A"
    B = "as B"
    OTHER = "another way"
    NONE = "nowhere: it cannot be run"
    """A setting of B without the source that has it, say: that is no evidence, for nothing was seen."""


@dataclass(frozen=True, slots=True, order=True)
class Swap:
    """An ingredient that differs and can be swapped."""

    kind: Literal["setting", "source", "dataset", "image"]
    name: str = ""

    def __str__(self) -> str:
        """Write it for a person.

        >>> str(Swap("setting", "learning_rate")), str(Swap("source"))
        ('setting learning_rate', 'source')
        """
        return f"{self.kind} {self.name}".strip()


Swaps = frozenset[Swap]
NONE: Final[Swaps] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What the runs showed."""

    sets: tuple[Swaps, ...] = ()
    """Smallest sets that make A go B's way: none of their parts does."""
    confirmed: bool = False
    """Whether B goes A's way once the first of these is taken back from it: then nothing else bears on it."""
    ways: dict[Swap, Way] = field(default_factory=dict)
    """How A went with each alone."""
    failed: Literal["A", "B"] | None = None
    """The run that did not come out again as it is: then nothing can be attributed."""


def attribute(swaps: Sequence[Swap], go: Callable[[Swaps], Way]) -> Attribution:
    """Find the smallest sets of `swaps` that make the difference; `go` makes a run and is asked once for each set."""
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
    """Those that change something alone, where they are enough together; else all."""
    some = frozenset(swap for swap, went in ways.items() if went is not Way.A)
    return some if len(some) > 1 and way(some) is Way.B else every


def smallest(given: Swaps, enough: Callable[[Swaps], bool]) -> Swaps:
    """A set of which no part can be left out, by bisection: `given` is enough.

    Zeller and Hildebrandt, Simplifying and isolating failure-inducing input, IEEE Transactions on Software Engineering 28 (2002), 183-200.
    """
    parts = 2
    left = sorted(given)
    while len(left) > 1:
        chunks = [frozenset(left[place::parts]) for place in range(parts)]
        whole = frozenset(left)
        if found := next((chunk for chunk in chunks if len(chunk) < len(whole) and enough(chunk)), None):
            left, parts = sorted(found), 2
        elif found := next((whole - chunk for chunk in chunks if parts > 2 and enough(whole - chunk)), None):  # noqa: PLR2004 - of two halves, one is what the other leaves
            left, parts = sorted(found), max(parts - 1, 2)
        elif parts >= len(left):
            break
        else:
            parts = min(len(left), 2 * parts)
    return frozenset(left)
