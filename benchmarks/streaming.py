"""Compares streaming with MosaicML Streaming and LitData: the same samples, S3 server and cache size. Run by `scripts/bench streaming`.

A process for each measurement reads two shuffled epochs through a loader of torch: a cold epoch with an empty cache, from the opening of
the dataset to the last batch, and a warm epoch with the cache of the first. The cache may hold a quarter of the bytes, or all bytes.
The processes of the libraries alternate. `of Reprise` is the ratio of samples per second to Reprise's. Prints Markdown.
`streaming.py 1 --tiny` runs all cases with little data, as a smoke test.

Each pass shows by sums that it read each sample once; an untimed third pass without a limit compares the bytes of all samples with the
files. All batches are the same tensors: uint8, padded, and the lengths.

Limits of the comparison:

- The shuffles differ. Reprise permutes blocks of up to 128 neighbors, and moves each sample by less than a window, here an eighth of the
  samples; its default permutes all samples. MosaicML Streaming shuffles within blocks, here of an eighth of the samples, too: the default,
  262,144 samples, is more than the dataset has, so that with a limit the shards would be fetched many times. LitData permutes the chunks,
  and the samples within windows of 256.
- Reprise verifies each sample by its sha256 when it is fetched and whenever it is read from the cache; the others verify nothing.
- A shard or chunk has a sixteenth of the limit (the defaults, 64 MB, do not fit into it), and Reprise has packs of up to 32 MiB.
- The server reads whole pieces of an object: for 0.5 MB of a piece of 4 MB, its default, it moves 5 MB over the loopback. Reprise asks for
  ranges of about that size, the others for whole objects of 0.7 MB, so here a piece has 1 MB. The bytes over the loopback contain this
  traffic, and count what the server sends at least twice.
- The limits count differently: Reprise counts the disk blocks of everything in the cache, the others count the sizes of shards. A library
  may exceed its limit during an epoch: the size of the cache is measured at the end.
- MosaicML Streaming and LitData use the torch of this environment, and numpy 2.1, which MosaicML Streaming requires. MosaicML Streaming is
  imported without its `__init__`, which imports torchvision, whose wheel needs torch for CUDA. LitData fetches with obstore, which reads
  http addresses after a private variable is changed.
- The server shares the processors with the readers, and the page cache holds all files.

The peers are installed from `benchmarks/streaming_peers.txt`, by hash, into a temporary environment that sees torch of this one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dev_python import require

ROOT = Path(__file__).resolve().parent.parent
require("torch")
sys.path.insert(0, str(ROOT))

from data import installed, make_small  # noqa: E402 - a Python that has the libraries may have to be found first

from tests.stores.server import BUCKET, PASSWORD, USER, serving  # noqa: E402

_BEGAN: Final = time.monotonic()
NAMES: Final = {"reprise": "Reprise", "mosaic": "MosaicML Streaming", "litdata": "LitData"}
WORKERS: Final = (0, 2)
LONGEST_S: Final = 300.0
MOST_FAILED: Final = 3
"""Maximum number of failed processes of a peer in a case: with a limit, MosaicML Streaming sometimes reads a shard that it evicted."""
"""The time limit of a process."""
SAMPLES: Final = 6_000
TINY: Final = 2_000
PIECE_MB: Final = 1
"""The server stores objects in pieces of this many MB, and reads a whole piece for a range of it."""
LEAST: Final = 11 << 20
"""The smallest limit: Reprise keeps 4 MB of it for other files, and workers of LitData wait for each other below 10 MiB."""


@dataclass(slots=True)
class Timings:
    """The rounds of one library."""

    cold: list[float] = field(default_factory=list)
    """Samples per second."""
    warm: list[float] = field(default_factory=list)
    moved: list[tuple[int, int]] = field(default_factory=list)
    """Bytes over the loopback device, of the cold and the warm pass."""
    cached: int = 0
    """The largest size of a cache on the disk after the last pass, in bytes."""
    failed: int = 0
    """The number of processes that ended with an error, and were started again."""


class Bench:
    """One run of the benchmark, in its own folder with its own server."""

    def __init__(self, home: Path, endpoint: str, rounds: int, *, peers: Path, samples: Path) -> None:
        self.home, self.endpoint, self.rounds, self.peers, self.samples = home, endpoint, rounds, peers, samples
        self.expected = sums(samples)
        self.limit = max(self.expected["bytes"] // 4, LEAST)

    def job(self, system: str, **more: Any) -> dict[str, Any]:
        """Return the job of a process."""
        return {
            "system": system,
            "store": f"s3://{BUCKET}/{system}",
            "endpoint": self.endpoint,
            "shard": self.limit // 16,
            "declared": str(self.home / "bench.json"),
            "samples": self.expected["samples"],
            **more,
        }

    def run(self, verb: str, job: dict[str, Any]) -> str:
        """Run a process and return its output. Exit if it fails or takes too long."""
        python = sys.executable if job["system"] == "reprise" else str(self.peers / "python")
        command = [python, str(ROOT / "benchmarks/streaming_client.py"), verb, json.dumps(job)]
        try:
            done = subprocess.run(
                command, cwd=self.home, capture_output=True, text=True, timeout=LONGEST_S, check=False
            )
        except subprocess.TimeoutExpired:
            sys.exit(f"bench: {verb} {job} takes more than {LONGEST_S:.0f} s")
        if done.returncode:
            sys.exit(f"bench: {verb} {job} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def write(self) -> None:
        """Write the samples in the format of each library."""
        for system in NAMES:
            self.run("write", self.job(system, folder=str(self.samples)))

    def read(self, system: str, timings: Timings, **more: Any) -> None:
        """Read two epochs, check them, and store the timings."""
        cache = self.home / "cache"
        passes = self.passes(system, timings, cache=cache, **more)
        self.check(system, passes)
        shutil.rmtree(cache)
        cold, warm = passes[:2]
        timings.cold.append(cold["samples"] / cold["seconds"])
        timings.warm.append(warm["samples"] / warm["seconds"])
        timings.moved.append((cold["received"], warm["received"]))
        timings.cached = max(timings.cached, passes[-1]["cached"])

    def passes(self, system: str, timings: Timings, *, cache: Path, **more: Any) -> list[dict[str, Any]]:
        """Return what a process measured. A process of a peer that fails is started again with an empty cache, until `MOST_FAILED`."""
        while True:
            cache.mkdir()
            os.sync()
            try:
                printed = self.run("read", self.job(system, folder=str(cache), **more))
            except SystemExit as fault:
                timings.failed += 1
                if system == "reprise" or timings.failed > MOST_FAILED:
                    raise
                print(fault, file=sys.stderr, flush=True)
                shutil.rmtree(cache)
                continue
            found: list[dict[str, Any]] = json.loads(printed.splitlines()[-1])
            return found

    def check(self, system: str, passes: list[dict[str, Any]]) -> None:
        """Exit if a pass did not read each sample once."""
        for number, one in enumerate(passes):
            names = ("samples", "bytes", "heads", *(("crc",) if number > 1 else ()))
            found, expected = ({name: each[name] for name in names} for each in (one, self.expected))
            if found != expected:
                sys.exit(f"bench: pass {number} of {NAMES[system]} read {found}; expected {expected}")

    def table(self, *, limit: int | None, workers: int) -> None:
        """Print a table: processes in turn, medians of samples per second."""
        size = "no limit" if limit is None else f"a limit of {limit / 1e6:.0f} MB"
        title = f"{size}, {workers} workers"
        print(f"bench: {time.monotonic() - _BEGAN:4.0f} s: {title}", file=sys.stderr, flush=True)
        each = {system: Timings() for system in NAMES}
        for round_ in range(self.rounds):
            for system, timings in each.items():
                is_checked = round_ == 0 and workers == 0 and limit is None
                self.read(system, timings, limit=limit, workers=workers, is_checked=is_checked)
        print(f"\n### {title}\n")
        print("| library | cold, samples/s | of Reprise | warm, samples/s | of Reprise | over the loopback | cache |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for system, timings in each.items():
            print(row(NAMES[system], timings, each["reprise"]), flush=True)


def row(name: str, timings: Timings, base: Timings) -> str:
    """Return the line of a library."""
    moved = " + ".join(f"{statistics.median(values) / 1e6:.0f} MB" for values in zip(*timings.moved, strict=True))
    cells = [f"{name}, {timings.failed} failed" if timings.failed else name]
    for own, other in ((timings.cold, base.cold), (timings.warm, base.warm)):
        median = statistics.median(own)
        cells += [f"{median:,.0f} ({min(own):,.0f} to {max(own):,.0f})", f"{median / statistics.median(other):.2f}"]
    return f"| {' | '.join([*cells, moved, f'{timings.cached / 1e6:.0f} MB'])} |"


def sums(folder: Path) -> dict[str, int]:
    """Return the sums that a pass must find."""
    found = dict.fromkeys(("samples", "bytes", "heads", "crc"), 0)
    for path in folder.rglob("*.png"):
        body = path.read_bytes()
        found["samples"] += 1
        found["bytes"] += len(body)
        found["heads"] = (found["heads"] + int.from_bytes(body[:8], sys.byteorder)) % 2**64
        found["crc"] += zlib.crc32(body)
    return found


def main(rounds: int, samples: int) -> None:
    """Run all cases."""
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as name:
        home = Path(name)
        peers = installed(home, "streaming_peers.txt", sees=Path(sys.prefix))
        (home / "server").mkdir()
        with serving(home / "server", f"filer.maxMB={PIECE_MB}") as endpoint:
            os.environ |= {
                "AWS_ENDPOINT_URL_S3": endpoint,
                "AWS_ACCESS_KEY_ID": USER,
                "AWS_SECRET_ACCESS_KEY": PASSWORD,
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "HOME": str(home),
            }
            bench = Bench(home, endpoint, rounds, peers=peers, samples=make_small(home / "samples", samples))
            bench.write()
            expected = bench.expected
            print(f"{expected['samples']:,} samples, {expected['bytes'] / 1e6:.0f} MB, batches of 64.")
            for limit in (bench.limit, None):
                for workers in WORKERS:
                    bench.table(limit=limit, workers=workers)


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--tiny"]
    main(int(given[0]) if given else 3, TINY if "--tiny" in sys.argv else SAMPLES)
