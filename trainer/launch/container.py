"""The container of a run, controlled by its name with the `docker` command.

Without a terminal, `docker compose run` does not forward signals: it ends and leaves its container running. Whoever starts a run in a
container therefore sends signals to the container itself.
"""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def container_name(run: str) -> str:
    """Return the name of a run's container."""
    return f"reprise-{run}"


def signal_container(run: str, number: int) -> bool:
    """Send a signal to a run's container; return whether there is one."""
    return _docker("kill", f"--signal={signal.Signals(number).name}", container_name(run))


def kill_container(run: str) -> None:
    """Send SIGKILL to every process of a run's container."""
    _docker("kill", container_name(run))


def remove_container(run: str) -> None:
    """Remove a run's container, which compose may have created without starting it."""
    _docker("rm", "--force", container_name(run))


def _docker(*words: str) -> bool:
    # A session of its own, so that Ctrl-C in the terminal does not end this command.
    command: Sequence[str] = ["docker", *words]
    return subprocess.run(command, capture_output=True, check=False, start_new_session=True).returncode == 0
