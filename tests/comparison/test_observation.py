"""Observations: the module and the operation of the first difference."""

from __future__ import annotations

import pytest

from trainer.comparison.observation import (
    Kind,
    ObservedValue,
    Operation,
    describe_different_operation,
    describe_value,
    first_different_value,
    responsible_module,
)

SEEN = [
    ObservedValue(1, Kind.BATCH, "", 1, "a"),
    ObservedValue(1, Kind.INPUT, "", 1, "a"),
    ObservedValue(1, Kind.INPUT, "layers.0", 1, "a"),
    ObservedValue(1, Kind.OUTPUT, "layers.0", 1, "b"),
    ObservedValue(1, Kind.OUTPUT, "", 1, "c"),
]


def test_equal_observations_do_not_diverge() -> None:
    assert first_different_value(SEEN, list(SEEN)) is None


@pytest.mark.parametrize(("place", "module"), [(3, "layers.0"), (2, "layers"), (4, ""), (0, None), (1, None)])
def test_the_first_value_that_differs_names_its_module(place: int, module: str | None) -> None:
    other = [*SEEN[:place], SEEN[place]._replace(prints="x"), *SEEN[place + 1 :]]
    found = first_different_value(SEEN, other)
    assert found == SEEN[place]
    assert responsible_module(found) == module
    assert describe_value(found).startswith("step 1: ")


def test_an_extra_call_of_a_module_is_a_difference() -> None:
    assert first_different_value(SEEN[:-1], SEEN) == SEEN[-1]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            Operation("mul", "a", "b", "[]"),
            Operation("mul", "a", "c", "[]"),
            "mul (operation 1) returned a different result for equal inputs",
        ),
        (
            Operation("mul", "a", "b", "[2]"),
            Operation("mul", "a", "c", "[3]"),
            "received different numbers: [2] and [3]",
        ),
        (
            Operation("add", "a", "b", "[]"),
            Operation("add", "x", "c", "[]"),
            "a different tensor that was not produced by a torch operation",
        ),
        (Operation("add", "a", "b", "[]"), Operation("mul", "a", "c", "[]"), "the code took a different path"),
    ],
)
def test_the_operation_is_named_with_what_differs(one: Operation, other: Operation, message: str) -> None:
    assert message in (describe_different_operation([one], [other]) or "")


def test_equal_operations_have_no_difference() -> None:
    one = Operation("mul", "a", "b", "[]")
    assert describe_different_operation([one], [one]) is None
    assert describe_different_operation([one], [one, one]) is not None
