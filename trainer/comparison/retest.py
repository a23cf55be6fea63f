"""A retest: when, where and in which image a run was run again, and the verdict. Format `reprise.retest/1`.

A retest is written once, next to the original run, and never changed; retests of other machines come from the store. A retest is not
signed: whether to trust it depends on who made it.
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
    """A run, by its id and the identity of its ingredients."""

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
    """The device class: the model of the CPU, or the number and model of the GPUs."""
    how: Literal["container", "here"]
    """In a container of the recorded image, or in the current process."""
    image: Knowledge
    """How the image of the retest is known."""
    not_equal: list[str] = []
    """One line per difference from the original's ingredients; a confirming verdict is stronger with differences."""
    drift: list[str] = []
    hashed: int | None = None
    """The number of installed files that were hashed before the run, all correct; `None` if no file was hashed."""
    verdict: str
    evidence: Digest
    """The digest of the comparison document."""

    def to_json(self) -> bytes:
        """Serialize; equal retests give equal bytes."""
        return canonical(self.model_dump(mode="json")) + b"\n"

    @property
    def confirms(self) -> bool:
        """Whether the verdict confirms the original's result."""
        return self.verdict in CONFIRMING


def side(record: Record) -> Side:
    """Return a record as one side of a retest."""
    return Side(run=record.run, attempt=record.attempt, identity=record.identity)


def read_retest(text: bytes, *, run: str, where: str) -> Retest:
    """Read a retest of `run`. Raise `DocumentError`."""
    retest = parse_json(text, Retest, where=where)
    if retest.original.run != run:
        raise DocumentError(f"{where} is a retest of {retest.original.run}; expected {run}", hint="do not use it")
    return retest


def retest_key(retest: Retest) -> str:
    """Return the retest's key in a store; a retest is named after its new run."""
    return f"runs/{retest.original.run}/{FOLDER}/{retest.retest.run}.json"


def retest_of_key(key: str) -> tuple[str, str] | None:
    """Return the original and the retest that a store's key names; `None` for any other key."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2]) if found else None


def device_class(record: Record) -> str:
    """Return the kind of device a run used, as far as the device can affect bits."""
    host = record.circumstances.host
    if record.ingredients.device.accelerator == "cpu":
        return host.cpu
    counted = Counter(gpu.name for gpu in host.gpus)
    return ", ".join(f"{count} x {name}" for name, count in sorted(counted.items())) or "a GPU of unknown kind"


def summed_up(retests: Iterable[Retest]) -> list[str]:
    """Return one line per device class and verdict: the number of retests and the date of the latest.

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
