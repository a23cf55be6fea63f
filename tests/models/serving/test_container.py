"""A server in a container of the image, with nothing but the package: no network, no store, no key, no writable file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.e2e.conftest import CHECKOUT, docker
from tests.e2e.test_images import reprise
from tests.models.test_package import packaged
from trainer import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.engine, pytest.mark.trains]
_USER: Final = "12345:12345"
_START: Final = 60.0
"""Seconds."""
_ASK: Final = """
import json, sys, urllib.request
path, kind = sys.argv[1:]
body = sys.stdin.buffer.read() or None
request = urllib.request.Request("http://127.0.0.1:8080" + path, body, {"content-type": kind})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=30).read())
"""
_LOOK: Final = """
import json, os, pathlib, socket
def fails(action, *words):
    try:
        action(*words)
    except OSError as fault:
        return type(fault).__name__
    return ""
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "devices": sorted(os.listdir("/sys/class/net")),
    "connect": fails(socket.create_connection, ("192.0.2.1", 443), 3),
    "write": [fails(pathlib.Path(each, "new").write_text, "") for each in ("/", "/project", "/package", "/opt")],
    "variables": sorted(name for name in os.environ if name.startswith(("AWS_", "REPRISE_STORE"))),
    "capabilities": pathlib.Path("/proc/1/status").read_text().partition("CapEff:")[2].split()[0],
}))
"""


@pytest.fixture(scope="module")
def predicted(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, Any]]]:
    """A package that every user can read, a file with new samples, and the predictions of the package's run for them."""
    assert checkout.train()[0] == 0
    run = checkout.last()[0].parents[1]
    place = tmp_path_factory.mktemp("served")
    package = Path(shutil.copytree(packaged(checkout, run.name)["path"], place / "package"))
    for each in (*place.parents, place, *package.rglob("*"), package):
        if each.is_relative_to(place.parents[1]):
            each.chmod(each.stat().st_mode | (0o055 if each.is_dir() else 0o044))
    np.save(place / "new.npy", np.random.default_rng(3).random((1000, 1, 4, 4), dtype=np.float32))
    predictions = runs.load(str(run)).predict(place / "new.npy", trust=True)
    return package, place / "new.npy", [each["answer"] for each in predictions]


@pytest.fixture(scope="module")
def container(predicted: tuple[Path, Path, list[dict[str, Any]]]) -> Iterator[str]:
    """The name of a container that serves the package."""
    name = f"reprise-alone-{predicted[0].parent.name}"
    mounts = [f"--volume={CHECKOUT}:/project:ro", f"--volume={predicted[0]}:/package:ro"]
    limits = ["--network=none", "--read-only", f"--user={_USER}", "--cap-drop=ALL", "--tmpfs=/tmp:mode=1777"]
    words = ["--security-opt=no-new-privileges:true", *limits, *mounts, reprise("image", "build", "cpu")["reference"]]
    docker("run", "--detach", "--name", name, *words, "serve", "/package", "--batch-wait=0")
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def asked(container: str, path: str, body: bytes = b"", kind: str = "application/octet-stream") -> Any:
    """Return the JSON of the server's response to a program in the server's network namespace."""
    command = ["docker", "exec", "--interactive", container, "python", "-I", "-c", _ASK, path, kind]
    done = subprocess.run(command, input=body, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def is_ready(container: str) -> bool:
    command = ["docker", "exec", container, "python", "-I", "-c", _ASK, "/v2/health/ready", "text/plain"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def test_a_server_without_network_or_store_predicts_as_the_run(
    predicted: tuple[Path, Path, list[dict[str, Any]]], container: str
) -> None:
    end = monotonic() + _START
    while not is_ready(container):
        assert monotonic() < end, docker("logs", container)
        sleep(0.2)
    package, file, expected = predicted
    found = asked(container, "/predict", file.read_bytes())
    assert found["predictions"] == expected
    name, values = found_name(package), np.load(file)[:64]
    tensor = {"name": "image", "datatype": "FP32", "shape": [*values.shape], "data": values.ravel().tolist()}
    inferred = asked(
        container, f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json"
    )
    scores = next(each["data"] for each in inferred["outputs"] if each["name"] == "scores")
    assert scores == [score for each in expected[:64] for score in each["scores"].values()]


def found_name(package: Path) -> str:
    from trainer.models.package import open_package

    return open_package(package).package.name


def test_the_container_has_nothing_but_the_package_and_the_code(container: str) -> None:
    seen = json.loads(docker("exec", container, "python", "-I", "-c", _LOOK))
    assert seen == {
        "user": [12345, 12345],
        "devices": ["lo"],
        "connect": "OSError",
        "write": ["OSError"] * 4,
        "variables": [],
        "capabilities": "0000000000000000",
    }
