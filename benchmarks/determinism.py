"""What a level of determinism costs a step: one process a level, all at once, which step in turns.

A level is made of variables that are read when libraries are loaded, so each has a process; while one steps, the others wait for their
turn. Needs torch: the development environment, or an image.
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

from pairs import shown  # noqa: E402 - the repository's own, which has to be found first

from trainer.settings.determinism import Level, variables  # noqa: E402

CASES: Final = (("off", 2), ("machine", 2), ("off", 1), ("machine", 1), ("portable", 1))
"""Levels, each with its threads: `portable` has one, so what that costs is told apart from the rest."""
TOGETHER: Final = {"transformer": 1, "small net": 50}
"""Steps of a turn."""
WARM: Final = 3


class Stepper:
    """A process at a level, which makes steps when it is asked to."""

    def __init__(self, net: str, level: str, threads: int) -> None:
        """Start it."""
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
        """Make steps; give the seconds of one."""
        asked, answered = self.process.stdin, self.process.stdout
        if asked is None or answered is None:
            sys.exit("bench: a stepper without pipes")
        print(count, file=asked, flush=True)
        return float(answered.readline()) / count


def steps(name: str, level: str, threads: int) -> None:
    """Be such a process: a number on a line is answered with the seconds of so many steps."""
    from nets import NETS, Net

    from trainer.training.determinism.exactness import apply_level

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
    """The table's rows of one net; the order of the cases turns, so that none always follows the same."""
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
    """A level's line of the table: held against `off` with two threads, and with as many as it has itself."""
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
