"""The plan of a job on a cluster: the command that every machine runs, the image, and the number of machines.

The job trains a run, reruns a recorded run, certifies a run, or, as an array job, trains the points of a sweep.
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
    """The point's number from 1, as the user sees it, which is also the task's number."""
    run: str
    """The run's ID, which stays the same when the point is submitted again, unless the run cannot be resumed."""
    words: Sequence[str]
    """The command-line options of the point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run, or the points of a sweep, to submit. The module for a site's kind writes the plan as the text of a job."""

    run: str
    """The run's ID, created at submission; with `points`, the sweep's ID."""
    image: str
    """The image by digest: `NAME@sha256:...`."""
    variables: Mapping[str, str]
    """Variables of the containers, such as REPRISE_IMAGE and REPRISE_STORE; never the value of a secret."""
    secrets: Sequence[str]
    """Names of variables whose values the site supplies, such as AWS_ACCESS_KEY_ID."""
    words: Sequence[str]
    """The arguments of `reprise` on every machine, which are the same at each start of the job."""
    nodes: int
    devices: int
    """The devices of all machines."""
    source: str
    """The digest of the source bundle."""
    points: Sequence[PlannedPoint] = ()
    """The points of a sweep; the words of a point follow `words`."""
    parallel: int | None = None
    """The maximum number of points that run at the same time; `None` leaves the number to the scheduler."""

    @property
    def is_rerun(self) -> bool:
        """Whether the job reruns a recorded run. Then the project, which compares the results, is not the run's source."""
        return self.words[0] == "reproduce"

    @property
    def is_certificate(self) -> bool:
        """Whether the job certifies: it starts several runs, of which the plan's run is the first, and cannot be continued."""
        return self.words[0] == "certify"

    @property
    def name(self) -> str:
        """The name of the job."""
        return f"reprise-{self.run}"

    def to_json(self) -> str:
        """Return the plan as a JSON document, without `points` and `parallel` if they are not set."""
        given = {name: value for name, value in asdict(self).items() if value or name not in {"points", "parallel"}}
        return f"{json.dumps({'format': FORMAT, **given}, indent=1)}\n"
