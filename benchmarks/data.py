"""Datasets against s5cmd and DVC: the same files, the same S3 server on this machine, in turn. Run by `scripts/bench data`.

Knows what is timed: whole processes, from their start to their end, caches and targets empty before each. Every table's ratios are to its
first line, which is s5cmd where there is one. The peers come from `benchmarks/peers.txt`, by hash, into an environment that is removed
afterwards. Prints Markdown.

What is fair and what is not: s5cmd verifies nothing and leaves a tree of files; DVC leaves a tree too. So Reprise is shown twice: packs
that training reads (verified), and with a tree of files (`--folder`). Nobody is made to wait for a disk: `sync` runs between.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.store.server import BUCKET, PASSWORD, USER, serving  # noqa: E402 - after the path is known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLIENT = [sys.executable, str(ROOT / "benchmarks/data_client.py")]
MANY = 20_000
GROWTH = (1_000, 10_000, 100_000)
TOGETHER = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command that is timed, and what is done before each time."""

    name: str
    command: Sequence[str]
    before: Callable[[], None] = lambda: None
    copies: int = 1
    """So many at once."""
    again: tuple[str, ...] = ()
    """Run after the command, timed too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """One timing: seconds on the clock, seconds of processors, the largest process in MB."""

    wall: float
    cpu: float
    rss: float


def timed(case: Case, cwd: Path) -> Took:
    """Run a case once."""
    case.before()
    os.sync()
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in filter(None, (case.command, case.again)):
        running = [subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL) for _ in range(case.copies)]
        if any(process.wait() for process in running):
            sys.exit(f"bench: {case.name}: {command} failed")
    wall, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall=wall, cpu=now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, rss=0.0)


def memory(case: Case, cwd: Path) -> float:
    """The largest resident size of a case's process, seen by a small parent: a large one's own size would be taken for the child's."""
    case.before()
    watch = "import resource,subprocess,sys; subprocess.run(sys.argv[1:],check=True,stdout=subprocess.DEVNULL)"
    watch += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", watch, *case.command], cwd=cwd, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


