"""Compares `reprise serve` with LitServe: equal exported programs, requests, responses, batch settings. Run by `scripts/bench serving`.

A separate process sends requests over 1, 8 and 64 connections; a connection sends its next request when it has received the response. The
servers alternate in each round, and the server that is not measured is stopped by SIGSTOP: an idle LitServe polls its queue. The ratio is
the median of the rounds' ratios, with its interval (`pairs.py`). `serving.py 1 --tiny` runs all cases for a moment, as a smoke test.

First, the response to one request with all golden samples must equal their golden outputs, bit for bit. Under load each request has one
sample; all responses are compared with the golden outputs, and the number of equal responses is printed: the last bits may depend on the
size of a batch.

Limits of the comparison:

- The load generator and the servers share the processors.
- LitServe has a process for HTTP and one for the net, a parser in C and the event loop uvloop. Reprise has one process, h11 and asyncio;
  it checks the types and shapes of each request, limits its size and its time, and counts it.
- LitServe has its default queue. Both start with the default number of threads of torch.

The peer is installed from `benchmarks/serving_peers.txt`, by hash, into a temporary environment that sees the packages of this one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from dev_python import require

ROOT = Path(__file__).resolve().parent.parent
require("torch")
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - a Python that has the libraries may have to be found first
from data import installed  # noqa: E402
from pairs import ratio  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from tests.models.serving.small_packages import Small, make_package  # noqa: E402
from tests.stores.server import free_ports  # noqa: E402
from trainer.training.tasks.predictions import PredictionForm  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES: Final = {"reprise": "Reprise", "litserve": "LitServe"}
WAIT: Final = 0.005
"""Seconds that a request waits for others."""
SETTINGS: Final = {"none": (1, 0.0), "at most 8": (8, WAIT), "at most 32": (32, WAIT)}
CLIENTS: Final = (1, 8, 64)
SECONDS: Final = 2.0
TINY: Final = 0.2
CLASSES: Final = tuple(f"class-{number}" for number in range(10))
SAMPLES: Final = 16
TOLERANCE: Final = 1e-6
LONGEST_S: Final = 120.0
"""The time limit for a server to start."""


@dataclass(slots=True)
class Timings:
    """The rounds of a server in a case."""

    rates: list[float] = field(default_factory=list)
    """Requests per second."""
    p50: list[float] = field(default_factory=list)
    """Seconds."""
    p99: list[float] = field(default_factory=list)


class Bench:
    """One run of the benchmark: a package, and the expected responses."""

    def __init__(self, home: Path, peers: Path, *, rounds: int, seconds: float) -> None:
        self.home, self.peers, self.rounds, self.seconds = home, peers, rounds, seconds
        self.package = make_package(home, "arrays", made=picture_net())
        golden = load_file(self.package / "golden.safetensors")
        self.images, self.scores = golden["input/image"], golden["output/scores"].tolist()
        bodies = [json.dumps({"inputs": {"image": [each]}}) for each in self.images.tolist()]
        (home / "requests.json").write_text(json.dumps(bodies), encoding="utf-8")
        self.compared: Counter[str] = Counter()

    @contextmanager
    def server(self, system: str, most: int, wait: float) -> Iterator[Server]:
        """Run a server."""
        (port,) = free_ports(1)
        if system == "reprise":
            limit = SAMPLES if most == 1 else most  # without waiting, each request is processed alone
            command = [sys.executable, "-P", "-m", "trainer", "serve", str(self.package), "--port", str(port)]
            command += ["--max-batch", str(limit), "--batch-wait", str(wait * 1000)]
        else:
            program = str(ROOT / "benchmarks/serving_litserve.py")
            command = [str(self.peers / "python"), program, str(self.package), str(port), str(most), str(wait)]
        environ = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(self.home)}
        log = self.home / f"{system}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command, env=environ, cwd=self.home, stdout=file, stderr=file, start_new_session=True
            )
        server = Server(process, port, log)
        try:
            server.wait()
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def check_golden(self, server: Server) -> None:
        """Exit if a server does not return the golden outputs for all golden samples in one request."""
        found = server.predict({"inputs": {"image": self.images.tolist()}})
        if [[*each["scores"].values()] for each in found["predictions"]] != self.scores:
            sys.exit(f"bench: {server.log.stem} does not return the golden outputs")

    def measure(self, server: Server, clients: int, timings: Timings) -> None:
        """Send requests for some seconds, and store the timings. Exit if a response differs from the golden output by too much."""
        program, requests = str(ROOT / "benchmarks/serving_load.py"), str(self.home / "requests.json")
        words = [sys.executable, program, str(server.port), str(clients), str(self.seconds), requests]
        with server.active():
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"bench: {server.log.stem}, {clients} clients: {done.stderr[-2000:]}\n{server.tail()}")
        found = json.loads(done.stdout)
        timings.rates.append(found["requests"] / found["seconds"])
        timings.p50.append(found["p50"])
        timings.p99.append(found["p99"])
        for number, body, count in found["answers"]:
            self.compared[self.compare(number, json.loads(body)["predictions"])] += count

    def compare(self, number: int, predictions: list[dict[str, Any]]) -> str:
        """Return whether a response is `equal` or `close` to the golden output. Exit if it is neither."""
        (scores,), expected = [[*each["scores"].values()] for each in predictions], self.scores[number]
        if scores == expected:
            return "equal"
        if max(abs(one - other) for one, other in zip(scores, expected, strict=True)) > TOLERANCE:
            sys.exit(f"bench: sample {number} has the scores {scores}; expected {expected}")
        return "close"

    def rows(self, name: str, most: int, wait: float) -> list[str]:
        """Return the lines of a batch setting."""
        each = {clients: {system: Timings() for system in NAMES} for clients in CLIENTS}
        with ExitStack() as opened:
            servers = {system: opened.enter_context(self.server(system, most, wait)) for system in NAMES}
            for server in servers.values():
                if most == 1:
                    self.check_golden(server)
                server.pause()
            for round_ in range(self.rounds):
                for clients, timings in each.items():
                    for system in list(NAMES)[:: 1 if round_ % 2 else -1]:
                        self.measure(servers[system], clients, timings[system])
        return [row(name, clients, timings["reprise"], timings["litserve"]) for clients, timings in each.items()]


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, in a session of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def predict(self, request: Any) -> Any:
        """Return the JSON of the response of `/predict`."""
        headers = {"content-type": "application/json"}
        asked = Request(f"http://127.0.0.1:{self.port}/predict", json.dumps(request).encode(), headers)
        with urlopen(asked, timeout=30) as answer:  # noqa: S310 - the server of this benchmark
            return json.load(answer)

    def wait(self) -> None:
        """Wait for the first response. Exit if the server ends or does not respond in time."""
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.predict({"inputs": {"image": torch.zeros(1, 1, 16, 16).tolist()}})
            except OSError:
                time.sleep(0.1)
            else:
                return
        sys.exit(f"bench: {self.log.stem} does not start:\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-2000:]

    def pause(self) -> None:
        """Suspend all processes of the server."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Resume all processes of the server for the block."""
        os.killpg(self.process.pid, signal.SIGCONT)
        yield
        self.pause()


