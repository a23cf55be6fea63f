"""A real registry (Debian's docker-registry) for tests, on 127.0.0.1, with its images in the test's folder."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(folder: Path, address: str) -> Iterator[None]:
    """Serve the images in `folder` at `address`; stop the server (by process ID) at the end."""
    if shutil.which("docker-registry") is None:
        pytest.skip("needs Debian's docker-registry: apt-get install docker-registry")
    folder.mkdir(exist_ok=True)
    storage = {"filesystem": {"rootdirectory": str(folder / "images")}}
    config = folder / "registry.yml"
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": address}}))
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(["docker-registry", "serve", config], stdout=quiet, stderr=quiet)
    try:
        _wait_for(f"http://{address}/v2/", server)
        yield
    finally:
        server.terminate()
        server.wait(timeout=20)


@contextmanager
def on_free_port(folder: Path) -> Iterator[str]:
    """Serve the images in `folder` at a free port; yield the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with serving(folder, address):
        yield address


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the registry responds, for at most a minute: a busy machine starts it slowly."""
    end = time.monotonic() + 60
    while True:
        try:
            urlopen(address, timeout=5).close()  # noqa: S310 - http on loopback
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
