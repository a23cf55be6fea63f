"""Attribution finds the cause of a difference with as few runs as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.comparison.attribution import NONE, Attribution, MatchedRun, Swap, Swaps, attribute, smallest

if TYPE_CHECKING:
    from collections.abc import Callable

X, Y, Z = (Swap("setting", name) for name in "xyz")


def attribute_in(make: Callable[[Swaps], MatchedRun]) -> tuple[Attribution, int]:
    """Return the attribution for hybrids that match as `make` returns, and the number of hybrids that were run."""
    tried: list[Swaps] = []

    def go(swapped: Swaps) -> MatchedRun:
        assert swapped not in tried
        tried.append(swapped)
        return make(swapped)

    return attribute([X, Y, Z], go), len(tried)


def b_needs(*expected: Swap) -> Callable[[Swaps], MatchedRun]:
    return lambda swapped: MatchedRun.B if {*expected} <= swapped else MatchedRun.A


def test_a_single_cause_is_named() -> None:
    found, runs = attribute_in(b_needs(Y))
    assert (found.sets, found.confirmed, found.failed, runs) == ((frozenset({Y}),), True, None, 6)
    assert found.matches == {X: MatchedRun.A, Y: MatchedRun.B, Z: MatchedRun.A}


def test_a_joint_cause_is_named_together() -> None:
    found, _ = attribute_in(b_needs(X, Z))
    assert (found.sets, found.confirmed) == ((frozenset({X, Z}),), True)
    assert set(found.matches.values()) == {MatchedRun.A}


def test_causes_with_a_partial_effect_are_tried_first() -> None:

    def make(swapped: Swaps) -> MatchedRun:
        return MatchedRun.B if {X, Y} <= swapped else MatchedRun.OTHER if {X, Y} & swapped else MatchedRun.A

    found, runs = attribute_in(make)
    assert (found.sets, found.confirmed, runs) == ((frozenset({X, Y}),), True, 6)


def test_two_sufficient_causes_are_both_named() -> None:
    found, _ = attribute_in(lambda swapped: MatchedRun.B if {X, Y} & swapped else MatchedRun.A)
    assert (found.sets, found.confirmed) == ((frozenset({X}), frozenset({Y})), False)


@pytest.mark.parametrize(("broken", "failed"), [(NONE, "A"), (frozenset({X, Y, Z}), "B")])
def test_a_run_that_does_not_repeat_has_no_attribution(broken: Swaps, failed: str) -> None:
    found, _ = attribute_in(lambda swapped: MatchedRun.OTHER if swapped == broken else b_needs(X)(swapped))
    assert (found.failed, found.sets) == (failed, ())


@given(st.sets(st.integers(0, 15), min_size=1), st.data())
def test_the_attributed_set_is_minimal(numbers: set[int], data: st.DataObject) -> None:
    every = frozenset(Swap("setting", f"{number:02}") for number in numbers)
    needed = frozenset(data.draw(st.sets(st.sampled_from(sorted(every)), min_size=1)))
    assert smallest(every, needed.issubset) == needed
