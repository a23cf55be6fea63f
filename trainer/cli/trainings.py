"""Trainings that a command starts: `train`, as it would be typed, in a process of its own.

Knows how such a run is named, watched and killed, and how several start from one source. On a host without torch `train` starts a
container, in an image or an environment with torch it is a process: whoever starts one here need not know which. Refuses to know why it is
started.
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
from trainer.cli.places import CHECKOUT, runs_folder
from trainer.cli.sweep.resources import frozen_image
from trainer.cli.train import brought_by, require_captured, with_option
from trainer.launch.container import kill_container
from trainer.runs.image_claim import SEEN
from trainer.runs.record import RUN_ID
from trainer.runs.run import abandon, new_run, record_of
from trainer.settings.fields import PURPOSE
from trainer.source.capture import BEGUN, COPY, capture, lay
from trainer.sweeps.folder import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.train import Asked
    from trainer.runs.record import Record
    from trainer.source.capture import SourceBundle

_TOLD: Final = re.compile(rf"run ({RUN_ID.pattern}): ")
"""The line by which a training names its run once its record is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What all trainings of a command start from: source and settings file as they were when the command began."""

    words: list[str]
    source: SourceBundle
    settings: str | None

    def lay(self, folder: Path) -> list[str]:
        """Put it into the folder of a new run; give the words of `train` that find it there."""
        lay(self.source, folder)
        if self.settings is None:
            return self.words
        with disk_faults(folder), run_root(folder) as run:
            run.write_whole(SETTINGS, self.settings.encode())
        return with_option(self.words, "settings", str(folder / SETTINGS))


def freeze(asked: Asked) -> Recipe:
    """Read the source and the settings file of a command line once. Raises `SourceError`, `ExperimentError`."""
    source = capture(CHECKOUT, extra=brought_by(asked.place), runs=runs_folder())
    require_captured(asked.place, source)
    text = None if asked.file is None else read_text(asked.file)
    return Recipe(words=with_option(asked.argv, "exp", asked.place.name), source=source, settings=text)


@contextmanager
def frozen_checkout(asked: Asked) -> Iterator[tuple[Path, list[str]]]:
    """A copy of the source for processes that are no runs, and the words that are read in it; both are gone afterwards."""
    with TemporaryDirectory(prefix="reprise-source-") as made:
        folder = Path(made).resolve()
        words = freeze(asked).lay(folder)
        yield folder / COPY, words


def freeze_image() -> None:
    """Have all trainings run in the image of now, whatever is written into `.env` later; compose asks the environment first."""
    os.environ.update(frozen_image()[0])


@dataclass(slots=True, kw_only=True)
class Training:
    """A training that was started; what it says is passed on, indented."""

    process: subprocess.Popen[str]
    begun: Path | None = None
    """The folder that was made for its run."""
    run: str | None = None
    said: list[str] = field(default_factory=list)
    named: Event = field(default_factory=Event)
    """Set once the run has a name, or never will."""
    listener: Thread | None = None

    @property
    def folder(self) -> Path:
        """The run's. Raises `RunError` where its record was never open."""
        self.named.wait()
        if self.run is None:
            raise RunError("the training ended before its record was open", hint="the lines above say why")
        return runs_folder() / self.run

    def wait(self) -> int:
        """Its exit code, once it is over."""
        code = self.process.wait()
        if self.listener is not None:
            self.listener.join()
        if self.begun is not None:
            abandon(self.begun)
        return code

    def kill(self) -> None:
        """SIGKILL, to the process or to all of its container."""
        if (self.folder / SEEN).exists():  # somebody outside of it watches a container
            kill_container(self.folder.name)
        else:
            self.process.kill()
        self.wait()

    def listen(self) -> None:
        """Pass on what it says, and take its name from it."""
        assert self.process.stderr is not None  # noqa: S101 - it was started with a pipe
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
            if self.run is None and (found := _TOLD.match(line)):
                self.run = found[1]
                self.named.set()
        self.named.set()


def start(words: Sequence[str], *, purpose: str, recipe: Recipe | None = None) -> Training:
    """Start `train` with these words after those of the recipe; its record says for which command, so that `latest` passes it over."""
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
    """The folder of a new run with what it starts from, and the words that find it there."""
    folder = new_run(runs_folder())[1]
    try:
        return folder, recipe.lay(folder)
    except BaseException:
        abandon(folder)
        raise


def completed(words: Sequence[str], *, purpose: str, recipe: Recipe | None = None) -> Record:
    """Train with these words, and give the record. Raises `RunError` if it does not complete."""
    training = start(words, purpose=purpose, recipe=recipe)
    try:
        code = training.wait()
    except BaseException:
        training.wait()  # Ctrl-C reached it too: it closes its record
        raise
    if code:
        what = f"run {training.run}" if training.run else "the training"
        raise RunError(f"{what} ended with exit code {code}", hint="the lines above say why")
    return record_of(training.folder)
