"""A retest: the time, host and image of a rerun, and the verdict. Format `reprise.retest/1`.

A retest of a run's training is written once, under the ID of its new run, into the original run's folder and into the store that
contains the original run. It is not signed: whether to trust it depends on its author. `trainer.models.weights_retest` handles retests of
saved weights.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from trainer.base.digest import Digest
from trainer.base.document import Document
from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError
from trainer.comparison.saved_document import SavedDocument, read_files, save_files
from trainer.runs.record import Knowledge
from trainer.runs.run_id import RUN_ID
from trainer.stores.contract import object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trainer.runs.record import Record
    from trainer.stores.contract import Store

FORMAT: Final = "reprise.retest/1"
FOLDER: Final = "retests"
_NAME: Final = re.compile(rf"({RUN_ID.pattern})\.json")
_LARGEST: Final = 1 << 20
"""The maximum size of a retest in bytes."""
_UNUSED: Final = "the file was altered: delete it, or ask its author for a new copy"
CONFIRMING: Final = frozenset({"identical", "within tolerance", "within noise"})


class RunIdentity(Document):
    """A run, by its ID and the identity of its ingredients."""

    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(ge=1)
    identity: Digest


class Retest(SavedDocument):
    """A retest of a run: of its training, or of its saved weights without training."""

    format: Literal["reprise.retest/1"] = FORMAT
    original: RunIdentity
    retest: RunIdentity
    """The new run; the original run itself, if its saved weights were tested."""
    tested: Literal["training", "weights", "package"] = Field(
        default="training", exclude_if=lambda value: value == "training"
    )
    """What was repeated: the training, or the test of the run's saved weights or of its package."""
    package: Digest | None = Field(default=None, exclude_if=lambda value: value is None)
    """The digest of the package that was tested."""
    when: datetime
    who: str
    host: str
    device: str
    """The class of device: the model of the CPU, or the numbers and models of the GPUs."""
    how: Literal["container", "here"]
    """`container`: in a container of the recorded image; `here`: in the environment of the command."""
    image: Knowledge
    """How well the identity of the retest's image is known."""
    not_equal: list[str] = []
    """One line per difference from the original's ingredients. A verdict that confirms the result despite differences is stronger."""
    drift: list[str] = []
    hashed: int | None = None
    """The number of installed files that were hashed before the run and found correct; `None` if no file was hashed."""
    verdict: str
    evidence: Digest
    """The digest of the comparison document."""

    def check(self, where: str) -> None:
        """Raise `DocumentError` if the retest contradicts itself."""
        if (self.tested == "package") != (self.package is not None):
            raise DocumentError(f"{where} is a retest of {self.tested} with the package {self.package}", hint=_UNUSED)
        if self.tested != "training" and self.retest != self.original:
            raise DocumentError(f"{where} is a retest of saved weights, but names another run", hint=_UNUSED)

    @property
    def confirms(self) -> bool:
        """Whether the verdict confirms the original's result."""
        return self.verdict in CONFIRMING


def run_identity(record: Record) -> RunIdentity:
    """Return the identity of a record's run."""
    return RunIdentity(run=record.run, attempt=record.attempt, identity=record.identity)


def read_retest(text: bytes, where: str, *, run: str) -> Retest:
    """Parse a retest of the training of `run`. Raise `DocumentError` if it is invalid or of another run."""
    retest = Retest.read(text, where)
    if retest.original.run != run:
        raise DocumentError(f"{where} is a retest of {retest.original.run}; expected {run}", hint=_UNUSED)
    if retest.tested != "training":
        raise DocumentError(
            f"{where} is a retest of saved weights; expected a retest of a run's training", hint=_UNUSED
        )
    return retest


def save_retest(folder: Path, retest: Retest, *, evidence: bytes) -> Path:
    """Write a retest's evidence, then the retest, into the run's `folder`; return the path of the retest."""
    name = retest.retest.run
    return save_files(folder, FOLDER, {f"{name}.evidence.json": evidence, f"{name}.json": retest.to_json()})


def local_retests(folder: Path) -> list[Retest]:
    """Return the retests in the folder of a run; unreadable retests are skipped."""
    read = partial(read_retest, run=folder.name)
    return read_files(folder, FOLDER, read, most=_LARGEST, names=_NAME, on_fault=lambda *_: None)


def publish_retest(retest: Retest, store: Store, *, evidence: bytes) -> None:
    """Write a retest into the store that contains its run. Raise `DigestMismatchError` if the store has another retest of this name."""
    store.write(object_key(retest.evidence), evidence, sha256=retest.evidence)
    key = f"runs/{retest.original.run}/{FOLDER}/{retest.retest.run}.json"
    if not store.create(key, retest.to_json()) and read_small(store, key, largest=_LARGEST) != retest.to_json():
        raise DigestMismatchError(
            f"{key} is in {store.label} with different content",
            hint="a rerun did not write it: ask its author, then reproduce the run again",
        )


def push_retests(run: str, *, source: Store, target: Store) -> None:
    """Copy the readable retests of a run from one store to another. Raise `StoreError`."""
    for retest in published_retests(run, source):
        publish_retest(retest, target, evidence=read_small(source, object_key(retest.evidence)))


def published_retests(run: str, store: Store) -> list[Retest]:
    """List the readable retests of a run in a store. The list is for display only, since a listing may be incomplete."""
    retests, folder = [], f"runs/{run}/{FOLDER}/"
    for key in store.keys(folder):
        with suppress(RepriseError):
            if _NAME.fullmatch(key.removeprefix(folder)):
                retests.append(read_retest(read_small(store, key, largest=_LARGEST), key, run=run))
    return retests


def device_class(record: Record) -> str:
    """Return the class of device of a run: the model of the CPU, or the numbers and models of the GPUs."""
    host = record.circumstances.host
    if record.ingredients.device.accelerator == "cpu":
        return host.cpu
    counts = Counter(gpu.name for gpu in host.gpus)
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items())) or "a GPU of unknown kind"


def summarize_retests(retests: Iterable[Retest]) -> list[str]:
    """Return one line per class of device and verdict, with the number of retests and the date of the latest.

    >>> summarize_retests([])
    []
    """
    groups: defaultdict[tuple[str, str], list[Retest]] = defaultdict(list)
    for retest in retests:
        groups[retest.device, retest.verdict].append(retest)
    return [
        f"{verdict}: {len(group)} on {device}, last {max(each.when for each in group):%Y-%m-%d}"
        for (device, verdict), group in sorted(groups.items(), key=lambda item: item[0])
    ]
