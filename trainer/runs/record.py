"""The record: one document that says what a run was made of, what happened around it, and what came out.

Knows the format `reprise.run/1` and what a run's identity is. Refuses to know how any value is found out or where it is kept.

*Ingredients* determine a run and never change once it is open; *circumstances* happened around it; the *outcome* is what it gave.
The identity is the digest of the format and the ingredients and of nothing else: not where a value came from, not a commit's name,
not how an image is known. docs/reference/record.md tells the format to people, docs/record.schema.json to programs.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field, FiniteFloat, JsonValue

from trainer.base.digest import Digest, canonical, digest_of_document
from trainer.base.document import Count, Document, OneLine, Seconds, json_value, typed
from trainer.base.errors import DocumentError
from trainer.base.file_entry import File
from trainer.settings.ledger_entry import LedgerEntry
from trainer.source.description import Source

FORMAT: Final = "reprise.run/1"
RUN_ID: Final = re.compile(r"[0-9]{8}t[0-9]{6}-[a-z2-7]{6}")
MOST_ATTEMPTS: Final = 9_999
"""Of a run: they are looked for one by one."""
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"


class Status(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PREEMPTED = "preempted"


class Knowledge(StrEnum):
    """How the image's identity is known: the record never says more."""

    VERIFIED = "verified"
    """A launcher on the host inspected the started container, and the baked build id agrees."""
    ASSERTED = "asserted"
    """It was handed in, and the baked build id agrees."""
    UNKNOWN = "unknown"
    """Nothing was handed in, or it does not agree."""


# --- ingredients


class DatasetIngredient(Document):
    """A dataset by what it contains: repacking or republishing the same files changes nothing here."""

    version: Count
    content: Digest


class Determinism(Document):
    """What holds the bits still."""

    level: Literal["off", "machine", "portable"]
    threads: Annotated[Count, Field(ge=1)]
    capabilities: dict[str, str] = {}
    """Variables that cap which instructions libraries may use, where the level sets them."""


class Device(Document):
    """The kind of device and how the work is spread."""

    accelerator: Literal["cpu", "cuda"]
    world_size: Annotated[Count, Field(ge=1)]
    precision: str
    workers: Count | None = None
    """Loader workers: an ingredient at determinism `off` only; elsewhere they do not bear on the result."""


class Ingredients(Document):
    """Everything that determines a run."""

    experiment: OneLine
    settings: dict[str, JsonValue]
    """The values of the settings that bear on the result."""
    source: Digest
    lock: Digest | None
    """The whole lock; `None`: no lock was there to name."""
    requirements: Digest | None = Field(default=None, exclude_if=lambda digest: digest is None)
    """What the lock gives to the environment of the image; `None`: not known, or the record is older than this field."""
    layers: list[Digest] | None
    """The diff IDs of the environment's layers; `None`: not known."""
    datasets: dict[str, DatasetIngredient]
    determinism: Determinism
    device: Device


# --- circumstances


class Image(Document):
    """The image, and how much of this is known."""

    known: Knowledge
    environment: str | None = None
    reference: str | None = None
    manifest: Digest | None = None
    config: Digest | None = None
    build_id: Digest | None = None
    """The build id baked in the image that runs."""
    handed_build_id: Digest | None = None
    """The build id handed in; differs from `build_id` where the image is not the one that was said."""
    reason: str | None = None
    """Why it is not known better."""


class Distribution(Document):
    """An installed Python distribution."""

    version: str
    record: Digest | None = None
    """The digest of its RECORD file, which names every file by digest."""


class Inventory(Document):
    """What is really installed and loaded in a live process."""

    python: str
    distributions: dict[str, Distribution] = {}
    system: dict[str, str] = {}
    """System packages and their versions."""
    libraries: dict[str, Count] = {}
    """Shared libraries mapped into the process, with their size in bytes."""
    roots: list[str] = []
    """Where modules are imported from, in order."""


class Gpu(Document):
    """One GPU, by NVML."""

    name: OneLine
    uuid: OneLine
    memory: Count
    """Bytes."""
    multiprocessors: Count | None = None
    capability: str | None = None
    """Compute capability, as `9.0`."""


class Host(Document):
    """The machine."""

    name: OneLine
    system: OneLine
    kernel: OneLine
    cpu: OneLine
    cpu_flags: Digest | None = None
    cores: Count
    """Cores this process may use."""
    memory: Count
    """Bytes."""
    gpus: list[Gpu] = []
    driver: str | None = None
    cuda_driver: str | None = None


class Imported(Document):
    """The files of the source that the process had imported when the attempt was closed."""

    digest: Digest
    """Of their paths and contents: equal if and only if two runs imported equal code."""
    files: list[str]


class Timing(Document):
    """When, by the wall clock; how long, by a monotonic one, in seconds."""

    started: AwareDatetime
    seconds: Seconds | None = None
    stages: dict[str, Seconds] = {}
    """Seconds spent in each stage: identify, fetch, train, close."""


