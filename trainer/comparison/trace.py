"""Read, truncate and compare traces, to find the first step, stream and tensor at which two runs differ.

A trace has small fingerprints of each step; `trainer.comparison.trace_lines` defines its lines. Lines are compared as bytes, and are parsed
only if they differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from trainer.base.document import parse_json
from trainer.base.errors import DocumentError
from trainer.base.run_files import read_run_file
from trainer.comparison.trace_lines import WIDTH, Evaluation, Step, TraceHeader, TraceLine, bits_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FILE: Final = "trace.jsonl"
"""The name of the trace in an attempt's folder."""
LARGEST: Final = 1 << 30
"""The maximum size of a trace in bytes: 100,000 steps with 1,000 tensors."""


class Stream(StrEnum):
    """The parts of a step that are compared, in causal order: a difference in one stream can explain differences in later streams."""

    DATA = "data"
    """The step's input."""
    RANDOM = "random"
    """The state of the random generators at the end of the step."""
    SCHEDULE = "schedule"
    """The optimizer's hyperparameters: learning rate, momentum, weight decay."""
    FORWARD = "forward"
    """The loss."""
    BACKWARD = "backward"
    """The norm of the gradients, and each gradient if the trace is full."""
    WEIGHTS = "weights"
    """Every weight, after the step."""
    EVALUATION = "evaluation"
    """The metrics of a validation or a test."""