def picture_net() -> Small:
    """Return a net that classifies pictures `[1, 16, 16]`, with its inputs and its reader."""
    torch.manual_seed(7)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)]
    reader = {
        "reader": {"kind": "arrays", "fields": {"image": "images.npy", "label": "labels.npy"}},
        "sample": {"image": {"dtype": "float32", "shape": (1, 16, 16)}},
    }
    images, form = torch.rand(SAMPLES, 1, 16, 16), PredictionForm(kind="class", names=CLASSES)
    return Small(net=nn.Sequential(*layers), inputs={"image": images}, form=form, reader=reader)


def row(name: str, clients: int, own: Timings, peer: Timings) -> str:
    """Return the line of a case."""
    middle, low, high = ratio(own.rates, peer.rates)
    cells = [name, str(clients), *(f"{statistics.median(each.rates):,.0f}" for each in (own, peer))]
    cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
    for each in (own, peer):
        cells += [" / ".join(f"{statistics.median(values) * 1000:.1f}" for values in (each.p50, each.p99))]
    return f"| {' | '.join(cells)} |"


def main(rounds: int, seconds: float) -> None:
    """Run all cases."""
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as name:
        home = Path(name)
        peers = installed(home, "serving_peers.txt", sees=Path(sys.prefix))
        bench = Bench(home, peers, rounds=rounds, seconds=seconds)
        version = re.search(r"^litserve==(\S+)", (ROOT / "benchmarks/serving_peers.txt").read_text(), re.MULTILINE)
        print(
            f"LitServe {version and version[1]}; a request is a picture of 16 x 16 numbers as JSON; batches wait {WAIT * 1000:.0f} ms.\n"
        )
        print(
            "| batches | clients | Reprise, requests/s | LitServe, requests/s | ratio | Reprise, p50 / p99 ms | LitServe, p50 / p99 ms |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for setting, (most, wait) in SETTINGS.items():
            print(f"bench: batches {setting}", file=sys.stderr, flush=True)
            print(*bench.rows(setting, most, wait), sep="\n", flush=True)
        equal, close = bench.compared["equal"], bench.compared["close"]
        print(
            f"\nOf {equal + close:,} responses, {equal:,} are bit-identical to the golden outputs; others differ by at most {TOLERANCE:g}."
        )


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--tiny"]
    main(int(given[0]) if given else 3, TINY if "--tiny" in sys.argv else SECONDS)
