"""An observation of a few steps: a fingerprint of each value, in the order of computation.

Two observations of a training run are compared up to their first difference. This module does not need torch;
`trainer.training.tracing.observe` records observations.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Kind(StrEnum):
    """The kind of an observed value."""

    START = "start"
    """A weight or buffer before the first step."""
    BATCH = "batch"
    """A step's input."""
    INPUT = "input"
    """A module's input."""
    OUTPUT = "output"
    """A module's output."""
    BACKWARD = "backward"
    """The gradient with respect to a module's output."""
    GRADIENT = "gradient"
    """A parameter's gradient, after accumulation."""
    WEIGHT = "weight"
    """A weight or buffer after the step."""


class ObservedValue(NamedTuple):
    """One observed value."""

    step: int
    """The number of batches up to and including this step: 1 for the first step, 0 before any step."""
    kind: Kind
    name: str
    """The name of the module or tensor; empty for the net."""
    call: int
    """The number of the call of the module in the step, from 1."""
    prints: str


class Operation(NamedTuple):
    """One operation that torch executed."""

    name: str
    given: str
    """The fingerprint of the input tensors before the operation, and of the numeric arguments."""
    gave: str
    number: str
    """The numeric arguments as text."""


def first_different_value(a: Sequence[ObservedValue], b: Sequence[ObservedValue]) -> ObservedValue | None:
    """Return the first value in which two observations differ; `None` if they are equal."""
    return next((one or other for one, other in zip_longest(a, b) if one != other), None)


def responsible_module(value: ObservedValue) -> str | None:
    """Return the module whose own code computed the first difference; `None` if it was not computed in the forward pass of a module.

    >>> responsible_module(ObservedValue(1, Kind.INPUT, "layers.3", 1, ""))
    'layers'
    """
    if value.kind is Kind.OUTPUT:
        return value.name
    return value.name.rpartition(".")[0] if value.kind is Kind.INPUT and value.name else None


def describe_different_operation(a: Sequence[Operation], b: Sequence[Operation]) -> str | None:
    """Describe the first operation that differs; `None` if all operations are equal."""
    for number, (one, other) in enumerate(zip(a, b, strict=False), 1):
        if one.name != other.name:
            return f"operation {number} is {one.name} the first time and {other.name} the second: the code took a different path"
        if one.number != other.number:
            return f"{one.name} (operation {number}) received different numbers: {one.number} and {other.number}"
        if one.given == other.given and one.gave != other.gave:
            return f"{one.name} (operation {number}) returned a different result for equal inputs"
        if one.given != other.given:
            return f"{one.name} (operation {number}) received a different tensor that was not produced by a torch operation"
    return None if len(a) == len(b) else "the code took a different path: the number of operations is not the same"


_CAUSES: Final = {
    Kind.START: "{name} before the first step: the initialization of the weights is not deterministic",
    Kind.BATCH: "the batch: the code that reads or changes the data is not deterministic",
    Kind.INPUT: "the input of {name}: the code of {module} around it is not deterministic",
    Kind.OUTPUT: "the output of {name} differs for equal inputs: {name} is not deterministic",
    Kind.BACKWARD: "the gradient with respect to the output of {name}: the backward pass of the code that uses it is not deterministic",
    Kind.GRADIENT: "the gradient of {name}: the backward pass of its module is not deterministic",
    Kind.WEIGHT: "{name} after the step: the optimizer, or the code that writes a buffer, is not deterministic",
}


def describe_value(value: ObservedValue) -> str:
    """Describe the first difference and its cause.

    >>> describe_value(ObservedValue(2, Kind.OUTPUT, "layers.3", 1, ""))
    'step 2: the output of layers.3 differs for equal inputs: layers.3 is not deterministic'
    """
    name = value.name or "the net"
    call = f" (call {value.call})" if value.call > 1 else ""
    module = responsible_module(value) or ("the net" if value.name else "its training_step")
    return f"step {value.step}: {_CAUSES[value.kind].format(name=name + call, module=module)}"
