"""A retest: that a run was run again, where, in what, and what came of it.

Knows the format `reprise.retest/1` and how retests of one run add up. Refuses to compare anything: the verdict comes in as a word.

A retest is written once, beside the original, and never changed; one that was made elsewhere comes from the store. Each is somebody's
word: who trusts a confirmation reads whose it is, or makes one.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from trainer.base.digest import Digest, canonical
from trainer.base.document import Document, parse_json
from trainer.base.errors import DocumentError
from trainer.runs.record import RUN_ID, Knowledge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.runs.record import Record

FORMAT: Final = "reprise.retest/1"
FOLDER: Final = "retests"
_KEY: Final = re.compile(rf"runs/({RUN_ID.pattern})/{FOLDER}/({RUN_ID.pattern})\.json")
CONFIRMING: Final = frozenset({"identical", "within tolerance", "within noise"})


class Side(Document):
    """A run, by id and by what it was made of."""

    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(ge=1)
    identity: Digest


class Retest(Document):
    """One retest of a run."""

    format: Literal["reprise.retest/1"] = FORMAT
    original: Side
    retest: Side
    when: datetime
    who: str
    host: str
    device: str
    """The device class: the CPU's model, or how many of which GPU."""
    how: Literal["container", "here"]
    """In a container of the recorded image, or in the process that was there."""
    image: Knowledge
    """How the image of the retest is known."""
    not_equal: list[str] = []
    """What was not equal to the original's, a line each; a verdict that holds nevertheless is the stronger for it."""
    drift: list[str] = []
    hashed: int | None = None
    """How many installed files were hashed before, all of them right; `None`: none were."""
    verdict: str
    evidence: Digest
    """The digest of the comparison's document."""

    def to_json(self) -> bytes:
        """Write the retest: the same bytes each time."""
        return canonical(self.model_dump(mode="json")) + b"\n"

    @property
    def confirms(self) -> bool:
        """Whether the original's result was come to again."""
        return self.verdict in CONFIRMING


def side(record: Record) -> Side:
    """A record as one side of a retest."""
    return Side(run=record.run, attempt=record.attempt, identity=record.identity)


def read_retest(text: bytes, *, run: str, where: str) -> Retest:
    """Read a retest of `run`. Raises `DocumentError`."""
    retest = parse_json(text, Retest, where=where)
    if retest.original.run != run:
        raise DocumentError(f"{where} is a retest of {retest.original.run}; expected {run}", hint="do not use it")
    return retest


def retest_key(retest: Retest) -> str:
    """Where a store keeps it: a retest is named after the run that it made."""
    return f"runs/{retest.original.run}/{FOLDER}/{retest.retest.run}.json"


def retest_of_key(key: str) -> tuple[str, str] | None:
    """The original and the retest that a key of the store names; None for any other key."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2]) if found else None


def device_class(record: Record) -> str:
    """What kind of machine a run ran on, as far as it can bear on bits."""
    host = record.circumstances.host
    if record.ingredients.device.accelerator == "cpu":
        return host.cpu
    counted = Counter(gpu.name for gpu in host.gpus)
    return ", ".join(f"{count} x {name}" for name, count in sorted(counted.items())) or "a GPU of unknown kind"


def summed_up(retests: Iterable[Retest]) -> list[str]:
    """A line for each device class and verdict: how often, and when last.

    >>> summed_up([])
    []
    """
    groups: dict[tuple[str, str], list[Retest]] = {}
    for retest in retests:
        groups.setdefault((retest.device, retest.verdict), []).append(retest)
    return [
        f"{verdict}: {len(group)} on {device}, last {max(each.when for each in group):%Y-%m-%d}"
        for (device, verdict), group in sorted(groups.items(), key=lambda item: item[0])
    ]
