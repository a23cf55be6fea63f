"""Compares the durations of commands, and stores the tables in the repository.

`benchmarks/NAME.toml` defines the cases. Times differ between machines; compare the ratios within one table, whose cases alternate.
Standard library only.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A timed command, from its start to its end or to the first line that matches `until`."""

    name: str
    command: str
    before: str = ""
    """A command that is run before each timing, untimed."""
    until: str = ""
    after: str = ""
    """A command that is run once at the end; the last line of its output is the case's note in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Alternating cases; ratios are relative to the first case."""

    title: str
    aim: str
    rounds: int
    cases: tuple[Case, ...]
    prepare: str = ""
    """A command that is run once before the timing, and creates the files that a fresh clone lacks."""
    program: str = ""
    """A Python program that takes the number of rounds and prints the tables, instead of cases."""


def read(name: str) -> Benchmark:
    """Return the benchmark that `benchmarks/NAME.toml` defines."""
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return Benchmark(cases=tuple(Case(**case) for case in content.pop("case", ())), **content)


def run(command: str, *, name: str) -> None:
    """Run a preparation command; exit if it fails."""
    if subprocess.run(command, shell=True, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode:  # noqa: S602 - a command of the repository
        sys.exit(f"bench: {name}: `{command}` failed, for the reason above")


def seconds(case: Case) -> float:
    """Return the seconds of one run. Exit with the output of the command if it fails."""
    if case.before:
        run(case.before, name=case.name)
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S602 - a command of the repository
        case.command, shell=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output, took = wait_for_line(process, case.until)
    end = took or time.perf_counter()
    if process.returncode or (case.until and not took):
        sys.exit(f"bench: {case.name}: exit {process.returncode}, waited for {case.until!r}: {output[-1000:]}")
    return end - start


def wait_for_line(process: subprocess.Popen[str], until: str) -> tuple[str, float]:
    """Return the output of a process, and the time of the first matching line; 0 if no line matches."""
    output, took = [], 0.0
    for line in process.stdout or ():
        if until and not took and re.search(until, line):
            took = time.perf_counter()
        output.append(line)
    return "".join(output), took


def table(benchmark: Benchmark) -> str:
    """Return the measured table, in Markdown. Exit if a command fails."""
    if benchmark.prepare:
        run(benchmark.prepare, name=benchmark.title)
    if benchmark.program:
        command = [sys.executable, benchmark.program, str(benchmark.rounds)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"bench: {benchmark.program} ended with exit code {done.returncode}, for the reason above")
        return done.stdout.strip()
    timings: dict[str, list[float]] = {case.name: [] for case in benchmark.cases}
    for round_ in range(benchmark.rounds):
        print(f"bench: round {round_ + 1} of {benchmark.rounds}", file=sys.stderr)
        for case in benchmark.cases:
            timings[case.name].append(seconds(case))
    base = statistics.median(timings[benchmark.cases[0].name])
    return "\n".join(
        ["| case | median | fastest | slowest | ratio | note |", "| --- | ---: | ---: | ---: | ---: | --- |"]
        + [row(case, timings[case.name], base) for case in benchmark.cases]
    )


def row(case: Case, times: list[float], base: float) -> str:
    """Return the table row of a case."""
    median = statistics.median(times)
    shown = " | ".join(f"{value:.3f} s" for value in (median, min(times), max(times)))
    return f"| {case.name} | {shown} | {median / base:.2f} | {output(case.after) if case.after else ''} |"


def machine() -> str:
    """Return the line that describes the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = (
        output("sed -n 's/^model name.*: //p' /proc/cpuinfo 2>/dev/null | sort -u | head -1") or platform.processor()
    )
    engine = output("docker version --format '{{.Server.Version}}' 2>/dev/null")
    return (
        f"Machine: {processor or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform()}, "
        f"Python {platform.python_version()}, Docker {engine or 'absent'}; load {os.getloadavg()[0]:.1f} at the start."
    )


def output(command: str) -> str:
    """Return the last line of output of a shell command, or an empty string."""
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S602 - a command of the repository
    return (done.stdout.strip().splitlines() or [""])[-1]


def section(benchmark: Benchmark) -> str:
    """Return the section for the history: date, commit, machine, number of rounds, and the table."""
    commit = output("git rev-parse --short HEAD") + (", edited" if output("git status --porcelain") else "")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    rounds = f"{benchmark.rounds} round{'s' * (benchmark.rounds != 1)}, in which the cases take turns; ratios are to the first case."
    return f"\n## {when}, commit {commit}\n\n{machine()} {rounds}\n\n{table(benchmark)}\n"


def main() -> int:
    """Run one benchmark, or list all benchmarks."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Run a benchmark and append its table to benchmarks/NAME.md."
    )
    parser.add_argument("name", nargs="?", choices=sorted(file.stem for file in FOLDER.glob("*.toml")))
    parser.add_argument("--dry", action="store_true", help="print the table without storing it")
    given = parser.parse_args()
    if given.name is None:
        print(*(f"{file.stem}: {read(file.stem).title}" for file in sorted(FOLDER.glob("*.toml"))), sep="\n")
        return 0
    benchmark, history = read(given.name), FOLDER / f"{given.name}.md"
    found = section(benchmark)
    print(found)
    if not given.dry:
        head = f"# {benchmark.title}\n\nAim: {benchmark.aim} Measured by `scripts/bench {given.name}`; the newest table is the last.\n"
        kept = history.read_text(encoding="utf-8") if history.exists() else head
        history.write_text(kept + found, encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
