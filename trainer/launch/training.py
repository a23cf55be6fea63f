"""A started training, watched, signalled and awaited in the same way wherever it runs: in a container or as a process."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from trainer.base.errors import RepriseError
from trainer.launch.container import container_name, kill_container, remove_container, signal_container
from trainer.launch.watch import record_engine_fault, record_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.environments.engine import Engine

_POLL = 0.05
"""Seconds between two looks for the container of a training."""


class Training(Protocol):
    """A started training."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs, and always if an earlier process started it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raise `subprocess.TimeoutExpired`."""
        ...

    def send_signal(self, number: int) -> None:
        """Send a signal to the training; if it has not begun, prevent its start."""
        ...

    def kill(self) -> None:
        """Kill every process of the training."""
        ...

    def record_image(self) -> bool:
        """Write the training's image, as seen from outside, into its run folder; return whether that is done."""
        ...


class ContainerTraining:
    """A training in the container of its run, which `docker compose run` started."""

    def __init__(
        self, run: Path, *, engine: Engine, process: subprocess.Popen[bytes] | None, report: Callable[[str], None]
    ) -> None:
        """Watch the run in this folder.

        `process` is the command that starts the container, None if an earlier process started it; `report` prints a line.
        """
        self._run, self._engine, self._process, self._report = run, engine, process, report
        self._prevented_by: int | None = None
        self._is_removed = False

    def poll(self) -> int | None:
        """Return the exit code."""
        code = None if self._process is None else self._process.poll()
        return None if code is None else self._ended(code)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""
        assert self._process is not None  # noqa: S101 - only its starter waits
        return self._ended(self._process.wait(timeout))

    def _ended(self, code: int) -> int:
        if self._prevented_by is None:
            return code
        if not self._is_removed:
            remove_container(self._run.name)
            self._is_removed = True
        return 128 + self._prevented_by

    def send_signal(self, number: int) -> None:
        """Send it to the container; if there is none yet, stop compose from starting it."""
        if not signal_container(self._run.name, number) and self._process is not None:
            self._prevented_by = number
            self._process.terminate()

    def kill(self) -> None:
        """Kill every process of the container."""
        kill_container(self._run.name)

    def record_image(self) -> bool:
        """Ask the engine for the container's image. A failing engine is reported and does not stop the training."""
        name = container_name(self._run.name)
        try:
            return record_image(self._engine, name, folder=self._run) is not None
        except RepriseError as fault:
            self._report(f"the image of run {self._run.name} is not verified: {fault.message}")
            with suppress(RepriseError):
                record_engine_fault(name, folder=self._run, fault=fault.message)
            return True


class ProcessTraining:
    """A training in a process on this machine."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        """`process` is None if an earlier process started it."""
        self._process = process

    def poll(self) -> int | None:
        """Return the exit code."""
        return None if self._process is None else self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""
        assert self._process is not None  # noqa: S101 - only its starter waits
        return self._process.wait(timeout)

    def send_signal(self, number: int) -> None:
        """Send it to the process, if this process started it."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()

    def record_image(self) -> bool:
        """Do nothing: there is no engine."""
        return True


def wait_recording_image(training: Training) -> int:
    """Wait for a training and write its image into its run folder meanwhile; return the exit code."""
    try:
        while training.poll() is None and not training.record_image():
            with suppress(subprocess.TimeoutExpired):
                training.wait(timeout=_POLL)
    finally:
        code = training.wait()  # after any failure too: the container uses the folder until it ends
    return code
