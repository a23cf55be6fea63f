"""The plan of a job on a cluster: the words that every machine types, in which image, on how many machines.

The job trains a run, reruns a recorded run, certifies a training, or, as an array job, trains the points of a sweep.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = "reprise.plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPoint:
    """A point of a sweep: one task of an array job."""

    number: int
    """From 1, as the user sees it: the task's number."""
    run: str
    """The run's ID, the same each time the point is submitted until it cannot be resumed."""
    words: Sequence[str]
    """The options of the point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run, or the points of a sweep, to submit; a printer of a site's kind writes it as the text of a job."""

    run: str
    """The run's ID, made at submission; with `points` the sweep's."""
    image: str
    """The image by digest: `NAME@sha256:...`."""
    variables: Mapping[str, str]
    """Variables of the containers, such as REPRISE_IMAGE and REPRISE_STORE; never the value of a secret."""
    secrets: Sequence[str]
    """Names of variables whose values the site supplies, such as AWS_ACCESS_KEY_ID."""
    words: Sequence[str]
    """What every machine types after `reprise`, the same each time the job starts."""
    nodes: int
    devices: int
    """The devices of all machines."""
    source: str
    """The digest of the source bundle."""
    points: Sequence[PlannedPoint] = ()
    """The points of a sweep, whose own words follow `words`."""
    parallel: int | None = None
    """The most points at the same time; `None` leaves it to the scheduler."""

    @property
    def is_rerun(self) -> bool:
        """Whether the job reruns a recorded run: the project, which compares, then is not the run's source."""
        return self.words[0] == "reproduce"

    @property
    def is_certificate(self) -> bool:
        """Whether the job certifies: it starts several trainings, the first of which is the run, and cannot be continued."""
        return self.words[0] == "certify"

    @property
    def name(self) -> str:
        """The name of the job."""
        return f"reprise-{self.run}"

    def to_json(self) -> str:
        """Return the plan as a JSON document."""
        given = {name: value for name, value in asdict(self).items() if value or name not in {"points", "parallel"}}
        return f"{json.dumps({'format': FORMAT, **given}, indent=1)}\n"
