"""Where two runs first part: step, stream, tensor, by their traces; by what they logged where one has no trace.

Knows both files. Refuses to say more than they tell: what is logged every ten steps says between which steps it happened, not at which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import json_value
from trainer.base.errors import DocumentError
from trainer.base.run_files import open_run_file
from trainer.comparison.trace import FILE, Stream, compared, read_trace
from trainer.comparison.trace import first_difference as first_in_traces
from trainer.comparison.verdict import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METRICS: Final = "metrics.jsonl"
_LONGEST: Final = 1 << 20
"""Bytes of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """The first place at which two runs differ, and what each says there."""

    step: int
    """The first at which they are known to differ."""
    after: int | None
    """The last before it at which what was compared is equal; `None` where there is none."""
    stream: Stream
    tensor: str | None = None
    quantity: str | None = None
    a: str
    b: str
    by: str
    """The file that tells: `trace.jsonl` tells of every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What was found, and what could not be compared, a line each."""

    parting: Parting | None
    notes: tuple[str, ...] = ()


def compare_steps(a: Path, b: Path) -> Steps:
    """Compare two attempts' folders. Raises `DocumentError` for a file that is none of its format."""
    if (a / FILE).is_file() and (b / FILE).is_file():
        return _by_trace(a / FILE, b / FILE)
    without = " and ".join(name for name, side in (("A", a), ("B", b)) if not (side / FILE).is_file())
    if not ((a / METRICS).is_file() and (b / METRICS).is_file()):
        return Steps(parting=None, notes=(f"steps: {without} has neither {FILE} nor {METRICS}",))
    parting = _by_log(a / METRICS, b / METRICS)
    said = f"steps: by {METRICS}, which tells of some steps only: there is no {FILE} in {without}"
    return Steps(parting=parting, notes=(said,))


def _by_trace(a: Path, b: Path) -> Steps:
    one, other = read_trace(a), read_trace(b)
    left_out = [stream for stream in Stream if stream not in compared(one.header, other.header)]
    why = "the traces were made in different ways, or of different tensors"
    notes = (f"steps: streams {', '.join(left_out)} cannot be compared: {why}",) if left_out else ()
    found = first_in_traces(one, other)
    if found is None:
        return Steps(parting=None, notes=notes)
    parting = Parting(
        step=found.step,
        after=found.step - 1 if found.stream is not Stream.EVALUATION else found.step,
        stream=found.stream,
        tensor=found.tensor,
        quantity=found.quantity,
        a=found.a,
        b=found.b,
        by=FILE,
    )
    return Steps(parting=parting, notes=notes)


def _by_log(a: Path, b: Path) -> Parting | None:
    others = {(step, name): value for step, name, value in _logged(b)}
    after = None
    for step, name, value in _logged(a):
        other = others.get((step, name), value)
        if other != value:
            stream = Stream.EVALUATION if name.startswith(("val_", "test_")) else Stream.FORWARD
            told: dict[str, Any] = {"a": repr(number_of(value)), "b": repr(number_of(other))}
            return Parting(step=step, after=after, stream=stream, quantity=name, by=METRICS, **told)
        after = step
    return None


def _logged(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Each metric with the count of steps made; what is logged within a step is numbered from 0."""
    with open_run_file(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            if not line.endswith(b"\n"):
                return  # a kill cut it off
            try:
                values = json_value(line, where=str(path))
                step = int(values.pop("step"))
            except (DocumentError, ValueError, KeyError, TypeError, AttributeError) as fault:
                raise DocumentError(f"{path}, line {number}, is no line of metrics", hint="it is damaged") from fault
            within = "epoch" in values
            yield from ((step + within, name, value) for name, value in values.items() if name != "epoch")
