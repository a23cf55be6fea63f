"""The results of an experiment's benchmark: the document `reprise.bench/1`, its table, and ratios to another benchmark.

An interval contains the median with 95 % confidence: its ends are two of the values, by ranks of the binomial distribution (p = 1/2). It
assumes only that values are independent, which is nearly true for steps of one run.
"""

from __future__ import annotations

import statistics
from math import comb
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.document import Document
from trainer.base.suggestions import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FORMAT: Final = "reprise.bench/1"
PARTS: Final = ("data", "forward", "backward", "optimizer", "callbacks", "rest")
_MIB: Final = 1 << 20


class Interval(Document):
    """A median with its 95 % confidence interval."""

    median: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """Return the interval multiplied by `factor`, for another unit."""
        return Interval(median=factor * self.median, low=factor * self.low, high=factor * self.high)

    def inverse(self, factor: float = 1.0) -> Interval:
        """Return the interval of `factor` divided by each value.

        >>> Interval(median=0.5, low=0.25, high=1.0).inverse(8)
        Interval(median=16.0, low=8.0, high=32.0)
        """
        return Interval(median=factor / self.median, low=factor / self.high, high=factor / self.low)

    def over(self, other: Interval) -> Interval | None:
        """Return the interval of the ratios of a value in this interval to a value in `other`. None if `other` is not positive."""
        if not other.low > 0:
            return None
        return Interval(median=self.median / other.median, low=self.low / other.high, high=self.high / other.low)


class Bench(Document):
    """A benchmark of an experiment."""

    format: Literal["reprise.bench/1"] = FORMAT
    experiment: str
    data: str
    device: str
    threads: int
    torch: str
    determinism: str
    precision: str
    batch_size: int
    parameters: int
    warmup: int
    """Steps before the first measured step."""
    steps: int
    samples_per_second: Interval
    seconds_per_step: Interval
    parts: dict[str, Interval]
    """Seconds per step of `data`, `forward`, `backward`, `optimizer`, `callbacks`, and the `rest` of the loop."""
    memory: dict[str, int]
    """Peak bytes: `resident` memory of the process; `allocated` on a GPU."""


class SlowOperation(Document):
    """An operation and its time per step."""

    name: str
    calls: float
    seconds: float
    """Self time, without the operations that it calls."""
    share: float


class BenchResult(Document):
    """The output of `reprise bench --json`, which `--against` reads."""

    bench: Bench
    ratios: dict[str, Interval | None] | None = None
    unlike: list[str] = []
    profile: str | None = None
    dearest: list[SlowOperation] = []


def interval(values: Sequence[float]) -> Interval:
    """Return the median of values and its interval.

    >>> interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    Interval(median=5.5, low=2.0, high=9.0)
    """
    ranked = sorted(values)
    first = _rank(len(ranked))
    return Interval(median=statistics.median(ranked), low=ranked[first], high=ranked[-1 - first])


def _rank(count: int) -> int:
    """Return the index of the lower end among `count` sorted values.

    With a probability of at most 2.5 %, at most this many values lie below the true median; fewer than six values are too few for that.
    """
    below, place = 1, 0
    while 40 * (below + comb(count, place + 1)) <= 2**count:
        place += 1
        below += comb(count, place)
    return place


def page(bench: Bench) -> Iterator[str]:
    """Yield the lines of a benchmark's table."""
    yield f"{bench.experiment} on {bench.data}: batches of {bench.batch_size}, {bench.parameters:,} parameters, {bench.precision}"
    yield f"{bench.device}, {counted(bench.threads, 'thread')}, torch {bench.torch}, determinism {bench.determinism}"
    yield f"{bench.steps} steps after {bench.warmup} of warm-up; medians, with their 95 % intervals (order statistics)"
    yield ""
    yield f"  {'samples/s':<11} {_shown(bench.samples_per_second, digits=0)}"
    yield f"  {'step':<11} {_shown(bench.seconds_per_step.times(1e3), digits=3)} ms"
    for name, part in bench.parts.items():
        share = part.median / bench.seconds_per_step.median
        yield f"    {name:<9} {_shown(part.times(1e3), digits=3)} ms {share:>6.1%}"
    for name, size in bench.memory.items():
        yield f"  {name:<11} {size / _MIB:>12,.0f} MiB at most"


def ratios(bench: Bench, other: Bench) -> dict[str, Interval | None]:
    """Return the ratio of each number to the other benchmark's number."""
    return {
        "samples/s": bench.samples_per_second.over(other.samples_per_second),
        "step": bench.seconds_per_step.over(other.seconds_per_step),
        **{name: part.over(other.parts[name]) for name, part in bench.parts.items() if name in other.parts},
        **{
            name: Interval(median=ratio, low=ratio, high=ratio)
            for name, size in bench.memory.items()
            if other.memory.get(name) and (ratio := size / other.memory[name])
        },
    }


def unlike(bench: Bench, other: Bench) -> list[str]:
    """Return the differences in the inputs of two benchmarks, a line for each; they affect the ratios."""
    names = ("experiment", "data", "device", "threads", "torch", "determinism", "precision", "batch_size", "parameters")
    return [
        f"{name.replace('_', ' ')}: {getattr(bench, name)}, against {getattr(other, name)}"
        for name in names
        if getattr(bench, name) != getattr(other, name)
    ]


def compared(found: Mapping[str, Interval | None]) -> Iterator[str]:
    """Yield ratios as lines of a table."""
    for name, ratio in found.items():
        yield f"  {name:<11} {_shown(ratio, digits=3) if ratio else '-'}"


def _shown(value: Interval, *, digits: int) -> str:
    return f"{value.median:>12,.{digits}f}  ({value.low:,.{digits}f} to {value.high:,.{digits}f})"
