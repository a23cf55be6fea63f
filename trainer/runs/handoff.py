"""The launcher's message to the training process, in one environment variable."""

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


class FrozenSource(Document):
    """A run's folder and its frozen source."""

    run: str
    folder: str
    """The absolute path of the run's folder."""
    shown: str
    """The path of the run's folder as shown to the user."""
    digest: Digest
    source: Source


class Launch(Document):
    """The facts that the launcher determines before it starts the training process."""

    experiment: str
    """The experiment as recorded: a name in `trainer/experiments/`, or a path in the source."""
    file: str
    """The experiment's file, relative to the root of the source."""
    is_script: bool = False
    """Whether the file is a script, which is executed instead of imported."""
    device: Literal["cpu", "gpu"]
    command: list[str]
    started: datetime
    monotonic: float
    """The monotonic clock at `started`; both processes read the same clock."""
    frozen: FrozenSource | None = None
    """`None` if the experiment is described, not trained."""
    resumes: bool = False
    """Whether this attempt resumes the run."""
    allowed: list[str] = []
    """The kinds of ingredients that may differ from those of earlier attempts."""
    passed: list[int] = []
    """The numbers of attempts from other machines that the user does not trust: their files are not used."""

    def variables(self) -> dict[str, str]:
        """Return the environment variable that the training process reads."""
        # code of an older source rejects keys that it does not define
        return {VARIABLE: self.model_dump_json(exclude_defaults=True)}


def read_launch(environ: Mapping[str, str]) -> Launch:
    """Read the launcher's message. Raise `UsageError` if the launcher did not start this process."""
    if VARIABLE not in environ:
        raise UsageError(
            f"{VARIABLE} is not set: this process was not started by `reprise train`", hint="reprise train --exp NAME"
        )
    return parse_json(environ[VARIABLE], Launch, where=VARIABLE)
