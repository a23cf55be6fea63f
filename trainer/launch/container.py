"""Commands in containers that `docker compose run` starts.

Without a terminal, `docker compose run` does not forward signals: it ends, but its container continues to run. Signals are therefore sent
to the container itself, which is named after its run. The launcher inspects the container from outside, so that the record can state that
the image is verified.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Unpack

from trainer.base.digest import is_digest
from trainer.base.errors import RepriseError
from trainer.environments.engine.compose import run_command, start
from trainer.launch.process import ProcessCommand
from trainer.runs.image_claim import ObservedImage, write_observed_image
from trainer.runs.image_file import RUN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trainer.environments.engine import Engine, ImageFacts
    from trainer.launch.contract import CommandRequest, Connection

_BUILD_ID: Final = "reprise.build-id"
"""The label with the build ID of an image."""


def container_name(run: str) -> str:
    """Return the name of a run's container."""
    return f"reprise-{run}"


def kill_container(run: str) -> None:
    """Send SIGKILL to every process of a run's container."""
    _docker("kill", container_name(run))


def _docker(*words: str) -> bool:
    # a separate session, so that Ctrl-C in the terminal does not end the docker command
    done = subprocess.run(["docker", *words], capture_output=True, check=False, start_new_session=True)
    return done.returncode == 0


class NamedContainer(ProcessCommand):
    """A command in a container with a name."""

    def __init__(self, process: subprocess.Popen[bytes] | None, *, name: str) -> None:
        """Control the container `name`. `process` is the command that starts it, `None` if an earlier process started it."""
        super().__init__(process)
        self._name = name
        self._prevented_by: int | None = None
        self._is_removed = False

    def poll(self) -> int | None:
        """Return the exit code; `None` while the command runs."""
        code = super().poll()
        return None if code is None else self._exit_code(code)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command, and return its exit code."""
        return self._exit_code(super().wait(timeout))

    def _exit_code(self, code: int) -> int:
        """Return the exit code. If a signal prevented the container from starting, remove it and return 128 plus the signal's number."""
        if self._prevented_by is None:
            return code
        if not self._is_removed:
            _docker("rm", "--force", self._name)
            self._is_removed = True
        return 128 + self._prevented_by

    def send_signal(self, number: int) -> None:
        """Send a signal to the container; if the container does not exist yet, terminate compose, which would start it."""
        is_sent = _docker("kill", f"--signal={signal.Signals(number).name}", self._name)
        if not is_sent and self._process is not None:
            self._prevented_by = number
            self._process.terminate()

    def kill(self) -> None:
        """Kill every process in the container."""
        _docker("kill", self._name)


class ContainerCommand(NamedContainer):
    """A command in the container of a run."""

    def __init__(
        self,
        process: subprocess.Popen[bytes] | None,
        *,
        run: Path,
        engine: Engine,
        report: Callable[[str], None],
    ) -> None:
        """Control the container of the run in the folder `run`.

        `process` is the command that starts the container, `None` if an earlier process started it. `report` prints a line.
        """
        super().__init__(process, name=container_name(run.name))
        self._run, self._engine, self._report = run, engine, report

    def record_image(self) -> bool:
        """Write the image that the engine reports into the run's folder; return false if the container does not exist yet.

        A failure of the engine is reported, but does not stop the command.
        """
        name = container_name(self._run.name)
        try:
            return record_image(self._engine, name, folder=self._run) is not None
        except RepriseError as fault:
            self._report(f"the image of run {self._run.name} is not verified: {fault.message}")
            with suppress(RepriseError):  # written so that the run in the container stops waiting for its image
                write_observed_image(self._run, ObservedImage(container=name, reference=None, fault=fault.message))
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLauncher:
    """Starts commands in containers of the service `train` of compose.yaml."""

    checkout: Path
    engine: Engine
    report: Callable[[str], None]
    """Prints a line."""
    options: Sequence[str] = ()
    """Options of `docker compose run`."""
    environ: Mapping[str, str] | None = None
    """The environment variables of compose; `None` for the variables of this process."""
    project: Path | None = None
    """The folder from which compose reads `.env`; `None` for the folder of its first file."""

    def command(self, request: CommandRequest) -> list[str]:
        """Return the command line that `start` starts."""
        options = [*self.options, *([] if request.needs_store else ["--no-deps"])]
        if request.run is not None:
            options += [f"--name={container_name(request.run.name)}", f"--env={RUN_VARIABLE}={request.run.name}"]
        options += [f"--env={name}={value}" for name, value in request.variables.items()]
        options += [f"--env={name}" for name in request.inherited]
        return run_command(request.words, options=options, project=self.project)

    def start(self, request: CommandRequest, **connection: Unpack[Connection]) -> ProcessCommand:
        """Start a command in a container. Raise `EngineAbsentError` if Docker is not installed.

        Without a run, the result controls the process of compose instead of the container, which then has no fixed name.
        """
        if (
            request.run is not None
            and not (sys.stdin and sys.stdin.isatty())
            and not connection.get("start_new_session")
        ):
            connection["process_group"] = 0  # without a terminal, Ctrl-C would end compose but not its container
        process = start(self.command(request), cwd=self.checkout, env=self.environ, **connection)
        return ProcessCommand(process) if request.run is None else self._watched(process, request.run)

    def attach(self, run: Path) -> ContainerCommand:
        """Return the command in the run's container."""
        return self._watched(None, run)

    def _watched(self, process: subprocess.Popen[bytes] | None, run: Path) -> ContainerCommand:
        return ContainerCommand(process, run=run, engine=self.engine, report=self.report)


def record_image(engine: Engine, container: str, *, folder: Path) -> ObservedImage | None:
    """Write the image of a container into the run's folder; return `None` if the container does not exist yet."""
    image = engine.image_of(container)
    if image is None:
        return None
    seen = describe_image(image, container=container, engine=engine)
    write_observed_image(folder, seen)
    return seen


def describe_image(image: ImageFacts, *, container: str, engine: Engine) -> ObservedImage:
    """Return the description of a container's image.

    If the image has no build ID, Reprise did not build it, and the description has only its name: computing its digests could take long.
    """
    reference = image.references[0] if image.references else image.id
    build_id = image.labels.get(_BUILD_ID, "")
    if not is_digest(build_id):
        return ObservedImage(container=container, reference=reference)
    digests = engine.digests(image)
    return ObservedImage(
        container=container,
        reference=reference,
        manifest=digests.manifest,
        config=digests.config,
        build_id=build_id,
        layers=list(image.layers),
    )
