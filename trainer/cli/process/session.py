"""The state of one attempt of a run, shared by the stages of the training process."""

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
    from trainer.training.resuming.stop_requests import Stop

BAKED_INVENTORY: Final = Path("/opt/reprise/inventory.json")
LOG: Final = "log.txt"
"""A file in the attempt's folder: the lines printed on the terminal, and the traceback of the failure that ended the run."""
SOURCE: Final = Path.cwd()
"""The frozen source: the launcher starts the process in this folder."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One running attempt."""

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
    """Whether a first step has begun: before it, input can still be rejected, and then there was no run."""

    switched: list[str] = field(default_factory=list)
    """How the run left its level of determinism, one line each, including the lines that earlier attempts recorded."""

    began_at: int = 0
    """The step from which this attempt resumed."""

    @property
    def steps(self) -> int | None:
        """The optimizer steps of this attempt and of the earlier attempts; `None` if an unfinished attempt does not know them."""
        if self.trained is not None:
            return self.trained.steps
        return None if self.has_stepped else self.began_at

    def stepping(self) -> None:
        """Record that a step begins."""
        self.has_stepped = True

    def switch(self, line: str) -> None:
        """Record that the net left the run's level of determinism, and print it."""
        self.switched.append(line)
        self.say(f"determinism is not {self.opened.record.ingredients.determinism.level} any more: {line}")

    def say(self, line: str) -> None:
        """Print a line on the terminal, and add it to the attempt's log."""
        print(line, file=escaping(sys.stderr), flush=True)
        self.note(line)

    def note(self, text: str) -> None:
        """Add text to the attempt's log only."""
        with attempt_root(self.opened.folder) as attempt, attempt.append(LOG) as log:
            log.write(f"{REDACTOR.redact(text)}\n".encode(errors="backslashreplace"))

    @property
    def shown(self) -> str:
        """The record's path, as a user would type it."""
        return f"{self.frozen.shown}/attempts/{self.opened.record.attempt}/record.json"

    @property
    def shown_log(self) -> str:
        """The log's path, as a user would type it."""
        return f"{self.frozen.shown}/attempts/{self.opened.record.attempt}/{LOG}"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record the duration of the block."""
        began = monotonic()
        try:
            yield
        finally:
            self.stages[name] = monotonic() - began
