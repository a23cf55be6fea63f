"""The contract of launchers: start a `reprise` command, record its image, signal it, read its output and wait for it.

The launcher of containers is in `container`, the launcher of processes in `process`.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

IMAGE_VARIABLES: Final = (
    "REPRISE_ENVIRONMENT",
    "REPRISE_IMAGE",
    "REPRISE_IMAGE_CONFIG",
    "REPRISE_IMAGE_LAYERS",
    "REPRISE_BUILD_ID",
)
"""The variables that pass the identity of the image to a command."""
_POLL: Final = 0.05
"""Seconds between two attempts to find the container of a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRequest:
    """A `reprise` command to start."""

    words: Sequence[str]
    """The arguments of `reprise`."""
    run: Path | None = None
    """The folder of the run that the command trains; `None` if it trains no run."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables with their values."""
    inherited: Sequence[str] = ()
    """Names of environment variables whose values are taken from this process, and do not appear in a command line."""
    needs_store: bool = True
    """Whether the local store is started first."""


class Connection(TypedDict, total=False):
    """The connection of a command to this process: options of `subprocess.Popen`. An absent stream is inherited."""

    stdin: int
    stdout: int | IO[Any]
    stderr: int | IO[Any]
    start_new_session: bool
    """Whether signals from this terminal do not reach the command."""
    process_group: int
    """0 for a separate process group in the session of this terminal: Ctrl-C does not reach the command."""


class StartedCommand(Protocol):
    """A started command."""

    def poll(self) -> int | None:
        """Return the exit code; `None` while the command runs, and always `None` if an earlier process started it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        ...

    def output(self) -> tuple[int, bytes]:
        """Wait for the command to end; return the exit code and the captured stdout."""
        ...

    def lines(self) -> Iterator[str]:
        """Yield the lines of the captured stream as they are written."""
        ...

    def send_signal(self, number: int) -> None:
        """Send a signal to the command; if it has not started yet, prevent its start."""
        ...

    def kill(self) -> None:
        """Kill every process of the command."""
        ...

    def record_image(self) -> bool:
        """Write the command's image, as seen from outside, into its run folder; return false if the caller must try again."""
        ...


class Launcher(Protocol):
    """Starts `reprise` commands."""

    def start(self, request: CommandRequest, **connection: Unpack[Connection]) -> StartedCommand:
        """Start a command."""
        ...

    def attach(self, run: Path) -> StartedCommand:
        """Return the command of a run that an earlier process started."""
        ...


def wait_forwarding_signals(command: StartedCommand) -> int:
    """Wait for a command's exit code; record its image and forward SIGINT and SIGTERM in the meantime."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: command.send_signal(number))
    return wait_recording_image(command)


def wait_recording_image(command: StartedCommand) -> int:
    """Wait for a command's exit code, and write its image into its run folder in the meantime."""
    try:
        while command.poll() is None and not command.record_image():
            with suppress(subprocess.TimeoutExpired):
                command.wait(timeout=_POLL)
    finally:
        code = command.wait()  # even after a failure, since the container uses the folder until it ends
    return code