class Circumstances(Document):
    """What happened around a run and must not bear on its result."""

    command: list[str]
    source: Source
    image: Image
    host: Host
    inventory: Inventory
    drift: list[str] = []
    """How the live process differs from the image's baked inventory and the lock, and its files from what was installed, a line each."""
    drift_at_end: list[str] | None = Field(default=None, exclude_if=lambda lines: lines is None)
    """The same once more when the attempt was closed; `None`: it was not looked at."""
    determinism_at_end: list[str] | None = Field(default=None, exclude_if=lambda lines: lines is None)
    """How torch's switches, threads and the level's variables left the level during the training, a line each; `None`: not looked at."""
    imported: Imported | None = Field(default=None, exclude_if=lambda code: code is None)
    """The part of the source that ran, as far as imports tell; `None`: not looked at. The whole source is the evidence."""
    retest_of: str | None = Field(default=None, pattern=rf"^{RUN_ID.pattern}$", exclude_if=lambda run: run is None)
    """The run that this one repeats, where `reprise reproduce` made it."""
    purpose: str | None = Field(default=None, pattern=r"^[a-z]{1,20}$", exclude_if=lambda name: name is None)
    """The command that made this run for itself, as `certify` or `noise`; absent: the run is a user's own, or a retest."""
    changed: list[str] = Field(default=[], exclude_if=lambda lines: not lines)
    """What a resumed attempt has otherwise than the ingredients say, a line each: it was allowed by name, and the result is not theirs."""
    origins: dict[str, str]
    """Where each setting's value came from."""
    execution: dict[str, JsonValue] = {}
    """The values of the settings that do not bear on the result."""
    manifests: dict[str, Digest] = {}
    """The manifest by which each dataset was fetched."""
    variables: dict[str, str] = {}
    """Environment variables that libraries read and that this level of determinism set."""
    timing: Timing


# --- outcome


class EvaluatedWeights(Document):
    """The weights that the test measured: those of the last checkpoint, or of the best by `monitor`."""

    epoch: Count
    """Epochs that had begun, the first being 1; 0 before any."""
    step: Count
    """Optimizer steps that had been made."""


class Outcome(Document):
    """The result of a run."""

    status: Status
    reason: str | None = None
    """Why, where the run did not complete."""
    metrics: dict[str, JsonValue] = {}
    """Result metrics at full precision; non-finite values as strings."""
    undefined: dict[str, str] = Field(default={}, exclude_if=lambda found: not found)
    """Why a result metric is NaN, by its name: no net has that metric on these samples, or this net gave NaN."""
    telemetry: dict[str, JsonValue] = {}
    """Throughput and the like: measured, not a result."""
    steps: Count | None = None
    """Optimizer steps taken."""
    evaluated: EvaluatedWeights | None = Field(default=None, exclude_if=lambda found: found is None)
    """Which weights the test measured; `None`: there was no test, or an earlier version recorded none."""
    ledger: dict[str, LedgerEntry] = {}
    unread: list[str] = []
    """Settings that were bound and never read, and those of the experiment's own that nothing used."""
    tolerances: dict[str, Annotated[FiniteFloat, Field(ge=0)]] = Field(default={}, exclude_if=lambda found: not found)
    """The largest difference of a result metric that the experiment declares to be none."""
    weights: Digest | None = None
    """The digest of `tensors.json`'s weights: equal exactly where the final weights are, bit for bit."""
    files: list[File] = []
    certificates: list[str] = []


class Record(Document):
    """The whole document."""

    format: Literal["reprise.run/1"] = FORMAT
    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(default=1, ge=1, le=MOST_ATTEMPTS)
    identity: Digest
    ingredients: Ingredients
    circumstances: Circumstances
    outcome: Outcome

    @property
    def promise(self) -> str:
        """The level of determinism that the run kept: `off` if it was seen to leave the one that was asked for."""
        return "off" if self.circumstances.determinism_at_end else self.ingredients.determinism.level

    def to_json(self) -> bytes:
        """Write the record; `read_record` gives back an equal one."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def identity_of(ingredients: Ingredients) -> str:
    """The digest by which two runs are the same run."""
    return digest_of_document({"format": FORMAT, "ingredients": ingredients.model_dump(mode="json")})


class _Versioned(BaseModel):
    format: str


def read_record(text: str | bytes, *, where: str) -> Record:
    """Read a record of any version released so far. Raises `DocumentError`, naming `where` and the fault."""
    return typed_record(json_value(text, where=where), where=where)


def typed_record(content: object, *, where: str) -> Record:
    """Make a document of any version released so far a record. Raises `DocumentError`."""
    written = typed(content, _Versioned, where=where).format
    if written != FORMAT:
        said = f"{where} is written in the format {written!r}; this version of Reprise reads {FORMAT!r}"
        raise DocumentError(said, hint="use the version of Reprise that wrote it, or a newer one")
    return typed(content, Record, where=where)


def new_run_id(now: datetime | None = None) -> str:
    """A new id: UTC time to the second and six random characters.

    >>> new_run_id(datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC))[:16]
    '20260301t120005-'
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dt%H%M%S}-{''.join(secrets.choice(_BASE32) for _ in range(6))}"


def is_run_id(text: str) -> bool:
    """Tell whether `text` has the form of a run id."""
    return RUN_ID.fullmatch(text) is not None
