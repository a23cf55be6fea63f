"""The requirements of marked tests, and how tests are distributed to processes.

A test whose requirement is not met is skipped with the requirement as the reason.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# A shell starts background commands with Ctrl-C ignored, and their children inherit that: tests of Ctrl-C would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine any example can take long.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

HAS_TORCH: Final = importlib.util.find_spec("torch") is not None

# The modules in these folders import torch when they are collected.
collect_ignore_glob: Final = [] if HAS_TORCH else ["training/*", "experiments/*", "models/serving/*"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Cache compiled and rewritten tests, as Python does by default, even if that is switched off: it saves 6 s of 13."""
    result, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = result


@functools.cache
def mentions_mark(mark: str, path: Path) -> bool:
    """Return whether the text of a file names a mark; the process that distributes the files collects no tests."""
    return f"pytest.mark.{mark}" in path.read_text()


class ByFile(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Gives all tests of a file to one worker of `-n 2 --dist loadfile`, and all files that use the engine to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the name of the group with which the test is distributed."""
        file: str = super()._split_scope(nodeid)
        return "engine" if mentions_mark("engine", self.config.rootpath / file) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Distribute tests by file."""
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, begin with the slowest tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [not mentions_mark(mark, item.path) for mark in ("engine", "trains", "s3")])


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Restore the signal handlers after a test that trains or fetches."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@functools.cache
def has_engine() -> bool:
    """Return whether a Docker engine responds."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


def has_weed() -> bool:
    """Return whether the locked S3 server is installed beside this Python or is on the PATH."""
    return (Path(sys.executable).parent / "weed").exists() or shutil.which("weed") is not None


def is_host() -> bool:
    """Return whether the tests run outside of an image of Reprise."""
    return not Path("/opt/reprise/image.json").exists()


NEEDS: Final[dict[str, tuple[Callable[[], bool], str]]] = {
    "engine": (has_engine, "needs a Docker engine: scripts/machine/engine ensure"),
    "s3": (has_weed, "needs weed, from the lock's extra `store`: Linux on x86_64, Python 3.11"),
    "host": (is_host, "asserts what a command prints on a host"),
    "torch": (lambda: HAS_TORCH, "needs torch, from the lock's extra `cpu`: Linux on x86_64, Python 3.11"),
}


def fail_if_skipped(report: Any, name: str) -> Any:
    """Turn a skip into a failure on a build machine, which has or installs everything that a test needs."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("REPRISE_TEST_NO_SKIPS"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{name} was skipped, which --no-skips forbids: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn the skip of a test into a failure if necessary."""
    return fail_if_skipped((yield), item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Turn the skip of a file into a failure if necessary."""
    return fail_if_skipped((yield), collector.nodeid)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test if the machine lacks what the mark names."""
    for mark, (met, need) in NEEDS.items():
        if item.get_closest_marker(mark) and not met():
            pytest.skip(need)
