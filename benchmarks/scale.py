"""Measures steps over 1, 2 and 4 processes: Reprise, DistributedDataParallel and FSDP2, in containers, in turn; and the cost of shards.

Reprise is measured with whole parameters on every process, and with parameters distributed by FSDP2.

Every process has one thread. Standard library only; needs scripts/setup.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ("docker", "compose", "run", "--rm", "-T", "-e", "OMP_WAIT_POLICY=PASSIVE", "-e", "OMP_NUM_THREADS=1")
RANKS = (1, 2, 4)
NETS = {"transformer": ("transformer, 9.9 M parameters", 61), "small": ("the digits' net, 0.01 M parameters", 171)}
"""The title of a net, and the number of steps: the timing ends when the last step begins (`bodies.STEPS`)."""
RUN_ID = re.compile(r"^run (\d{8}t\d{6}-\w{6}): ", re.MULTILINE)
SECONDS_PER_STEP = re.compile(r"^seconds a step: ([\d.]+)$", re.MULTILINE)


def reprise(net: str, *, devices: int, shards: int, strategy: str | None = None) -> list[str]:
    """Return the command of a training run by Reprise, at the default level of determinism and with the trace."""
    chosen = ("--strategy", strategy) if strategy else ()
    words = ("--exp", "benchmarks/overhead_exp.py", "--body", net, "--max-steps", str(NETS[net][1]), "--no-publish")
    return [*RUN, "train", *words, "--threads", "1", "--devices", str(devices), "--shards", str(shards), *chosen]


def bare(kind: str, net: str, ranks: int) -> list[str]:
    """Return the command of a training run without Reprise."""
    return [*RUN, "--entrypoint", "python", "train", "benchmarks/scale_bare.py", kind, net, str(ranks)]


def cases(net: str) -> dict[str, list[str]]:
    """Return the commands by title."""
    found = {f"{ranks} x DistributedDataParallel": bare("ddp", net, ranks) for ranks in RANKS[1:]}
    found = {"1 x bare torch": bare("ddp", net, 1)} | found
    found |= {f"{ranks} x FSDP2": bare("fsdp2", net, ranks) for ranks in RANKS[1:]}
    found |= {f"{ranks} x Reprise": reprise(net, devices=ranks, shards=ranks) for ranks in RANKS}
    found |= {
        f"{ranks} x Reprise, FSDP2": reprise(net, devices=ranks, shards=ranks, strategy="fsdp") for ranks in RANKS[1:]
    }
    return found | {f"1 x Reprise, {shards} shards": reprise(net, devices=1, shards=shards) for shards in RANKS[1:]}


def measure(command: list[str]) -> tuple[float, float]:
    """Return the seconds per step, and from the start to the first step. Exit with the output if the command fails."""
    began, first = time.perf_counter(), 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output = ""
        for line in process.stdout or ():
            if line.strip() == "first step" and not first:
                first = time.perf_counter() - began
            output += line
    for run in RUN_ID.findall(output):
        shutil.rmtree(ROOT / "runs" / run, ignore_errors=True)
    found = SECONDS_PER_STEP.search(output)
    if found is None:
        sys.exit(f"scale: {' '.join(command)}: exit {process.returncode}: {output[-1000:]}")
    return float(found[1]), first


def main(rounds: int) -> None:
    """Print the table."""
    print("| net | processes | a step | over DistributedDataParallel with as many | start to first step |")
    print("| --- | --- | ---: | ---: | ---: |")
    for net, (title, _) in NETS.items():
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases(net)}
        for round_ in range(rounds):
            print(f"scale: {net}, round {round_ + 1} of {rounds}", file=sys.stderr)
            for name, command in cases(net).items():
                times[name].append(measure(command))
        for name, mine in times.items():
            step, first = (statistics.median(each[place] for each in mine) for place in (0, 1))
            peer = "1 x bare torch" if name.startswith("1 ") else f"{name[0]} x DistributedDataParallel"
            ratio = statistics.median(one[0] / other[0] for one, other in zip(mine, times[peer], strict=True))
            print(f"| {title} | {name} | {1e3 * step:.2f} ms | {ratio:.2f} | {first:.1f} s |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
