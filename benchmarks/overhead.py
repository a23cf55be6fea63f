"""Measures the overhead of Reprise per step: `train`, a bare Lightning loop and a bare torch loop, in containers, in turn.

The result of a pair is the median of the ratios of the rounds, with its 95 % interval. `overhead.py ROUNDS --pairs` prints only the last
table, of pairs that run at the same time. Standard library only; needs scripts/setup.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pairs import shown

ROOT = Path(__file__).resolve().parent.parent
RUN = ("docker", "compose", "run", "--rm", "-T", "-e", "OMP_WAIT_POLICY=PASSIVE", "-e", "OMP_NUM_THREADS=2")
BARE = (*RUN, "--entrypoint", "python", "train", "benchmarks/overhead_bare.py")
TRAIN = (*RUN, "train", "--exp", "benchmarks/overhead_exp.py", "--no-publish", "--max-steps")
NETS = {"transformer": ("transformer, 9.9 M parameters", "61"), "small": ("the digits' net, 0.01 M parameters", "171")}
"""The title of a net, and the number of steps: the timing ends when the last step begins (`bodies.STEPS`)."""
LOOPS = {
    "bare torch": lambda net: [*BARE, "torch", net],
    "bare Lightning": lambda net: [*BARE, "lightning", net],
    "Reprise, default settings": lambda net: [*TRAIN, NETS[net][1], "--body", net],
    "Reprise, trace and determinism off": lambda net: [
        *TRAIN,
        NETS[net][1],
        "--body",
        net,
        "--trace",
        "off",
        "--determinism",
        "off",
    ],
}
MODULE = (
    "--exp",
    "benchmarks/overhead_bare.py",
    "--trace",
    "off",
    "--determinism",
    "off",
    "--no-publish",
    "--max-steps",
)
LOOPS["the module of bare Lightning through Reprise, trace and determinism off"] = lambda net: [
    *(*RUN, "train", *MODULE, NETS[net][1], "--name", net)
]
RUN_ID = re.compile(r"^run (\d{8}t\d{6}-\w{6}): ", re.MULTILINE)
"""The line in which a training process prints its run, to delete the run afterwards."""
SECONDS_PER_STEP = re.compile(r"^seconds a step: ([\d.]+)$", re.MULTILINE)


def seconds(loop: str, net: str, *, cpu: int | None = None) -> float:
    """Return the seconds per step, with one thread on one processor if `cpu` is its number. Exit with the loop's output if it fails."""
    command = LOOPS[loop](net)
    if cpu is not None:
        own = ["-e", f"BENCH_CPU={cpu}", "-e", "OMP_NUM_THREADS=1"]
        command = [*RUN, *own, *command[len(RUN) :], *(["--threads", "1"] if "--exp" in command else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    for run in RUN_ID.findall(done.stderr):
        shutil.rmtree(ROOT / "runs" / run, ignore_errors=True)
    found = SECONDS_PER_STEP.search(done.stdout)
    if found is None:
        sys.exit(f"overhead: {loop}, {net}: exit {done.returncode}: {(done.stdout + done.stderr)[-1000:]}")
    return float(found[1])


def beside(net: str, rounds: int) -> str:
    """Return the table row of the module of bare Lightning, which trains at the same time through Reprise and without it.

    Each process has one processor and one thread, and counts its processor time, so that other processes do not count. The processors are
    exchanged after each round.
    """
    times: dict[str, list[float]] = {"Reprise": [], "bare": []}
    module = "the module of bare Lightning through Reprise, trace and determinism off"
    for round_ in range(rounds):
        print(f"overhead: {net}, side by side, round {round_ + 1} of {rounds}", file=sys.stderr)
        with ThreadPoolExecutor() as pool:
            pair = [
                pool.submit(seconds, loop, net, cpu=(round_ + number) % 2)
                for number, loop in enumerate((module, "bare Lightning"))
            ]
            for side, found in zip(times, pair, strict=True):
                times[side].append(found.result())
    mine, other = times["Reprise"], times["bare"]
    step = f"{1e3 * statistics.median(mine):.2f} ms | {1e3 * statistics.median(other):.2f} ms"
    return f"| {NETS[net][0]} | {step} | {shown(mine, other)} |"


def measured(net: str, rounds: int) -> list[str]:
    """Return the table rows of a net; each round begins with a different loop."""
    times: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for round_ in range(rounds):
        print(f"overhead: {net}, round {round_ + 1} of {rounds}", file=sys.stderr)
        first = round_ % len(LOOPS)
        for loop in [*LOOPS][first:] + [*LOOPS][:first]:
            times[loop].append(seconds(loop, net))
    return [row(NETS[net][0], loop, times) for loop in LOOPS]


def row(net: str, loop: str, times: dict[str, list[float]]) -> str:
    """Return the table row of a loop."""
    mine = times[loop]
    over = ["" if loop == other else shown(mine, times[other]) for other in ("bare Lightning", "bare torch")]
    return f"| {net} | {loop} | {1 / statistics.median(mine):.1f} | {1e3 * statistics.median(mine):.2f} ms | {over[0]} | {over[1]} |"


def in_turn(rounds: int) -> None:
    """Print the table of all loops, each alone on the machine."""
    print("| net | loop | steps a second | a step | time over bare Lightning | time over bare torch |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for net in NETS:
        print(*measured(net, rounds), sep="\n", flush=True)


def side_by_side(rounds: int) -> None:
    """Print the table of the module of bare Lightning, which trains at the same time through Reprise and without it."""
    print(
        "\nProcessor time of the module of bare Lightning at the same time through Reprise and without it, each on one processor:\n"
    )
    print("| net | Reprise, a step | bare Lightning, a step | Reprise over bare Lightning |")
    print("| --- | ---: | ---: | ---: |")
    for net in NETS:
        print(beside(net, rounds), flush=True)


if __name__ == "__main__":
    if "--pairs" not in sys.argv:
        in_turn(int(sys.argv[1]))
    side_by_side(int(sys.argv[1]))
