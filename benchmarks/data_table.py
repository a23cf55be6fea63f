"""Timing of alternating cases, and the table that `benchmarks/data.py` prints.

The measurements of a process are wall-clock seconds, CPU seconds, peak memory, and bytes over the loopback device.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BEGAN: Final = time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A timed command, with a setup function for each round."""

    name: str
    command: Sequence[str]
    before: Callable[[], None] = lambda: None
    copies: int = 1
    """The number of parallel processes."""
    limit_s: float = 300.0
    """The time limit; the table shows a timeout."""
    ours: bool = False
    """Whether to measure the memory, in an extra run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The measurements of one run of a case."""

    wall: float
    cpu: float
    moved: float
    """Bytes over the loopback device, including internal traffic of the server."""
    late: bool = False


def timed(case: Case, cwd: Path) -> Timing:
    """Run a case once. Exit if the command fails."""
    case.before()
    os.sync()
    moved, start, used = received(), time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [subprocess.Popen(case.command, cwd=cwd, stdout=subprocess.DEVNULL) for _ in range(case.copies)]
    late = False
    for process in running:
        try:
            if process.wait(timeout=max(0.1, case.limit_s - (time.perf_counter() - start))):
                sys.exit(f"bench: {case.name}: {' '.join(case.command)} failed")
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            process.wait()
    wall, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Timing(wall=wall, cpu=cpu, moved=received() - moved, late=late)


def memory(case: Case, cwd: Path) -> str:
    """Return the peak resident size of a process, measured by a small parent: the size of a large parent would count."""
    if not case.ours or case.copies > 1:
        return ""
    case.before()
    watch = "import resource,subprocess,sys; subprocess.run(sys.argv[1:],check=True,stdout=subprocess.DEVNULL)"
    watch += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    words = [sys.executable, "-c", watch, *case.command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True)
    return f"{int(done.stdout.split()[-1]) / 1024:.0f} MB"


def table(title: str, cases: Sequence[Case], *, rounds: int, cwd: Path) -> dict[str, float]:
    """Print a table: cases in turn, medians, ratios to the first. Return the medians in seconds, by case."""
    print(f"bench: {time.monotonic() - _BEGAN:4.0f} s: {title}", file=sys.stderr, flush=True)
    took = [[timed(case, cwd) for case in cases] for _ in range(rounds)]
    medians = {case.name: statistics.median(turns[at].wall for turns in took) for at, case in enumerate(cases)}
    base = medians[cases[0].name]
    print(f"\n### {title}\n\n| case | median | fastest | ratio | processors | over the loopback | memory |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, case in enumerate(cases):
        each = [turns[number] for turns in took]
        median = medians[case.name]
        more = "over " if any(one.late for one in each) else ""
        cells = [
            case.name,
            f"{more}{median:.2f} s",
            f"{more}{min(one.wall for one in each):.2f} s",
            f"{more}{median / base:.2f}",
            f"{statistics.median(one.cpu for one in each):.2f} s",
            f"{statistics.median(one.moved for one in each) / 1e6:.1f} MB",
            memory(case, cwd),
        ]
        print(f"| {' | '.join(cells)} |")
    sys.stdout.flush()
    return medians


def received() -> int:
    """Return the bytes over the loopback device since boot."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if "lo:" in line).split(":")[1].split()[0])
