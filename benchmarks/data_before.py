"""Compares dataset transfers of this checkout with another checkout, in turn on one server: data_before.py CHECKOUT [ROUNDS].

The other checkout needs its own environment (`scripts/machine/venv dev`). Each line times a whole process; the ratio is the median of the
ratios of the rounds, with the lowest and the highest. Prints Markdown.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dev_python import require

ROOT: Final = Path(__file__).resolve().parent.parent
require("rfc8785")
sys.path.insert(0, str(ROOT))

from data import make_large, make_small  # noqa: E402 - a Python that has the libraries may have to be found first

from tests.stores.server import BUCKET, PASSWORD, USER, serving  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL: Final = 10_000
LARGE: Final = 64 << 20


def words(name: str, side: str, round_: int) -> Iterator[tuple[str, list[str], bool]]:
    """Yield the timed cases of a dataset in order: name, client arguments, and whether to empty the cache first."""
    store, declared = f"s3://{BUCKET}/{name}-{side}-{round_}", f"{name}-{side}.json"
    yield f"publish {name}", ["publish", store, name, declared], False
    yield f"the same again, {name}", ["publish", store, name, declared], False
    yield f"cold fetch {name}", ["fetch", store, "cache", declared], True
    yield f"warm {name}", ["fetch", store, "cache", declared], False
    yield f"cold fetch {name}, with a tree", ["fetch", store, "cache", declared, "--folder"], True


def seconds(checkout: Path, given: list[str], home: Path) -> tuple[float, float]:
    """Return the wall-clock and CPU seconds of one client process; CPU time is less sensitive to other load."""
    python = checkout / ".venv/bin/python"
    subprocess.run(["sync"], check=True)
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(python), str(checkout / "benchmarks/data_client.py"), *given]
    subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL)
    took, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main(other: Path, rounds: int) -> None:
    """Time both checkouts, in turn."""
    sides = {"before": other.resolve(), "now": ROOT}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as name:
        home = Path(name)
        make_small(home / f"{SMALL:,} files", SMALL)
        make_large(home / "4 large files", LARGE)
        (home / "server").mkdir()
        with serving(home / "server") as endpoint:
            os.environ |= {"AWS_ENDPOINT_URL_S3": endpoint, "AWS_REGION": "us-east-1"}
            os.environ |= {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD}
            for round_ in range(rounds):
                for data in (f"{SMALL:,} files", "4 large files"):
                    for side in sorted(sides, reverse=bool(round_ % 2)):
                        for what, given, cold in words(data, side, round_):
                            if cold:
                                shutil.rmtree(home / "cache", ignore_errors=True)
                            took = seconds(sides[side], given, home)
                            found.setdefault(what, {}).setdefault(side, []).append(took)
    report(found, rounds)


def report(found: dict[str, dict[str, list[tuple[float, float]]]], rounds: int) -> None:
    """Print the table."""
    print(f"{rounds} rounds; a ratio is the median of the rounds' (lowest to highest)\n")
    print("| what | before | now | ratio | before, processors | now, processors | ratio, processors |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for what, sides in found.items():
        line = f"| {what} |"
        for column in (0, 1):
            before, now = ([each[column] for each in sides[side]] for side in ("before", "now"))
            ratios = [b / a for a, b in zip(before, now, strict=True)]
            line += f" {statistics.median(before):.2f} s | {statistics.median(now):.2f} s |"
            line += f" {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |"
        print(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 5)
