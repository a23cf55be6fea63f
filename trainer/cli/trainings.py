"""Processes that another command starts: training runs, and hidden commands that need torch.

A training runs `reprise train`: on a host without torch, the command starts a container; otherwise it trains in its own process. Several
runs can start from one frozen source. A hidden command is started like a training run and prints lines of JSON; on a host without torch,
the whole command runs in a container, so torch is available.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DocumentError, InterruptedRunError, RunError
from trainer.base.plain_text import read_bytes
from trainer.base.safe_folder import run_root
from trainer.cli.configuration import CHECKOUT, runs_folder
from trainer.cli.machine import device_for, torch_version, visible_gpus
from trainer.cli.sweep.launchers import frozen_image
from trainer.cli.train.command_line import require_captured
from trainer.cli.train.edit_arguments import with_option, with_settings_files
from trainer.launch.container import kill_container
from trainer.launch.contract import CommandRequest
from trainer.launch.process import ProcessCommand, ProcessLauncher
from trainer.runs.handoff import Launch
from trainer.runs.image_claim import OBSERVED_IMAGE
from trainer.runs.run import abandon, new_run, record_of
from trainer.runs.run_id import RUN_ID
from trainer.settings.determinism import threads_at, variables
from trainer.settings.fields import PURPOSE
from trainer.settings.settings_file import LARGEST_SETTINGS, copy_names
from trainer.source.capture import COPY, PREPARED_RUN_VARIABLE, capture, place_source, placed_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.train.command_line import TrainRequest
    from trainer.runs.record import Record
    from trainer.source.capture import SourceBundle


_RUN_LINE: Final = re.compile(rf"run ({RUN_ID.pattern}): ")
"""The beginning of the line in which a training process prints its run ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The source and the settings files that all runs of a command start from."""

    arguments: list[str]
    source: SourceBundle
    settings: dict[str, bytes]
    """The settings files, by the names of their copies in the folder of a new run."""

    def place_source(self, folder: Path) -> list[str]:
        """Write the settings files and, unless it lies there, the source into the folder of a new run.

        Return the arguments of `train` that use them.
        """
        if placed_source(folder) is None:
            place_source(self.source, folder)
        with disk_faults(folder), run_root(folder) as run:
            for name, content in self.settings.items():
                with run.create(name, make=True) as copy:
                    copy.write(content)
        return with_settings_files(self.arguments, [folder / name for name in self.settings])


def freeze(request: TrainRequest, *, first: Path | None = None) -> Recipe:
    """Capture the source and read the settings files; the source may lie in the folder of the `first` run, which has not started.

    Raise `SourceError`, `ExperimentError`.
    """
    source = placed_source(first) if first else None
    source = source or capture(CHECKOUT, extra=request.experiment.extra, runs=runs_folder())
    require_captured(request.experiment, source)
    arguments = with_option(request.argv, "exp", request.experiment.name)
    copies = copy_names(request.origins.files, checkout=CHECKOUT)
    return Recipe(
        arguments=arguments,
        source=source,
        settings={name: read_bytes(file, most=LARGEST_SETTINGS) for name, file in copies.items()},
    )


@contextmanager
def frozen_checkout(request: TrainRequest) -> Iterator[tuple[Path, list[str]]]:
    """Copy the source into a temporary folder for a process that is not a run; yield the folder and the arguments."""
    with TemporaryDirectory(prefix="reprise-source-") as temporary:
        folder = Path(temporary).resolve()
        arguments = freeze(request).place_source(folder)
        yield folder / COPY, arguments


def freeze_image() -> None:
    """Export the current image's variables, so that later runs use it even if `.env` changes: compose prefers environment variables."""
    os.environ.update(frozen_image()[0])


