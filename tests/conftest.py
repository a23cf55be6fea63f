"""What a test may need from the machine; a test whose need is not met says which, and is skipped."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A shell starts background commands with Ctrl-C ignored, and every process below inherits that: tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

HAS_TORCH: Final = importlib.util.find_spec("torch") is not None

# Their modules import torch when they are collected.
collect_ignore_glob: Final = [] if HAS_TORCH else ["training/*", "experiments/*"]


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A test that trains or fetches takes signals over; the next one begins without that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@functools.cache
def has_engine() -> bool:
    """Whether a Docker engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


def has_weed() -> bool:
    """Whether the S3 server of the lock is beside this Python, or on the PATH."""
    return (Path(sys.executable).parent / "weed").exists() or shutil.which("weed") is not None


NEEDS: Final[dict[str, tuple[Callable[[], bool], str]]] = {
    "engine": (has_engine, "needs a Docker engine: scripts/engine ensure"),
    "s3": (has_weed, "needs weed, of the lock's extra `store`: Linux on x86_64, Python 3.11"),
    "torch": (lambda: HAS_TORCH, "needs torch, of the lock's extra `cpu`: Linux on x86_64, Python 3.11"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test where the machine lacks what the mark names."""
    for mark, (met, need) in NEEDS.items():
        if item.get_closest_marker(mark) and not met():
            pytest.skip(need)