TraceEntry = Step | Evaluation
L = TypeVar("L", bound=TraceLine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A trace: its parsed header and its unparsed lines."""

    header: TraceHeader
    lines: Sequence[bytes]
    where: str

    def entries(self, start: int = 0) -> Iterator[TraceEntry]:
        """Yield the parsed lines from index `start`. Raise `DocumentError` if a line is invalid."""
        for number, line in enumerate(self.lines[start:], start=start + 2):
            kind: type[Step | Evaluation] = Evaluation if line.startswith(b'{"evaluation"') else Step
            yield parsed(line, kind, where=f"{self.where}, line {number}")

    @property
    def steps(self) -> int:
        """The last step in the trace; 0 if it has no steps."""
        last = next((line for line in reversed(self.lines) if not line.startswith(b'{"evaluation"')), None)
        return 0 if last is None else parsed(last, Step, where=self.where).step


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first difference between two traces, with the value of each trace as text."""

    step: int
    stream: Stream
    tensor: str | None = None
    """The first tensor that differs, in streams `weights` and `backward`."""
    quantity: str | None = None
    """The first number that differs: a scheduled value, a batch's loss or a metric."""
    a: str
    b: str


def read_trace(path: Path) -> Trace:
    """Read a trace; an incomplete last line is dropped. Raise `DocumentError` if the file is missing or its header is invalid."""
    if not path.exists():
        raise DocumentError(f"{path} does not exist", hint="train with --trace on")
    return trace_of(read_run_file(path, most=LARGEST), where=str(path))


def last_written_step(path: Path) -> int:
    """Return the last complete step in a trace that is being written; 0 if no step is complete."""
    try:
        text = read_run_file(path, most=LARGEST)
    except DocumentError:
        return 0
    last = text[: text.rfind(b"\n")].rpartition(b'\n{"step":')[2]
    return int(last.partition(b",")[0]) if last[:1].isdigit() else 0


def trace_of(data: bytes, *, where: str) -> Trace:
    """Parse the header of a trace and split its lines. Raise `DocumentError` if the header is invalid."""
    whole = data[: data.rfind(b"\n") + 1]
    first, *lines = whole.splitlines() or [b""]
    return Trace(header=parsed(first, TraceHeader, where=f"{where}, line 1"), lines=lines, where=where)


def truncate_trace(trace: Trace, step: int) -> Trace:
    """Return the trace up to `step`, without evaluations after `step`."""
    limit = (step, False)
    later = (
        number for number, entry in enumerate(trace.entries()) if (entry.step, isinstance(entry, Evaluation)) > limit
    )
    return replace(trace, lines=trace.lines[: next(later, len(trace.lines))])


def first_difference(a: Trace, b: Trace) -> Difference | None:
    """Return the first step, stream and tensor at which two traces differ; `None` if their common steps are equal.

    Entries in only one trace do not count, for example if one run stopped earlier or had a different number of validations. Within a
    step, the first stream in causal order is returned. Streams that are not in `comparable_streams` are skipped.
    """
    streams = comparable_streams(a.header, b.header)
    equal = 0
    if a.header == b.header:
        pairs = zip(a.lines, b.lines, strict=False)
        equal = next(
            (number for number, (one, other) in enumerate(pairs) if one != other), min(len(a.lines), len(b.lines))
        )
    others = {_key(entry): entry for entry in b.entries(equal)}
    for entry in a.entries(equal):
        other = others.get(_key(entry))
        if other is not None and (difference := _difference(entry, other, a.header, b.header, streams)) is not None:
            return difference
    return None


def comparable_streams(a: TraceHeader, b: TraceHeader) -> list[Stream]:
    """Return the streams that can be compared: fingerprints require equal algorithms, and those of weights also equal layouts."""
    left_out: set[Stream] = set()
    if a.algorithm != b.algorithm:
        left_out |= {Stream.DATA, Stream.WEIGHTS}
    if a.layout != b.layout or a.tensors != b.tensors:
        left_out |= {Stream.WEIGHTS}
    return [stream for stream in Stream if stream not in left_out]


def parsed(line: bytes, model: type[L], *, where: str) -> L:
    """Parse a line as `model`. Raise `DocumentError` if it is invalid."""
    try:
        return model.model_validate_json(line)
    except ValueError:
        return parse_json(line, model, where=where)  # called for its error message


def _key(entry: TraceEntry) -> tuple[str, int]:
    return (entry.evaluation if isinstance(entry, Evaluation) else "step", entry.step)


def _difference(
    a: TraceEntry, b: TraceEntry, of_a: TraceHeader, of_b: TraceHeader, streams: Sequence[Stream]
) -> Difference | None:
    if isinstance(a, Evaluation):
        values = _in_numbers(a.values, b.values, both=True) if isinstance(b, Evaluation) else None
        return Difference(step=a.step, stream=Stream.EVALUATION, **values) if values else None
    if not isinstance(b, Step):
        return None
    for stream in streams:
        if (values := _in_stream(stream, (a, of_a), (b, of_b))) is not None:
            return Difference(step=a.step, stream=stream, **values)
    return None


def _in_stream(stream: Stream, one: tuple[Step, TraceHeader], other: tuple[Step, TraceHeader]) -> dict[str, Any] | None:
    (a, of_a), (b, of_b) = one, other
    match stream:
        case Stream.DATA | Stream.RANDOM if (x := getattr(a, stream)) != (y := getattr(b, stream)):
            return {"a": x, "b": y}
        case Stream.SCHEDULE:
            schedules = (
                dict(zip(names, entry.schedule, strict=False))
                for names, entry in ((of_a.schedule, a), (of_b.schedule, b))
            )
            return _in_numbers(*schedules)
        case Stream.FORWARD:
            return _in_numbers(_numbered("loss", a.loss), _numbered("loss", b.loss))
        case Stream.BACKWARD:
            norms = _in_numbers(_numbered("norm", a.gradient), _numbered("norm", b.gradient))
            return _in_gradients(one, other) or norms
        case Stream.WEIGHTS if a.weights != b.weights:
            return {"a": a.weights, "b": b.weights, "tensor": _first_name(of_a.tensors, a.tensors, b.tensors)}
    return None


def _in_gradients(one: tuple[Step, TraceHeader], other: tuple[Step, TraceHeader]) -> dict[str, Any] | None:
    (a, of_a), (b, of_b) = one, other
    full = a.gradients is not None and b.gradients is not None and of_a.gradients is not None
    if not full or of_a.gradients != of_b.gradients or of_a.algorithm != of_b.algorithm or a.gradients == b.gradients:
        return None
    name = _first_name(of_a.gradients or [], a.gradients or "", b.gradients or "")
    return {"tensor": name, "a": _shown(*numbers_of(a.gradient)), "b": _shown(*numbers_of(b.gradient))}


def _in_numbers(a: dict[str, float], b: dict[str, float], *, both: bool = False) -> dict[str, Any] | None:
    """Return the first number whose bits differ. A number that is missing in one trace counts as a difference, unless `both` is set."""
    for name in a if both else [*a, *(name for name in b if name not in a)]:
        if both and name not in b:
            continue
        if name not in a or name not in b or bits_of(a[name]) != bits_of(b[name]):
            return {"quantity": name, "a": _shown(a.get(name)), "b": _shown(b.get(name))}
    return None


def _numbered(name: str, bits: str) -> dict[str, float]:
    numbers = numbers_of(bits)
    return {name if len(numbers) == 1 else f"{name} of batch {place}": value for place, value in enumerate(numbers, 1)}


def _first_name(names: Sequence[str], a: str, b: str) -> str | None:
    """Return the first tensor whose 24-bit fingerprints differ; `None` if all are equal by chance, with probability 1 in 16 million."""
    starts = range(0, min(len(a), len(b)), WIDTH)
    prints = ((a[start : start + WIDTH], b[start : start + WIDTH]) for start in starts)
    return next((name for name, (one, other) in zip(names, prints, strict=False) if one != other), None)


def _shown(*numbers: float | None) -> str:
    return ", ".join("absent" if number is None else repr(number) for number in numbers)
