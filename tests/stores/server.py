"""A real S3 server (the locked SeaweedFS) for tests, on 127.0.0.1 and free ports, with its data in the test's folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USER: Final = "tests"
PASSWORD: Final = "not-a-secret"  # noqa: S105 - for a server on loopback that ends with the test session
BUCKET: Final = "reprise"
PORTS: Final = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
OFF: Final = (
    "admin.ui=false",
    "webdav=false",
    "s3.port.iceberg=0",
    "s3.port.lance=0",
    "s3.autoCreateBucket=false",
    "master.telemetry=false",
)
START_S: Final = 60.0


def program() -> str | None:
    """Return the path of `weed`, in the folder of this Python or on the PATH; `None` if it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Start a server on `folder` with more options of `weed mini`, yield its endpoint, and stop it by process ID at the end."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    words = [str(program()), "mini", f"-dir={folder}", f"-bucket={BUCKET}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    words += [f"-{name}={port}" for name, port in ports.items()] + [f"-{option}" for option in (*OFF, *options)]
    keys = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words, env={"PATH": os.defpath, "HOME": str(folder), **keys}, stdout=log, stderr=log, cwd=folder
        )
    try:
        if not wait_for(endpoint, lives=lambda: process.poll() is None):
            raise RuntimeError(
                f"the S3 server did not start:\n{(folder / 'server.log').read_text(errors='replace')[-2000:]}"
            )
        yield endpoint
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_for(endpoint: str, *, lives: Callable[[], bool] = lambda: True) -> bool:
    """Return whether the server at `endpoint` is ready within `START_S` seconds; stop waiting if `lives` returns false."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and lives():
        if _ready(endpoint):
            return True
        time.sleep(0.1)  # the server does not signal that it is ready
    return False


def _ready(endpoint: str) -> bool:
    """Return whether the bucket exists, because the server responds before it has created the bucket."""
    session = boto3.Session(aws_access_key_id=USER, aws_secret_access_key=PASSWORD, region_name="us-east-1")
    try:
        session.client("s3", endpoint_url=endpoint).head_bucket(Bucket=BUCKET)
    except (ClientError, BotoCoreError):
        return False
    return True
