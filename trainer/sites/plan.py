"""The plan of a run on a cluster: the words that every machine types, in which image, on how many machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = "reprise.plan/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run to submit; a printer of a site's kind writes it as the text of a job."""

    run: str
    """The run's ID, made at submission."""
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

    @property
    def name(self) -> str:
        """The name of the job."""
        return f"reprise-{self.run}"

    def to_json(self) -> str:
        """Return the plan as a JSON document."""
        return f"{json.dumps({'format': FORMAT, **asdict(self)}, indent=1)}\n"
