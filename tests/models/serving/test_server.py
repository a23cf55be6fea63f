"""The command `reprise serve`: its output, its errors, and how it stops."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

pytest.importorskip("torch")

import numpy as np

from tests.models.serving.small_packages import make_package
from tests.models.serving.test_app import npy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.torch, pytest.mark.trains]
ROOT: Final = Path(__file__).parents[3]
SAMPLES: Final = np.random.default_rng(2).random((64, 1, 4, 4), dtype=np.float32)


@contextmanager
def command(
    package: Path, *words: str, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """Run `reprise serve` in an empty folder without a store; yield the process, its port, and its first lines."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("REPRISE_", "AWS_", "OTEL_"))
    }
    own = {"PYTHONPATH": str(ROOT), "REPRISE_STORE": "s3://nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
    words = ("serve", str(package), "--port", "0", *words)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", *words],
        env={**inherited, **own, **(environ or {})},
        cwd=package.parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr
            lines: list[str] = []
            while not (lines and (found := re.search(r" at http://127\.0\.0\.1:(\d+)$", lines[-1]))):
                lines.append(process.stderr.readline().rstrip())
                assert lines[-1], (process.wait(), lines)
            yield process, int(found[1]), lines
        finally:
            process.kill()


def ended(package: Path, *words: str) -> tuple[int, str]:
    """Run `reprise serve` until it exits, and return the exit code and the error output."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "trainer", "serve", str(package), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stderr


def test_sigterm_under_load_loses_no_accepted_request(packages: dict[str, Path]) -> None:
    """Each client has sent its request when the signal arrives; the server waits one second for others to batch."""
    words = ("--batch-wait", "1000", "--max-batch", "1000", "--concurrency", "64")
    with command(packages["arrays"], *words) as (process, port, _), ExitStack() as opened:
        connections = [HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(51)]
        probe, *clients = [opened.enter_context(closing(each)) for each in connections]
        for number, client in enumerate(clients):
            client.request("POST", "/predict", npy(SAMPLES[number : number + 1]))
        while True:
            probe.request("GET", "/metrics")
            if b"reprise_requests_in_progress 50.0" in probe.getresponse().read():
                break
        process.send_signal(signal.SIGTERM)
        assert [client.getresponse().status for client in clients] == [200] * 50
        assert process.wait(10) == 0
        assert process.stderr
        assert process.stderr.read().startswith("reprise: stopped serving arrays-")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_stream_of_requests_gets_responses_or_a_refused_connection(packages: dict[str, Path]) -> None:
    """Clients that send one request after another, each on a new connection, get complete responses until the server stops."""
    statuses: list[int] = []
    broken: list[str] = []

    def send(port: int) -> None:
        while True:
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as client:
                try:
                    client.request("POST", "/predict", npy(SAMPLES[:1]))
                    response = client.getresponse()
                except OSError:
                    return  # the server did not accept the connection
                statuses.append(response.status)
                if b"predictions" not in response.read():
                    broken.append(str(response.status))

    with command(packages["arrays"]) as (process, port, _):
        threads = [threading.Thread(target=send, args=(port,)) for _ in range(8)]
        for each in threads:
            each.start()
        while len(statuses) < 50:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        for each in threads:
            each.join(30)
    assert set(statuses) == {200}
    assert broken == []


def test_the_start_names_the_package_and_says_that_its_certificate_does_not_hold(tmp_path: Path) -> None:
    package = make_package(tmp_path, "arrays", holds=False)
    with command(package) as (_, _, lines):
        assert lines[0].startswith(f"reprise: package {package.name}, sha256:")
        assert lines[1] == (
            "reprise: the package has no valid certificate; its predictions may differ from the run's: "
            "output of test sample 3 differs by 0.5 of the largest value"
        )


@pytest.mark.parametrize("name", ["model.pt2", "golden.safetensors", "package.json"])
def test_an_altered_package_is_refused_at_the_start(packages: dict[str, Path], tmp_path: Path, name: str) -> None:
    moved = shutil.copytree(packages["arrays"], tmp_path / "altered")
    body = bytearray((moved / name).read_bytes())
    body[len(body) // 2] ^= 1
    (moved / name).write_bytes(body)
    code, err = ended(moved, "--port", "0")
    assert (code, name in err, "serving" in err) == (55, True, False), err


def test_a_port_in_use_is_an_error_with_another_port(packages: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = ended(packages["arrays"], "--port", str(port))
    assert code == 73
    assert f"port {port} on 127.0.0.1 cannot be used: Address already in use" in err
    assert f"-> --port {port + 1}" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-batch", "0"), "--max-batch is 0; expected 1 to 65536"),
        (("--timeout", "nan"), "--timeout is nan; expected 0.1 to 3600"),
        (("--token-file", "/nowhere"), "--token-file /nowhere cannot be read: No such file or directory"),
        (("--host", "no such host"), "--host no such host is not a valid address"),
    ],
)
def test_a_wrong_option_is_an_error(packages: dict[str, Path], words: tuple[str, ...], message: str) -> None:
    code, err = ended(packages["arrays"], *words)
    assert (code, message in err) == (2, True), err
