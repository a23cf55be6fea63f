"""Measures the cost per step of the levels of determinism: each level has a process, and the processes step in turn.

A level sets variables that libraries read when they are loaded, so each level has its own process. Only one process steps at a time.
Needs torch: the development environment, or an image.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from dev_python import require

ROOT = Path(__file__).resolve().parent.parent
require("torch")
sys.path.insert(0, str(ROOT))

from pairs import shown  # noqa: E402 - a Python that has the libraries may have to be found first

from trainer.settings.determinism import Level, variables  # noqa: E402

CASES: Final = (("off", 2), ("machine", 2), ("off", 1), ("machine", 1), ("portable", 1))
"""Levels and numbers of threads: `portable` uses one thread, so the cost of one thread is measured separately."""
TOGETHER: Final = {"transformer": 1, "small net": 50}
"""Steps per turn."""
WARM: Final = 3


class Stepper:
    """A process at one level of determinism that runs training steps on request."""

    def __init__(self, net: str, level: str, threads: int) -> None:
        """Start the process."""
        self.threads = threads
        environ = {**os.environ, **variables(Level(level), threads=threads)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "step", net, level, str(threads)],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self, count: int) -> float:
        """Run steps and return the seconds per step."""
        asked, answered = self.process.stdin, self.process.stdout
        if asked is None or answered is None:
            sys.exit("bench: the process of a level has no pipes")
        print(count, file=asked, flush=True)
        return float(answered.readline()) / count


def steps(name: str, level: str, threads: int) -> None:
    """Run as a stepping process: read numbers of steps from stdin, and print the seconds that these steps take."""
    from nets import NETS, Net

    from trainer.training.determinism.switches import apply_level

    apply_level(determinism=Level(level), threads=threads, precision="32-true")
    body, batch = NETS[name]()
    net = Net(body)
    optimizer = net.configure_optimizers()
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            optimizer.zero_grad()
            net.training_step([batch], 0).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        print(time.perf_counter() - began, flush=True)


def measured(name: str, rounds: int) -> list[str]:
    """Return the table rows of a net; the order of the cases is reversed in every other round, to avoid order effects."""
    steppers = [Stepper(name, *case) for case in CASES]
    times: list[list[float]] = [[] for _ in CASES]
    for number in range(-WARM, rounds):
        places = range(len(CASES)) if number % 2 else reversed(range(len(CASES)))
        for place in places:
            took = steppers[place].step(TOGETHER[name])
            if number >= 0:
                times[place].append(took)
    for stepper in steppers:
        stepper.process.communicate()
    return [row(name, place, times) for place in range(len(CASES))]


def row(name: str, place: int, times: list[list[float]]) -> str:
    """Return the table row of a level: ratios to `off` with two threads, and with the same number of threads."""
    level, threads = CASES[place]
    same = times[CASES.index(("off", threads))]
    median = statistics.median(times[place]) * 1e3
    first, own = ("" if times[place] is other else shown(times[place], other) for other in (times[0], same))
    return f"| {name} | {level}, {threads} thread(s) | {median:.2f} ms | {first} | {own} |"


def main(rounds: int) -> None:
    """Print the table."""
    print("| net | level | step | over off, 2 threads, with 95 % interval | over off, as many threads |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name in TOGETHER:
        print(*measured(name, rounds), sep="\n")


if __name__ == "__main__":
    if sys.argv[1] == "step":
        steps(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(int(sys.argv[1]))
