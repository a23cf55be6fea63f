"""Find the first step, stream and tensor at which two runs diverge, from their traces or, without both traces, from their logged metrics.

Metrics that are logged every ten steps only bound the step of the divergence.
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
"""The largest line in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """The first difference between two runs, with the value of each run."""

    step: int
    """The first step at which a difference is known."""
    after: int | None
    """The last earlier step at which everything compared is equal; `None` if there is none."""
    stream: Stream
    tensor: str | None = None
    quantity: str | None = None
    a: str
    b: str
    by: str
    """The file with the evidence; `trace.jsonl` covers every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The first difference, and one line per thing that could not be compared."""

    parting: Parting | None
    notes: tuple[str, ...] = ()


def compare_steps(a: Path, b: Path) -> Steps:
    """Compare two attempts' folders. Raise `DocumentError` if a file has another format."""
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
    """Yield each metric with its number of completed steps; metrics logged within a step are numbered from 0."""
    with open_run_file(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            if not line.endswith(b"\n"):
                return  # truncated by a kill
            try:
                values = json_value(line, where=str(path))
                step = int(values.pop("step"))
            except (DocumentError, ValueError, KeyError, TypeError, AttributeError) as fault:
                raise DocumentError(f"{path}, line {number}, is no line of metrics", hint="it is damaged") from fault
            within = "epoch" in values
            yield from ((step + within, name, value) for name, value in values.items() if name != "epoch")
