"""What the launcher tells the training process: facts that were found out before anything was imported.

Knows the one variable they travel in. Refuses to know how either side uses them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.digest import Digest
from trainer.base.document import Document, parse_json
from trainer.base.errors import UsageError
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "REPRISE_LAUNCH"


class Frozen(Document):
    """A run's folder and the source that was frozen into it."""

    run: str
    folder: str
    """The run's folder, absolute."""
    shown: str
    """The run's folder as a person would type it."""
    digest: Digest
    source: Source


class Launch(Document):
    """What is known when the process starts."""

    experiment: str
    """As the record names it: a name of `trainer/experiments/`, or a path in the source."""
    file: str
    """The experiment's file, relative to the root of the source."""
    device: Literal["cpu", "gpu"]
    command: list[str]
    started: datetime
    monotonic: float
    """The monotonic clock at that moment: both processes read the same one."""
    frozen: Frozen | None = None
    """`None`: nothing is run, only described."""
    resumes: bool = False
    """Whether the run has attempts already, and this one goes on."""
    allowed: list[str] = []
    """Kinds of ingredients that may be otherwise than in the attempts before."""
    passed: list[int] = []
    """Attempts that were made elsewhere, and that the user does not trust: nothing of them is used."""

    def variables(self) -> dict[str, str]:
        """Write it as the variable that the process reads."""
        return {VARIABLE: self.model_dump_json(exclude_defaults=True)}  # an older source knows fewer keys


def launched(environ: Mapping[str, str]) -> Launch:
    """Read what the launcher told. Raises `UsageError` in a process that it did not start."""
    if VARIABLE not in environ:
        raise UsageError("the training process is started by the launcher", hint="type `reprise train --exp NAME`")
    return parse_json(environ[VARIABLE], Launch, where=VARIABLE)
