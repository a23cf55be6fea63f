"""Commands in processes on this machine."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Unpack

from trainer.runs.image_claim import ObservedImage, write_observed_image
from trainer.runs.image_file import RUN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trainer.launch.contract import CommandRequest, Connection

_WITHOUT_ENGINE: Final = "the run is a process on this machine, not a container"


class ProcessCommand:
    """A command in a process on this machine."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        """Control `process`, which is `None` if an earlier process started the command."""
        self._process = process

    @property
    def _own(self) -> subprocess.Popen[bytes]:
        assert self._process is not None  # noqa: S101 - only the process that started the command waits for it and reads its output
        return self._process

    def poll(self) -> int | None:
        """Return the exit code; `None` while the command runs."""
        return None if self._process is None else self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command, and return its exit code."""
        return self._own.wait(timeout)

    def output(self) -> tuple[int, bytes]:
        """Wait for the command; return its exit code and the captured stdout."""
        with self._own as process:
            output, _ = process.communicate()
        return self.wait(), output or b""

    def lines(self) -> Iterator[str]:
        """Yield the lines of stdout or stderr, whichever is captured."""
        stream = self._own.stdout or self._own.stderr
        assert stream is not None  # noqa: S101 - a caller that reads lines captures stdout or stderr
        with io.TextIOWrapper(stream, encoding="utf-8", errors="replace") as text:
            for line in text:
                yield line.rstrip("\n")

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if this process started it."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()

    def record_image(self) -> bool:
        """Return true: without a container, `ProcessLauncher.start` has written the file."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLauncher:
    """Starts commands with this Python."""

    source: Path
    """The folder from which the package `trainer` is imported."""
    folder: Path | None = None
    """The working folder of commands; `None` for the folder of this process."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def start(self, request: CommandRequest, **connection: Unpack[Connection]) -> ProcessCommand:
        """Start a command, and write into the run's folder that the command has no container whose image could be inspected."""
        own = {"PYTHONPATH": str(self.source), **request.variables}
        own |= {name: os.environ[name] for name in request.inherited}
        if request.run is not None:
            write_observed_image(request.run, ObservedImage(container="here", reference=None, fault=_WITHOUT_ENGINE))
            own[RUN_VARIABLE] = request.run.name
        command = [sys.executable, "-P", "-m", "trainer", *request.words]
        return ProcessCommand(subprocess.Popen(command, cwd=self.folder, env={**self.environ, **own}, **connection))

    def attach(self, run: Path) -> ProcessCommand:
        """Return a command without a process, which cannot be signaled."""
        del run
        return ProcessCommand(None)