@contextmanager
def explaining_stop(hint: str) -> Iterator[None]:
    """Raise `InterruptedRunError` with a hint after Ctrl-C in the block."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise InterruptedRunError("stopped by Ctrl-C", hint=hint) from stopped


@dataclass(slots=True, kw_only=True)
class ChildTraining:
    """A started training, whose output is printed indented."""

    command: ProcessCommand
    new_folder: Path | None = None
    """The folder that was created for its run."""
    run: str | None = None
    is_run_known: Event = field(default_factory=Event)
    """Set when the run ID is known, or when the output ended."""
    listener: Thread = field(init=False)

    def __post_init__(self) -> None:
        """Start a thread that prints the process's output."""
        self.listener = Thread(target=self._listen, daemon=True)
        self.listener.start()

    @property
    def folder(self) -> Path:
        """Return the run's folder. Raise `RunError` if the process ended before it opened a record."""
        self.is_run_known.wait()
        if self.run is None:
            raise RunError("the training process ended before it opened a record", hint="see the output above")
        return runs_folder() / self.run

    def wait(self) -> int:
        """Wait until the process ends; return its exit code."""
        code = self.command.wait()
        self.listener.join()
        if self.new_folder is not None:
            abandon(self.new_folder)
        return code

    def kill(self) -> None:
        """Send SIGKILL to the process, or to its container, and wait until it ends."""
        if (self.folder / OBSERVED_IMAGE).exists():  # the training runs in a container
            kill_container(self.folder.name)
        else:
            self.command.kill()
        self.wait()

    def _listen(self) -> None:
        for line in self.command.lines():
            print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
            if self.run is None and (match := _RUN_LINE.match(line)):
                self.run = match[1]
                self.is_run_known.set()
        self.is_run_known.set()


def start(
    arguments: Sequence[str], *, purpose: str, recipe: Recipe | None = None, folder: Path | None = None
) -> ChildTraining:
    """Start `train` with the recipe's arguments and `arguments`, in a new folder or in the `folder` of a run that has not started.

    The record names `purpose`, so `latest` ignores the run.
    """
    if recipe is not None:
        folder = folder or new_run(runs_folder())[1]
    try:
        recipe_arguments = [] if folder is None or recipe is None else recipe.place_source(folder)
        variables = {PURPOSE: purpose} | ({} if folder is None else {PREPARED_RUN_VARIABLE: folder.name})
        request = CommandRequest(words=["train", *recipe_arguments, *arguments], variables=variables)
        null, launcher = subprocess.DEVNULL, ProcessLauncher(source=CHECKOUT)
        command = launcher.start(request, stdin=null, stdout=null, stderr=subprocess.PIPE)
        return ChildTraining(command=command, new_folder=folder)
    except BaseException:
        if folder is not None:
            abandon(folder)
        raise


def completed(
    arguments: Sequence[str], *, purpose: str, recipe: Recipe | None = None, folder: Path | None = None
) -> Record:
    """Train as `start` does, and return the record. Raise `RunError` if training fails."""
    training = start(arguments, purpose=purpose, recipe=recipe, folder=folder)
    try:
        code = training.wait()
    except BaseException:
        training.wait()  # Ctrl-C reached the training process too: it closes its record
        raise
    if code:
        subject = f"run {training.run}" if training.run else "the training process"
        raise RunError(f"{subject} ended with exit code {code}", hint="see the output above")
    return record_of(training.folder)


def run_hidden_command(hidden: Sequence[str], request: TrainRequest, *, source: Path = CHECKOUT) -> Iterator[Any]:
    """Yield each line of the hidden command's output, parsed, as soon as it is written. Raise `RunError` if the command fails.

    `source` is the checkout, or a copy of it that also contains an experiment from outside the checkout.
    """
    level = request.settings.determinism
    device = device_for(request.settings.accelerator, gpus=visible_gpus(), torch=torch_version(), level=level)
    launch = Launch(
        experiment=request.experiment.name,
        file=str(
            request.experiment.file if source != CHECKOUT else request.experiment.outside or request.experiment.file
        ),
        device=device,
        command=["reprise", *hidden],
        started=datetime.now(UTC),
        monotonic=monotonic(),
    )
    switches = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environ = variables(level, threads=threads_at(level, request.settings.threads)) | switches | launch.variables()
    launcher = ProcessLauncher(source=source, folder=source)
    command = launcher.start(
        CommandRequest(words=hidden, variables=environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        for line in command.lines():
            try:
                yield json.loads(line)
            except ValueError as fault:
                command.kill()
                message = f"the process for {hidden[0].strip('_')} printed {line[:80]!r}; expected JSON"
                raise DocumentError(message, hint="remove writes to file descriptor 1 from the experiment") from fault
    finally:
        code = command.wait()
    if code:
        raise RunError(
            f"the process for {hidden[0].strip('_')} ended with exit code {code}", hint="see the output above"
        )
