"""What a benchmark of an experiment measured: the document `reprise.bench/1`, its table, and ratios to another one.

Knows medians and their intervals. Refuses to measure, and to call anything fast or slow.

An interval holds the median with 95 % confidence: its ends are two of the values themselves, those whose ranks a fair coin names. So it
assumes nothing of how values are spread, but that they are independent, which steps of one training nearly are.
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
    """A median, and where it lies with 95 % confidence."""

    median: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(median=factor * self.median, low=factor * self.low, high=factor * self.high)

    def inverse(self, factor: float = 1.0) -> Interval:
        """What there is `factor` of in each of these.

        >>> Interval(median=0.5, low=0.25, high=1.0).inverse(8)
        Interval(median=16.0, low=8.0, high=32.0)
        """
        return Interval(median=factor / self.median, low=factor / self.high, high=factor / self.low)

    def over(self, other: Interval) -> Interval | None:
        """The ratio to another; its interval holds whatever both hold. `None` where the other one is nothing."""
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
    """Steps before the first that counts."""
    steps: int
    samples_per_second: Interval
    seconds_per_step: Interval
    parts: dict[str, Interval]
    """Seconds of a step: `data`, `forward`, `backward`, `optimizer`, `callbacks`, and the `rest` of the loop."""
    memory: dict[str, int]
    """Bytes at most: `resident`, of the process; `allocated`, on a GPU."""


class Dear(Document):
    """An operation, and what it costs a step."""

    name: str
    calls: float
    seconds: float
    """Its own, without the operations that it calls."""
    share: float


class Told(Document):
    """What `reprise bench --json` prints; `--against` reads it."""

    bench: Bench
    ratios: dict[str, Interval | None] | None = None
    unlike: list[str] = []
    profile: str | None = None
    dearest: list[Dear] = []


def interval(values: Sequence[float]) -> Interval:
    """The median of some values and its interval.

    >>> interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    Interval(median=5.5, low=2.0, high=9.0)
    """
    ranked = sorted(values)
    first = _rank(len(ranked))
    return Interval(median=statistics.median(ranked), low=ranked[first], high=ranked[-1 - first])


def _rank(count: int) -> int:
    """The place of the lower end: with probability 2.5 % at most, fewer of `count` values than that lie below the true median."""
    below, place = 1, 0
    while 40 * (below + comb(count, place + 1)) <= 2**count:
        place += 1
        below += comb(count, place)
    return place


def page(bench: Bench) -> Iterator[str]:
    """Tell it as a table."""
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
    """Each number over the other's."""
    return {
        "samples/s": bench.samples_per_second.over(other.samples_per_second),
        "step": bench.seconds_per_step.over(other.seconds_per_step),
        **{name: part.over(other.parts[name]) for name, part in bench.parts.items() if name in other.parts},
        **{
            name: Interval(
                median=size / other.memory[name], low=size / other.memory[name], high=size / other.memory[name]
            )
            for name, size in bench.memory.items()
            if other.memory.get(name)
        },
    }


def unlike(bench: Bench, other: Bench) -> list[str]:
    """What else differs between the two, a line each.

    Ratios say nothing of one of these alone.
    """
    names = ("experiment", "data", "device", "threads", "torch", "determinism", "precision", "batch_size", "parameters")
    return [
        f"{name.replace('_', ' ')}: {getattr(bench, name)}, against {getattr(other, name)}"
        for name in names
        if getattr(bench, name) != getattr(other, name)
    ]


def compared(found: Mapping[str, Interval | None]) -> Iterator[str]:
    """Tell ratios as a table."""
    for name, ratio in found.items():
        yield f"  {name:<11} {_shown(ratio, digits=3) if ratio else '-'}"


def _shown(value: Interval, *, digits: int) -> str:
    return f"{value.median:>12,.{digits}f}  ({value.low:,.{digits}f} to {value.high:,.{digits}f})"
