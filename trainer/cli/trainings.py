"""Trainings that a command starts: `train`, as it would be typed, in a process of its own.

Knows how such a run is named, watched and killed. On a host without torch `train` starts a container, in an image or an environment with
torch it is a process: whoever starts one here need not know which. Refuses to know why it is started.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from trainer.actions.run import record_of
from trainer.cli.places import CHECKOUT, runs_folder
from trainer.cli.run_page import printable
from trainer.errors import RunError
from trainer.host.image_claim import SEEN
from trainer.record import RUN_ID
from trainer.settings import PURPOSE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.record import Record

_TOLD: Final = re.compile(rf"run ({RUN_ID.pattern}): ")
"""The line by which a training names its run once its record is open."""


@dataclass(slots=True, kw_only=True)
class Training:
    """A training that was started; what it says is passed on, indented."""

    process: subprocess.Popen[str]
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
        return code

    def kill(self) -> None:
        """SIGKILL, to the process or to all of its container."""
        if (self.folder / SEEN).exists():  # somebody outside of it watches a container
            subprocess.run(["docker", "kill", f"reprise-{self.folder.name}"], capture_output=True, check=False)
        else:
            self.process.kill()
        self.wait()

    def listen(self) -> None:
        """Pass on what it says, and take its name from it."""
        assert self.process.stderr is not None  # noqa: S101 - it was started with a pipe
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            print(f"  {printable(line.rstrip())}", file=sys.stderr, flush=True)
            if self.run is None and (found := _TOLD.match(line)):
                self.run = found[1]
                self.named.set()
        self.named.set()


def start(words: Sequence[str], *, purpose: str) -> Training:
    """Start `train` with these words; its record says for which command, so that `latest` passes it over."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", "train", *words],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), PURPOSE: purpose},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    training = Training(process=process)
    training.listener = Thread(target=training.listen, daemon=True)
    training.listener.start()
    return training


def completed(words: Sequence[str], *, purpose: str) -> Record:
    """Train with these words, and give the record. Raises `RunError` if it does not complete."""
    training = start(words, purpose=purpose)
    try:
        code = training.wait()
    except BaseException:
        training.wait()  # Ctrl-C reached it too: it closes its record
        raise
    if code:
        what = f"run {training.run}" if training.run else "the training"
        raise RunError(f"{what} ended with exit code {code}", hint="the lines above say why")
    return record_of(training.folder)
