"""One attempt of a run while it goes on: what was opened, what it is told with, how long its stages took.

Knows what the parts of the training process share. Refuses to decide anything: who opens, trains and closes is `trainer.cli.process`.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.redaction import REDACTOR
from trainer.base.run_files import attempt_root
from trainer.cli.output import escaping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Dataset
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.runs.run import OpenRun
    from trainer.settings.ledger import Ledger
    from trainer.settings.origins import Resolved
    from trainer.training.experiment import Experiment
    from trainer.training.fit import Trained
    from trainer.training.resuming.stop import Stop

BAKED_INVENTORY: Final = Path("/opt/reprise/inventory.json")
LOG: Final = "log.txt"
"""In the attempt's folder: what the terminal was told, and the traceback of what ended the run."""
SOURCE: Final = Path.cwd()
"""The frozen source: the launcher starts the process in it."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One attempt while it goes on."""

    launch: Launch
    frozen: FrozenSource
    experiment: Experiment
    resolved: Resolved[Any]
    ledger: Ledger
    dataset: Dataset
    stop: Stop
    opened: OpenRun
    stages: dict[str, float] = field(default_factory=dict)
    trained: Trained | None = None
    publishes: bool = True
    has_stepped: bool = False
    """Whether a first step was begun: before it, what was given can still be refused, and then there was no run."""

    switched: list[str] = field(default_factory=list)
    """How the run left its level of determinism, a line each, with what attempts before this one recorded."""

    began_at: int = 0
    """The step that this attempt went on from."""

    @property
    def steps(self) -> int | None:
        """The optimizer steps of this run and those before, as far as that is known of an attempt that was not finished."""
        if self.trained is not None:
            return self.trained.steps
        return None if self.has_stepped else self.began_at

    def stepping(self) -> None:
        """Note that a step begins."""
        self.has_stepped = True

    def switch(self, line: str) -> None:
        """Note that the net left the run's level of determinism, and say so."""
        self.switched.append(line)
        self.say(f"determinism is not {self.opened.record.ingredients.determinism.level} any more: {line}")

    def say(self, line: str) -> None:
        """Tell the person at the terminal, and keep it in the attempt's log."""
        print(line, file=escaping(sys.stderr), flush=True)
        self.note(line)

    def note(self, text: str) -> None:
        """Keep it in the attempt's log alone."""
        with attempt_root(self.opened.folder) as attempt, attempt.append(LOG) as log:
            log.write(f"{REDACTOR.redact(text)}\n".encode(errors="backslashreplace"))

    @property
    def shown(self) -> str:
        """The record's path, as a person would type it."""
        return f"{self.frozen.shown}/attempts/{self.opened.record.attempt}/record.json"

    @property
    def shown_log(self) -> str:
        """The log's path, as a person would type it."""
        return f"{self.frozen.shown}/attempts/{self.opened.record.attempt}/{LOG}"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Keep how long the block took."""
        began = monotonic()
        try:
            yield
        finally:
            self.stages[name] = monotonic() - began