def table(title: str, cases: Sequence[Case], *, rounds: int, cwd: Path) -> None:
    """Print a table: cases in turn, medians, ratios to the first."""
    print(f"bench: {title}", file=sys.stderr)
    took = [[timed(case, cwd) for case in cases] for _ in range(rounds)]
    base = statistics.median(each[0].wall for each in took)
    print(
        f"\n### {title}\n\n| case | median | fastest | ratio | processors | memory |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for number, case in enumerate(cases):
        walls = [each[number].wall for each in took]
        cpu = statistics.median(each[number].cpu for each in took)
        rss = f"{memory(case, cwd):.0f} MB" if case.command[0] == CLIENT[0] else ""
        median = statistics.median(walls)
        print(f"| {case.name} | {median:.2f} s | {min(walls):.2f} s | {median / base:.2f} | {cpu:.2f} s | {rss} |")
    sys.stdout.flush()


def make_small(folder: Path, count: int) -> Path:
    """Files of 2 to 14 KB, 500 to a folder, the same each time."""
    random_ = random.Random(7)  # noqa: S311 - test data
    for number in range(count):
        path = folder / f"{number // 500:04d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_.randbytes(random_.randrange(2_000, 14_000)))
    return folder


def make_large(folder: Path) -> Path:
    """Four files of 256 MB."""
    folder.mkdir()
    for number in range(4):
        with (folder / f"{number}.bin").open("wb") as file:
            for _ in range(16):
                file.write(os.urandom(16_000_000))
    return folder


class Bench:
    """One run of it, in a folder of its own, against a server of its own."""

    def __init__(self, home: Path, endpoint: str, rounds: int, *, peers: Path | None) -> None:
        self.home, self.endpoint, self.rounds, self.peers = home, endpoint, rounds, peers

    def store(self, name: str) -> str:
        """A store for one dataset."""
        return f"s3://{BUCKET}/{name}"

    def emptied(self, *names: str) -> Callable[[], None]:
        """Remove caches and targets."""

        def remove() -> None:
            for name in names:
                shutil.rmtree(self.home / name, ignore_errors=True)

        return remove

    def fetch(self, name: str, *more: str, cache: str = "cache") -> list[str]:
        """Our fetch."""
        return [*CLIENT, "fetch", self.store(name), cache, f"{name}.json", *more]

    def s5cmd(self, *words: str) -> list[str]:
        """The peer."""
        return [str((self.peers or Path()) / "s5cmd"), "--log=error", "--endpoint-url", self.endpoint, *words]

    def publish(self, folder: Path) -> None:
        """Publish, with the peers."""
        name = folder.name
        cases = [
            Case(
                name="s5cmd cp, a new prefix each time",
                command=self.s5cmd("cp", f"{folder}/", f"{self.store('up-' + name)}/"),
            ),
            Case(name="reprise publish", command=[*CLIENT, "publish", self.store(name), str(folder), f"{name}.json"]),
            Case(name="the same again", command=[*CLIENT, "publish", self.store(name), str(folder), f"{name}.json"]),
        ]
        table(f"publish {name}", cases, rounds=1, cwd=self.home)

    def cold(self, name: str) -> None:
        """Fetch into nothing."""
        cases = [
            Case(
                name="s5cmd cp, nothing verified",
                command=self.s5cmd("cp", f"{self.store('up-' + name)}/*", "tree/"),
                before=self.emptied("tree"),
            ),
            Case(name="reprise, ready to train", command=self.fetch(name), before=self.emptied("cache")),
            Case(name="reprise, with a tree", command=self.fetch(name, "--folder"), before=self.emptied("cache")),
            Case(name="reprise, every byte read", command=self.fetch(name, "--read"), before=self.emptied("cache")),
        ]
        table(f"cold fetch {name}", cases, rounds=self.rounds, cwd=self.home)

    def dvc(self, name: str) -> list[Case]:
        """The other peer: `dvc pull` of the same folder from the same server, its cache empty."""
        if self.peers is None or not (self.peers / "dvc").exists():
            return []
        program, home = str(self.peers / "dvc"), self.home / f"dvc-{name}"
        if not home.exists():
            shutil.copytree(self.home / name, home / name)
            remote = ["remote", "add", "-d", "s3", self.store(f"dvc-{name}")]
            for words in (["init", "--no-scm"], remote, ["remote", "modify", "s3", "endpointurl", self.endpoint]):
                subprocess.run([program, "-q", *words], cwd=home, check=True)
            subprocess.run([program, "-q", "add", name], cwd=home, check=True)
            began = time.perf_counter()
            subprocess.run([program, "-q", "push"], cwd=home, check=True)
            print(f"\ndvc push {name}: {time.perf_counter() - began:.2f} s, once.")
        empty = self.emptied(f"dvc-{name}/.dvc/cache", f"dvc-{name}/.dvc/tmp", f"dvc-{name}/{name}")
        return [Case(name="dvc pull", command=[program, "-q", "--cd", str(home), "pull"], before=empty)]

    def against_dvc(self, name: str) -> None:
        """One round, last: it takes the longest."""
        ours = Case(name="reprise, with a tree", command=self.fetch(name, "--folder"), before=self.emptied("cache"))
        table(f"cold fetch {name}, DVC", [ours, *self.dvc(name)], rounds=1, cwd=self.home)

    def warm(self, name: str) -> None:
        """Fetch what is there, and many cold at once."""
        bare = [sys.executable, "-c", "import pydantic, rfc8785"]
        table(
            f"warm start {name}",
            [
                Case(name="python with the same imports", command=bare),
                Case(name="reprise, warm", command=self.fetch(name)),
            ],
            rounds=self.rounds,
            cwd=self.home,
        )
        cases = [
            Case(name="one, cold", command=self.fetch(name), before=self.emptied("cache")),
            Case(
                name=f"{TOGETHER} at once, cold",
                command=self.fetch(name),
                before=self.emptied("cache"),
                copies=TOGETHER,
            ),
            Case(name=f"{TOGETHER} at once, warm", command=self.fetch(name), copies=TOGETHER),
        ]
        table(f"{TOGETHER} processes, {name}", cases, rounds=self.rounds, cwd=self.home)

    def second_version(self, name: str) -> None:
        """Change 1 % of the files; what publishing and fetching move."""
        changed = 0
        for path in sorted((self.home / name).rglob("*.png"))[::100]:
            path.write_bytes(path.read_bytes()[::-1])
            changed += path.stat().st_size
        for words in ([*CLIENT, "publish", self.store(name), name, f"{name}.json"], self.fetch(name)):
            before = received()
            began = time.perf_counter()
            subprocess.run(words, cwd=self.home, check=True, stdout=subprocess.DEVNULL)
            took, moved = time.perf_counter() - began, received() - before
            print(
                f"\n1 % of {name} changed, {changed / 1e6:.1f} MB: {words[2]} {took:.2f} s, {moved / 1e6:.1f} MB over the loopback."
            )

    def growth(self) -> None:
        """How cost grows with the number of files."""
        for count in GROWTH:
            folder = make_small(self.home / f"many-{count}", count)
            publish = Case(
                name="publish",
                command=[*CLIENT, "publish", self.store(folder.name), str(folder), f"{folder.name}.json"],
            )
            cases = [
                publish,
                Case(name="cold fetch", command=self.fetch(folder.name), before=self.emptied("cache")),
                Case(name="warm", command=self.fetch(folder.name)),
            ]
            table(
                f"{count:,} files, {sum(path.stat().st_size for path in folder.rglob('*.png')) / 1e6:.0f} MB",
                cases,
                rounds=1,
                cwd=self.home,
            )
            shutil.rmtree(folder)


def received() -> int:
    """Bytes over the loopback device since the machine started; the server's own talk is among them."""
    line = next(line for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines() if "lo:" in line)
    return int(line.split(":")[1].split()[0])


def installed(home: Path) -> Path:
    """The peers, by hash, in an environment of their own."""
    uv = str(ROOT / "scripts/uv")
    subprocess.run([uv, "-q", "venv", "--python", sys.executable, str(home / "peers")], check=True)
    wanted = str(ROOT / "benchmarks/peers.txt")
    python = str(home / "peers/bin/python")
    subprocess.run([uv, "-q", "pip", "install", "--require-hashes", "--python", python, "-r", wanted], check=True)
    return home / "peers/bin"


def million(home: Path) -> None:
    """A manifest of a million files alone: checked, planned, looked up."""
    code = (ROOT / "benchmarks/data_manifest.py").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code, str(home / "million.jsonl")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    print(
        "\n### a manifest of 1,000,000 files\n\n| what | seconds on the clock | of processors |\n| --- | ---: | ---: |"
    )
    for name, (wall, cpu) in found["took"].items():
        print(f"| {name} | {wall:.2f} s | {cpu:.2f} s |")
    print(f"\n{found['size'] / 1e6:.0f} MB; the process at most {found['rss']:.0f} MB.")


def main(rounds: int) -> None:
    """Everything, in one sitting."""
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as name:
        home = Path(name)
        million(home)
        peers = installed(home)
        (home / "server").mkdir()
        with serving(home / "server") as endpoint:
            os.environ |= {
                "AWS_ENDPOINT_URL_S3": endpoint,
                "AWS_ACCESS_KEY_ID": USER,
                "AWS_SECRET_ACCESS_KEY": PASSWORD,
            }
            os.environ["AWS_REGION"] = "us-east-1"
            bench = Bench(home, endpoint, rounds, peers=peers)
            small, large = make_small(home / "small", MANY), make_large(home / "large")
            for folder in (small, large):
                bench.publish(folder)
                bench.cold(folder.name)
            bench.warm("small")
            bench.second_version("small")
            bench.growth()
            bench.against_dvc("small")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
