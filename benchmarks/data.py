"""Compares dataset transfers with s5cmd and DVC: the same files and the same local S3 server, in turn. Run by `scripts/bench data`.

The benchmark times whole processes; the cache or the target is emptied before each cold case. The ratios of a table are relative to its
first line, which is s5cmd if present. The peers are installed from `benchmarks/peers.txt`, by hash, into a temporary environment. Prints
Markdown. `data.py 1 --tiny` runs all cases with little data, as a smoke test.

Limits of the comparison: s5cmd verifies nothing, so two cases add `sha256sum`. s5cmd and DVC write a tree of files, so Reprise is measured
both with the verified packs that training reads and with a tree of files (`--folder`). `sync` runs between cases to exclude disk writes.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dev_python import require

ROOT = Path(__file__).resolve().parent.parent
require("rfc8785")
sys.path.insert(0, str(ROOT))

from data_table import Case, received, table  # noqa: E402 - a Python that has the libraries may have to be found first

from tests.stores.server import BUCKET, PASSWORD, USER, serving  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT: Final = [sys.executable, str(ROOT / "benchmarks/data_client.py")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of the test data."""

    many: int = 20_000
    few: int = 2_000
    """Files for DVC, which would take longer for all files than the other cases together."""
    large: int = 256 << 20
    growth: tuple[int, ...] = (1_000, 10_000, 100_000)
    manifest: int = 1_000_000
    together: int = 16


TINY: Final = Sizes(many=500, few=60, large=40 << 20, growth=(100, 300), manifest=20_000, together=4)


def make_small(folder: Path, count: int) -> Path:
    """Write files of 2 to 14 KB, 500 per folder, with deterministic content."""
    random_ = random.Random(7)  # noqa: S311 - test data
    for number in range(count):
        path = folder / f"{number // 500:04d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_.randbytes(random_.randrange(2_000, 14_000)))
    return folder


def make_large(folder: Path, size: int) -> Path:
    """Write four large files."""
    folder.mkdir()
    for number in range(4):
        with (folder / f"{number}.bin").open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
    return folder


