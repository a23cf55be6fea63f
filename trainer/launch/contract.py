"""The contract of launchers: start a `reprise` command, record its image, signal it, read its output and wait for it.

The container's launcher is in `container`, the process's in `process`.
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
"""Variables by which a command gets the identity of its image."""
_POLL: Final = 0.05
"""Seconds between two attempts to find the container of a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRequest:
    """A command of `reprise` to start."""

    words: Sequence[str]
    """Its arguments."""
    run: Path | None = None
    """The folder of the run that it trains, if it trains one."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables."""
    inherited: Sequence[str] = ()
    """Names of environment variables that have this process's values; the values appear in no command line."""
    needs_store: bool = True
    """Whether the local store must run."""


class Connection(TypedDict, total=False):
    """The connection of a command to this process: options of `subprocess.Popen`. An absent stream is inherited."""

    stdin: int
    stdout: int | IO[Any]
    stderr: int | IO[Any]
    start_new_session: bool
    """Whether signals of this terminal do not reach the command."""
    process_group: int
    """0 for a group of its own in this terminal's session: Ctrl-C does not reach the command."""


class StartedCommand(Protocol):
    """A started command."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs, and always if an earlier process started it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raise `subprocess.TimeoutExpired`."""
        ...

    def output(self) -> tuple[int, bytes]:
        """Wait for the end; return the exit code and the captured stdout."""
        ...

    def lines(self) -> Iterator[str]:
        """Yield the lines of the captured stream as they are written."""
        ...

    def send_signal(self, number: int) -> None:
        """Send a signal to the command; if it has not begun, prevent its start."""
        ...

    def kill(self) -> None:
        """Kill every process of the command."""
        ...

    def record_image(self) -> bool:
        """Write the command's image, as seen from outside, into its run folder; return whether that is done."""
        ...


class Launcher(Protocol):
    """Starts commands of `reprise`."""

    def start(self, request: CommandRequest, **connection: Unpack[Connection]) -> StartedCommand:
        """Start a command."""
        ...

    def attach(self, run: Path) -> StartedCommand:
        """Return the command of a run that an earlier process started."""
        ...


def wait_forwarding_signals(command: StartedCommand) -> int:
    """Wait for a command's exit code; record its image and forward SIGINT and SIGTERM meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: command.send_signal(number))
    return wait_recording_image(command)


def wait_recording_image(command: StartedCommand) -> int:
    """Wait for a command's exit code, and write its image into its run folder meanwhile."""
    try:
        while command.poll() is None and not command.record_image():
            with suppress(subprocess.TimeoutExpired):
                command.wait(timeout=_POLL)
    finally:
        code = command.wait()  # even after a failure: the container uses the folder until it ends
    return code
