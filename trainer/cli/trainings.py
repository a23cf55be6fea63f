"""Trainings that another command starts: each runs `reprise train` in a process.

On a host without torch, `train` starts a container; otherwise it trains in the process itself. Several trainings can start from one
frozen source.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import RunError
from trainer.base.plain_text import read_text
from trainer.base.safe_folder import run_root
from trainer.cli.configuration import CHECKOUT, runs_folder
from trainer.cli.sweep.resources import frozen_image
from trainer.cli.train import brought_by, require_captured, with_option
from trainer.launch.container import kill_container
from trainer.runs.image_claim import SEEN
from trainer.runs.record import RUN_ID
from trainer.runs.run import abandon, new_run, record_of
from trainer.settings.fields import PURPOSE
from trainer.source.capture import BEGUN, COPY, capture, place_source
from trainer.sweeps.folder import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.train import Asked
    from trainer.runs.record import Record
    from trainer.source.capture import SourceBundle

_RUN_LINE: Final = re.compile(rf"run ({RUN_ID.pattern}): ")
"""The line with which a training prints its run ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The source and the settings file that all trainings of a command start from."""

    words: list[str]
    source: SourceBundle
    settings: str | None

    def place_source(self, folder: Path) -> list[str]:
        """Write both into the folder of a new run; return the arguments of `train` that use them."""
        place_source(self.source, folder)
        if self.settings is None:
            return self.words
        with disk_faults(folder), run_root(folder) as run:
            run.write_whole(SETTINGS, self.settings.encode())
        return with_option(self.words, "settings", str(folder / SETTINGS))


def freeze(asked: Asked) -> Recipe:
    """Capture the source and read the settings file. Raises `SourceError`, `ExperimentError`."""
    source = capture(CHECKOUT, extra=brought_by(asked.place), runs=runs_folder())
    require_captured(asked.place, source)
    text = None if asked.file is None else read_text(asked.file)
    return Recipe(words=with_option(asked.argv, "exp", asked.place.name), source=source, settings=text)


@contextmanager
def frozen_checkout(asked: Asked) -> Iterator[tuple[Path, list[str]]]:
    """Copy the source into a temporary folder for a process that is no run; yield the folder and the arguments."""
    with TemporaryDirectory(prefix="reprise-source-") as temporary:
        folder = Path(temporary).resolve()
        words = freeze(asked).place_source(folder)
        yield folder / COPY, words


def freeze_image() -> None:
    """Run all trainings in the current image, also if `.env` changes: compose prefers environment variables."""
    os.environ.update(frozen_image()[0])


@dataclass(slots=True, kw_only=True)
class Training:
    """A started training, whose output is printed indented."""

    process: subprocess.Popen[str]
    begun: Path | None = None
    """The folder that was created for its run."""
    run: str | None = None
    lines: list[str] = field(default_factory=list)
    named: Event = field(default_factory=Event)
    """Set when the run ID is known, or when the output ended."""
    listener: Thread | None = None

    @property
    def folder(self) -> Path:
        """Return the run's folder. Raises `RunError` if the training ended before it opened a record."""
        self.named.wait()
        if self.run is None:
            raise RunError("the training ended before it opened a record", hint="the lines above say why")
        return runs_folder() / self.run

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait()
        if self.listener is not None:
            self.listener.join()
        if self.begun is not None:
            abandon(self.begun)
        return code

    def kill(self) -> None:
        """Send SIGKILL to the process, or to its container."""
        if (self.folder / SEEN).exists():  # it runs in a container
            kill_container(self.folder.name)
        else:
            self.process.kill()
        self.wait()

    def listen(self) -> None:
        """Print its output and read the run ID from it."""
        assert self.process.stderr is not None  # noqa: S101 - it was started with a pipe
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
            if self.run is None and (found := _RUN_LINE.match(line)):
                self.run = found[1]
                self.named.set()
        self.named.set()


def start(words: Sequence[str], *, purpose: str, recipe: Recipe | None = None) -> Training:
    """Start `train` with the recipe's arguments and these; the record names `purpose`, so `latest` ignores the run."""
    begun, laid = (None, []) if recipe is None else _begun(recipe)
    try:
        training = Training(process=_process([*laid, *words], purpose, begun), begun=begun)
        training.listener = Thread(target=training.listen, daemon=True)
        training.listener.start()
    except BaseException:
        if begun is not None:
            abandon(begun)
        raise
    return training


def _process(words: Sequence[str], purpose: str, begun: Path | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", "train", *words],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), PURPOSE: purpose, **({BEGUN: begun.name} if begun else {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _begun(recipe: Recipe) -> tuple[Path, list[str]]:
    """Create the folder of a new run with the recipe; return the folder and the arguments."""
    folder = new_run(runs_folder())[1]
    try:
        return folder, recipe.place_source(folder)
    except BaseException:
        abandon(folder)
        raise


def completed(words: Sequence[str], *, purpose: str, recipe: Recipe | None = None) -> Record:
    """Train and return the record. Raises `RunError` if the training fails."""
    training = start(words, purpose=purpose, recipe=recipe)
    try:
        code = training.wait()
    except BaseException:
        training.wait()  # Ctrl-C reached the training too: it closes its record
        raise
    if code:
        what = f"run {training.run}" if training.run else "the training"
        raise RunError(f"{what} ended with exit code {code}", hint="the lines above say why")
    return record_of(training.folder)