class Bench:
    """One run of the benchmark, in its own folder with its own server."""

    def __init__(self, home: Path, endpoint: str, rounds: int, *, peers: Path, sizes: Sizes) -> None:
        self.home, self.endpoint, self.rounds, self.peers, self.sizes = home, endpoint, rounds, peers, sizes

    def store(self, name: str) -> str:
        """Return the store of a dataset."""
        return f"s3://{BUCKET}/{name}"

    def emptied(self, *names: str) -> Callable[[], None]:
        """Return a function that removes caches and targets."""

        def remove() -> None:
            for name in names:
                shutil.rmtree(self.home / name, ignore_errors=True)

        return remove

    def fetch(self, title: str, name: str, *more: str, cold: bool = True, copies: int = 1) -> Case:
        """Return the case of a fetch with Reprise."""
        before = self.emptied("cache") if cold else self.emptied()
        command = [*CLIENT, "fetch", self.store(name), "cache", f"{name}.json", *more]
        return Case(name=title, command=command, before=before, copies=copies, ours=True)

    def published(self, title: str, name: str) -> Case:
        """Return the case of a publication with Reprise."""
        return Case(name=title, command=[*CLIENT, "publish", self.store(name), name, f"{name}.json"])

    def s5cmd(self, title: str, *words: str) -> Case:
        """Return a case of s5cmd."""
        program = [str(self.peers / "s5cmd"), "--log=error", "--endpoint-url", self.endpoint]
        return Case(name=title, command=[*program, *words], before=self.emptied("tree"))

    def publish(self, name: str) -> None:
        """Time publishing with Reprise and s5cmd."""
        cases = [
            self.s5cmd("s5cmd cp", "cp", f"{name}/", f"{self.store('up-' + name)}/"),
            self.published("reprise publish", name),
            self.published("the same again", name),
        ]
        table(f"publish {name}", cases, rounds=1, cwd=self.home)

    def cold(self, name: str) -> None:
        """Time fetching with empty caches."""
        cp = self.s5cmd("s5cmd cp, nothing verified", "cp", f"{self.store('up-' + name)}/*", "tree/")
        ready = self.fetch("reprise, ready to train", name)
        hashed = self.hashed(cp, name)
        cases = [
            cp,
            *hashed,
            ready,
            self.fetch("reprise, with a tree", name, "--folder"),
            self.fetch("reprise, every byte read", name, "--read"),
        ]
        took = table(f"cold fetch {name}", cases, rounds=self.rounds, cwd=self.home)
        ratios = [f"{took[ready.name] / took[case.name]:.2f} times {case.name}" for case in (cp, *hashed)]
        print(f"\n{ready.name}: {'; '.join(ratios)}.", flush=True)

    def hashed(self, cp: Case, name: str) -> list[Case]:
        """Return cases of s5cmd followed by sha256sum in two processes and, for large files, by sha256sum with a list of digests."""
        copied = shlex.join(cp.command)
        two = f"{copied} && find tree -type f -print0 | xargs -0 -P 2 -n {2 if name == 'large' else 500} sha256sum"
        cases = [replace(cp, name="s5cmd cp, then sha256sum by 2 processes", command=["sh", "-c", two])]
        if name == "large":
            listed = self.home / f"{name}.sha256"
            names = sorted(path.name for path in (self.home / name).iterdir())
            with listed.open("wb") as file:
                subprocess.run(["sha256sum", *names], cwd=self.home / name, stdout=file, check=True)
            one = f"{copied} && cd tree && sha256sum --check --quiet {shlex.quote(str(listed))}"
            cases.append(replace(cp, name="s5cmd cp, then sha256sum --check", command=["sh", "-c", one]))
        return cases

    def warm(self, name: str) -> None:
        """Time fetching with a full cache, and parallel fetches with an empty and with a full cache."""
        bare = [sys.executable, "-c", "import pydantic, rfc8785"]
        imports = Case(name="python with the same imports", command=bare)
        table(f"warm start {name}", [imports, self.fetch("reprise, warm", name, cold=False)], rounds=5, cwd=self.home)
        at_once = f"{self.sizes.together} at once"
        cases = [
            self.fetch("one, cold", name),
            self.fetch(f"{at_once}, cold", name, copies=self.sizes.together),
            self.fetch(f"{at_once}, warm", name, cold=False, copies=self.sizes.together),
        ]
        table(f"{self.sizes.together} processes, {name}", cases, rounds=self.rounds, cwd=self.home)

    def second_version(self, name: str) -> None:
        """Change 1 % of the files and measure the share of bytes that publishing and fetching transfer."""
        subprocess.run(self.fetch("", name).command, cwd=self.home, check=True, stdout=subprocess.DEVNULL)
        paths = sorted((self.home / name).rglob("*.png"))
        whole, changed = sum(path.stat().st_size for path in paths), 0
        for path in paths[::100]:
            path.write_bytes(path.read_bytes()[::-1])
            changed += path.stat().st_size
        print(f"\n### 1 % of {name} changed: {changed / 1e6:.2f} MB of {whole / 1e6:.1f} MB\n")
        print("| case | took | over the loopback | of all bytes |\n| --- | ---: | ---: | ---: |")
        for case in (self.published("reprise publish", name), self.fetch("reprise fetch", name, cold=False)):
            before, began = received(), time.perf_counter()
            subprocess.run(case.command, cwd=self.home, check=True, stdout=subprocess.DEVNULL)
            took, moved = time.perf_counter() - began, received() - before
            print(f"| {case.name} | {took:.2f} s | {moved / 1e6:.2f} MB | {moved / whole:.1%} |", flush=True)

    def growth(self) -> None:
        """Measure the growth of the cost with the number of files."""
        for count in self.sizes.growth:
            folder = make_small(self.home / f"many-{count}", count)
            size = sum(path.stat().st_size for path in folder.rglob("*.png")) / 1e6
            name = folder.name
            cases = [
                self.published("publish", name),
                self.fetch("cold fetch", name),
                self.fetch("warm", name, cold=False),
            ]
            table(f"{count:,} files, {size:.0f} MB", cases, rounds=1, cwd=self.home)
            shutil.rmtree(folder)

    def against_dvc(self, name: str) -> None:
        """Compare with DVC on fewer files, to bound the duration."""
        home = self.home / f"dvc-{name}"
        shutil.copytree(self.home / name, home / name)
        remote = ["remote", "add", "-d", "s3", self.store(f"dvc-{name}")]
        for words in (["init", "--no-scm"], remote, ["remote", "modify", "s3", "endpointurl", self.endpoint]):
            subprocess.run(self.dvc(home, *words), check=True, stdout=subprocess.DEVNULL)
        subprocess.run(self.dvc(home, "add", name), check=True, stdout=subprocess.DEVNULL)
        publish = [
            self.s5cmd("s5cmd cp", "cp", f"{name}/", f"{self.store('up-' + name)}/"),
            self.published("reprise publish", name),
            Case(name="dvc push, its add not counted", command=self.dvc(home, "push"), limit_s=120),
        ]
        table(f"publish {name}, with DVC", publish, rounds=1, cwd=self.home)
        empty = self.emptied(f"{home.name}/.dvc/cache", f"{home.name}/.dvc/tmp", f"{home.name}/{name}")
        cold = [
            self.s5cmd("s5cmd cp, nothing verified", "cp", f"{self.store('up-' + name)}/*", "tree/"),
            self.fetch("reprise, ready to train", name),
            self.fetch("reprise, with a tree", name, "--folder"),
            Case(name="dvc pull", command=self.dvc(home, "pull"), before=empty, limit_s=120),
        ]
        table(f"cold fetch {name}, with DVC", cold, rounds=1, cwd=self.home)

    def dvc(self, home: Path, *words: str) -> list[str]:
        """Return a DVC command."""
        return [str(self.peers / "dvc"), "-q", "--cd", str(home), *words]


