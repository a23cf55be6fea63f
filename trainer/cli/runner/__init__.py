"""Where a record is run again: a container of its own image, started from the host, or the process that is there.

Knows what both are asked. Refuses to choose an image: a record's own, or, where the user accepts it, the one that is there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol

from trainer.base.errors import DriftError, ImageMismatchError
from trainer.comparison.rerun import image_name
from trainer.runs.image_claim import BAKED, claim
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.comparison.examine_run import Machine
    from trainer.comparison.reproduce import Prepared
    from trainer.data.declaration import Dataset
    from trainer.runs.record import Record


class Runner(Protocol):
    """What runs a record again."""

    how: Literal["container", "here"]
    is_isolated: bool
    """Whether the recorded code can reach nothing but its own run's folder, and what the user granted by name."""
    isolation: str
    """What the recorded code can reach, in a few words."""

    def machine(self) -> Machine:
        """What is here."""
        ...

    def not_equal(self, record: Record) -> list[str]:
        """What is not as it was when the record was made, a line each."""
        ...

    def altered(self, record: Record) -> tuple[int, list[str]]:
        """How many installed files have the digest that their distribution says, and a line for each that has others."""
        ...

    def lend(self, datasets: Sequence[Dataset], ready: Prepared) -> None:
        """Fetch datasets, by our code, and lay them out for the run."""
        ...

    def run(self, ready: Prepared) -> tuple[int, Knowledge]:
        """Run it; return its exit status, and how its image is known."""
        ...

    def kill(self, ready: Prepared) -> None:
        """End it at once, from another thread than the one that runs it."""
        ...


def runner(record: Record, *, here: bool, granted: frozenset[str] = frozenset()) -> Runner:
    """What runs this record, with what the user granted. Raises `ImageMismatchError` in a container of another image, with what to type."""
    if here or BAKED.exists():
        from trainer.cli.runner.here import Here, drift_here

        if not here:
            check_image(record)
            check_drift(drift_here())
        return Here(recorded=not here)
    from trainer.cli.runner.on_host import OnHost

    return OnHost(granted)


def is_recorded(record: Record, environ: Mapping[str, str], *, baked: Path = BAKED) -> bool:
    """Whether this process runs in the recorded image, as far as that was handed in and the image itself agrees.

    A person who types REPRISE_IMAGE hands in that digest alone: the build id baked in the image must then be the recorded one.
    """
    name, mine = image_name(record), claim(environ, baked=baked)
    if mine.image.known is not Knowledge.UNKNOWN:
        return mine.layers == name.layers
    build_id = mine.image.build_id
    handed = environ.get("REPRISE_IMAGE", "").rpartition("@")[2]
    return build_id is not None and build_id == record.circumstances.image.build_id and handed == name.manifest


def check_image(record: Record) -> None:
    """Refuse to go on in a container that is not of the recorded image."""
    if is_recorded(record, os.environ):
        return
    name = image_name(record)
    shown = os.environ.get("REPRISE_IMAGE") or "an image that nobody named"
    wanted = name.reference or name.manifest or name.config
    said = f"run {record.run} ran in {wanted}; this is {shown}"
    line = f"REPRISE_IMAGE={wanted} docker compose run --rm train reproduce {record.run}"
    raise ImageMismatchError(said, hint=f"type on the host: scripts/reprise reproduce {record.run}; or: {line}")


def check_drift(lines: list[str]) -> None:
    """Refuse a process that is not what its image was built with. Raises `DriftError`, naming what was found first."""
    if lines:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        said = f"this process is not what its image was built with: {lines[0]}{more}"
        raise DriftError(said, hint="start a new container, or --no-container, which says what is not equal")
