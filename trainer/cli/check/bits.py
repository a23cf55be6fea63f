"""`reprise check --bits EXP`: finds the first value that differs between equal computations.

Makes a few steps twice in one process and once in another, compares every value, and names the module and operation of the first
difference. Records no run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.base.errors import DocumentError, RunError
from trainer.base.suggestions import counted
from trainer.cli.hidden_command import run_hidden_command
from trainer.cli.output import print_result
from trainer.cli.trainings import frozen_checkout
from trainer.comparison.observation import (
    Kind,
    ObservedValue,
    describe_value,
    first_different_value,
    responsible_module,
)
from trainer.comparison.verdict import Rung

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.cli.train import Asked


def look(asked: Asked, *, steps: int, as_json: bool) -> int:
    """Print the first difference; return 0 if every bit is equal, else 20. Both processes run one copy of the source."""
    with frozen_checkout(asked) as (source, words):
        result = _first_difference(asked, words, steps=steps, source=source)
    print_result(result, result["said"], as_json=as_json)
    return 0 if result["equal"] else Rung.DIFFERENT.code


def _first_difference(asked: Asked, words: Sequence[str], *, steps: int, source: Path) -> dict[str, Any]:
    """Return the document about the first value that differs within a process, then between two processes."""
    here = _observed(asked, words, steps=steps, times=2, source=source)
    between, number = "twice in one process", len(here["sights"])
    steps = require_steps(_sights(here))
    first = _sight(here["parted"]) if here["parted"] else None
    if first is None:
        there = _observed(asked, words, steps=steps, times=1, source=source)
        first, between = first_different_value(_sights(here), _sights(there)), "in two processes"
    if first is None:
        said = f"clean: {number} values of {counted(steps, 'step')} are equal, twice in one process and in another"
        return {"equal": True, "said": said, "steps": steps, "values": number}
    lines = [f"{asked.place.name}, {between}: {describe_value(first)}", *([f"  {here['op']}"] if here["op"] else [])]
    return {
        "equal": False,
        "said": "\n".join(lines),
        "between": between,
        "step": first.step,
        "kind": first.kind,
        "name": first.name,
        "module": responsible_module(first),
        "operation": here["op"],
    }


def require_steps(sights: Sequence[ObservedValue]) -> int:
    """Return the number of observed steps, which may be less than requested. Raise `RunError` if it is 0."""
    steps = max((sight.step for sight in sights), default=0)
    if not steps:
        raise RunError("no step was made, so no value was compared", hint="give more epochs or steps: --max-epochs 1")
    return steps


def _sights(observation: dict[str, Any]) -> list[ObservedValue]:
    return [_sight(values) for values in observation["sights"]]


def _sight(values: list[Any]) -> ObservedValue:
    step, kind, *rest = values
    return ObservedValue(step, Kind(kind), *rest)


def _observed(asked: Asked, words: Sequence[str], *, steps: int, times: int, source: Path) -> dict[str, Any]:
    """Run the observing process and return its document."""
    hidden = ["_observe", str(steps), str(times), *words]
    lines: list[dict[str, Any]] = list(run_hidden_command(hidden, asked, source=source))
    if len(lines) != 1:
        raise DocumentError("the observing process printed no result", hint="does the experiment print or exit?")
    return lines[0]