def installed(home: Path, wanted: str = "peers.txt", *, sees: Path | None = None) -> Path:
    """Install peers, by hash, in a separate environment that also has the packages of the environment `sees`; return its bin folder."""
    uv = str(ROOT / "scripts/machine/uv")
    subprocess.run([uv, "-q", "venv", "--python", sys.executable, str(home / "peers")], check=True)
    python, listed = str(home / "peers/bin/python"), str(ROOT / "benchmarks" / wanted)
    # no dependencies: the file lists all packages, or `sees` has the rest
    by_hash = ["--no-config", "--no-build", "--no-deps", "--require-hashes"]
    subprocess.run([uv, "-q", "pip", "install", *by_hash, "--python", python, "-r", listed], check=True)
    if sees is not None:
        (packages,) = (home / "peers/lib").glob("python*/site-packages")
        (packages / "seen.pth").write_text(f"{sees / packages.relative_to(home / 'peers')}\n", encoding="utf-8")
    return home / "peers/bin"


def manifest(home: Path, files: int) -> None:
    """Time checking, planning and lookup of a manifest."""
    command = [sys.executable, str(ROOT / "benchmarks/data_manifest.py"), str(home / "manifest.jsonl"), str(files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(f"\n### a manifest of {files:,} files\n\n| what | on the clock | processors |\n| --- | ---: | ---: |")
    for name, (wall, cpu) in found["took"].items():
        print(f"| {name} | {wall:.2f} s | {cpu:.2f} s |")
    print(f"\n{found['size'] / 1e6:.0f} MB; the process at most {found['rss']:.0f} MB.")


def digests(peers: Path) -> None:
    """Print the speed of sha256 and of BLAKE3 on one processor."""
    command = [str(peers / "python"), str(ROOT / "benchmarks/data_digests.py")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print("\n### digests, on one processor\n\n| digest | blocks of 64 MiB | files of 7 kB |\n| --- | ---: | ---: |")
    for name, (large, small) in found.items():
        print(f"| {name} | {large / 1e9:.2f} GB/s | {small * 1e6:.1f} us each |")


def main(rounds: int, sizes: Sizes) -> None:
    """Run all benchmarks."""
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as name:
        home = Path(name)
        peers = installed(home)
        (home / "server").mkdir()
        with serving(home / "server") as endpoint:
            os.environ |= {
                "AWS_ENDPOINT_URL_S3": endpoint,
                "AWS_ACCESS_KEY_ID": USER,
                "AWS_SECRET_ACCESS_KEY": PASSWORD,
                "AWS_REGION": "us-east-1",
                "DVC_NO_ANALYTICS": "1",
            }
            bench = Bench(home, endpoint, rounds, peers=peers, sizes=sizes)
            for folder in (make_small(home / "small", sizes.many), make_large(home / "large", sizes.large)):
                bench.publish(folder.name)
                bench.cold(folder.name)
            shutil.rmtree(home / "large")
            bench.warm("small")
            bench.second_version("small")
            bench.against_dvc(make_small(home / "few", sizes.few).name)
            bench.growth()
        manifest(home, sizes.manifest)
        digests(peers)


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--tiny"]
    main(int(given[0]) if given else 2, TINY if "--tiny" in sys.argv else Sizes())
