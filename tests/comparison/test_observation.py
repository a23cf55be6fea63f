"""Observations: where two part, which module is to blame, which operation."""

from __future__ import annotations

import pytest

from trainer.comparison.observation import Kind, Op, Sight, blamed, parted, parted_op, worded

SEEN = [
    Sight(1, Kind.BATCH, "", 1, "a"),
    Sight(1, Kind.INPUT, "", 1, "a"),
    Sight(1, Kind.INPUT, "layers.0", 1, "a"),
    Sight(1, Kind.OUTPUT, "layers.0", 1, "b"),
    Sight(1, Kind.OUTPUT, "", 1, "c"),
]


def test_equal_observations_do_not_part() -> None:
    """Down to the last value."""
    assert parted(SEEN, list(SEEN)) is None


@pytest.mark.parametrize(("place", "module"), [(3, "layers.0"), (2, "layers"), (4, ""), (0, None), (1, None)])
def test_the_first_value_that_differs_names_its_module(place: int, module: str | None) -> None:
    """An output's own, an input's surrounding one; none for a batch or what the step's own code gives the net."""
    other = [*SEEN[:place], SEEN[place]._replace(prints="x"), *SEEN[place + 1 :]]
    found = parted(SEEN, other)
    assert found == SEEN[place]
    assert blamed(found) == module
    assert worded(found).startswith("step 1: ")


def test_a_module_that_was_called_once_more_is_a_difference() -> None:
    """The extra value is the first that is not the same."""
    assert parted(SEEN[:-1], SEEN) == SEEN[-1]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            Op("mul", "a", "b", "[]"),
            Op("mul", "a", "c", "[]"),
            "mul (operation 1) gave another result for equal inputs",
        ),
        (Op("mul", "a", "b", "[2]"), Op("mul", "a", "c", "[3]"), "was given other numbers: [2] and [3]"),
        (Op("add", "a", "b", "[]"), Op("add", "x", "c", "[]"), "another tensor, which no operation of torch made"),
        (Op("add", "a", "b", "[]"), Op("mul", "a", "c", "[]"), "the code took another way"),
    ],
)
def test_the_operation_is_named_with_what_differs(one: Op, other: Op, said: str) -> None:
    """Result, number, tensor from outside, or the way itself."""
    assert said in (parted_op([one], [other]) or "")


def test_equal_operations_name_nothing() -> None:
    """A difference that does not show again has no operation."""
    one = Op("mul", "a", "b", "[]")
    assert parted_op([one], [one]) is None
    assert parted_op([one], [one, one]) is not None
