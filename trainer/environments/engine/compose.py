"""Running the services of compose.yaml with `docker compose`."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from trainer.base.errors import EngineAbsentError, EngineError, PortTakenError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PORT = re.compile(r"(?:Bind for|listen tcp\d?) [\d.]+:(\d+)")


def require_no_colon(folder: Path) -> None:
    """Raise `UsageError` if the path has a colon, which is a separator in mounts and in lists of compose files."""
    if ":" in str(folder):
        message = f"{folder} has a colon and cannot be mounted into a container"
        raise UsageError(message, hint="set REPRISE_RUNS or TMPDIR to a path without a colon")


def volume(source: Path, target: str) -> tuple[str, str]:
    """Return the option of `docker compose run` that mounts a folder. Raise `UsageError` if its path has a colon."""
    require_no_colon(source)
    return "--volume", f"{source}:{target}"


def run_command(
    arguments: Sequence[str], *, service: str = "train", options: Sequence[str] = (), project: Path | None = None
) -> list[str]:
    """Return the command that runs a service once, in a new container that is removed afterwards."""
    directory = () if project is None else ("--project-directory", str(project))
    return ["docker", "compose", *directory, "run", "--rm", *options, service, *arguments]


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a docker command with options of `subprocess.Popen`. Raise `EngineAbsentError` if `docker` is not installed."""
    try:
        return subprocess.Popen(command, **options)
    except FileNotFoundError as fault:
        raise EngineAbsentError(
            "the command `docker` is not installed", hint="scripts/machine/engine ensure"
        ) from fault


def run(
    service: str, arguments: Sequence[str], *, root: Path, environ: Mapping[str, str], options: Sequence[str] = ()
) -> str:
    """Run a service once without a terminal, and return its output. `environ` is the whole environment of compose.

    Raise the error of `compose_error` if the service fails.
    """
    command = run_command(arguments, service=service, options=("-T", *options))
    pipe = subprocess.PIPE
    with start(command, cwd=root, env=dict(environ), stdout=pipe, stderr=pipe) as process:
        output, errors = process.communicate()
    if process.returncode:
        raise compose_error(service, errors.decode(errors="replace"))
    return output.decode()


def compose_error(service: str, output: str) -> EngineError | PortTakenError:
    """Return the error for a failed service, from the stderr of compose or of the service."""
    if port := _PORT.search(output):
        message = f"port {port[1]} on 127.0.0.1 is taken by another program; the store needs a free port"
        return PortTakenError(message, hint=f"REPRISE_STORE_PORT={int(port[1]) + 10} scripts/setup")
    lines = [
        line.strip()
        for line in output.splitlines()
        if line.strip() and not line.lstrip().startswith(("Container ", "Network ", "Volume "))
    ]
    return EngineError(f"`docker compose run {service}` failed: {' / '.join(lines[-3:])}", hint="reprise doctor")
