"""The record of a run, format `reprise.run/1`.

*Ingredients* determine the result and never change once the run is open. *Circumstances* describe how and where the run was executed.
The *outcome* is its result. The identity is the digest of the format and the ingredients only. docs/reference/record.md describes the
format; docs/record.schema.json is its JSON Schema.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field, FiniteFloat, JsonValue

from trainer.base.digest import Digest, canonical, digest_of_document
from trainer.base.document import Count, Document, OneLine, Seconds, json_value, typed
from trainer.base.errors import DocumentError
from trainer.base.file_entry import File
from trainer.runs.run_id import RUN_ID
from trainer.settings.ledger_entry import LedgerEntry
from trainer.source.description import Source

FORMAT: Final = "reprise.run/1"
MOST_ATTEMPTS: Final = 9_999
"""The maximum number of attempts of a run: a store is probed for one attempt after another."""


class RunStatus(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PREEMPTED = "preempted"


class Knowledge(StrEnum):
    """How well the image's identity is known."""

    VERIFIED = "verified"
    """A launcher on the host inspected the started container, whose build ID equals the baked build ID."""
    ASSERTED = "asserted"
    """Environment variables state the identity, and their build ID equals the baked build ID."""
    UNKNOWN = "unknown"
    """No identity was passed, or it disagrees with the baked build ID."""


# --- ingredients


WEIGHTS_ROLE: Final = "weights"
"""The role of a dataset whose tensors replace the initial weights."""


class DatasetIngredient(Document):
    """A dataset, identified by its contents: repacking or republishing the same files does not change it."""

    version: Count
    content: Digest
    roles: list[OneLine] = Field(default=[], exclude_if=lambda roles: not roles)
    """What the dataset is used for: `train`, `val`, `test`, `weights`; absent if it is the only dataset, used for everything."""


class Determinism(Document):
    """The settings that make results repeatable."""

    level: Literal["off", "machine", "portable"]
    threads: Annotated[Count, Field(ge=1)]
    capabilities: dict[str, str] = {}
    """Variables set by the level that limit the CPU instructions that libraries use."""


class Device(Document):
    """The kind of device and how work is distributed."""

    accelerator: Literal["cpu", "cuda"]
    world_size: Annotated[Count, Field(ge=1)] | None = Field(default=None, exclude_if=lambda size: size is None)
    """The number of processes; `None` if a batch has several shards and `fsdp` is not used, since it then does not affect the result."""
    parallelism: Literal["fsdp"] | None = Field(default=None, exclude_if=lambda name: name is None)
    """`fsdp` if each process had a part of the parameters; absent if each process had all parameters."""
    shards: Annotated[Count, Field(ge=2)] | None = Field(default=None, exclude_if=lambda count: count is None)
    """The parts of a batch whose gradients are summed; absent if a batch is computed as a whole, and in older records."""
    sum: Literal["tree/1"] | None = Field(default=None, exclude_if=lambda order: order is None)
    """The order in which the gradients of the shards are summed."""
    precision: str | None
    """`None` for a script, which sets its own precision."""
    workers: Count | None = None
    """The number of data loader workers: an ingredient at determinism `off` only, since at other levels it does not affect the result."""

    @property
    def title(self) -> str:
        """The kind of device with the number of processes or shards, such as `2 x cuda` or `cpu, 4 shards`."""
        if self.shards and not self.parallelism:
            return f"{self.accelerator}, {self.shards} shards"
        return f"{self.world_size} x {self.accelerator}{f', {self.parallelism}' if self.parallelism else ''}"


class Ingredients(Document):
    """Everything that determines a run."""

    experiment: OneLine
    kind: Literal["script"] | None = Field(default=None, exclude_if=lambda kind: kind is None)
    """`script` if the run executed a script, which has its own training loop."""
    settings: dict[str, JsonValue]
    """The values of the settings that affect the result."""
    source: Digest
    lock: Digest | None
    """The digest of the whole lock; `None` if there was no lock."""
    requirements: Digest | None = Field(default=None, exclude_if=lambda digest: digest is None)
    """The digest of the locked packages of the image's environment; `None` if unknown, or in a record older than this field."""
    layers: list[Digest] | None
    """The diff IDs of the environment's layers; `None` if unknown."""
    datasets: dict[str, DatasetIngredient]
    initial_weights: Digest | None = Field(default=None, exclude_if=lambda digest: digest is None)
    """The digest of the parent run's `weights.safetensors`, which replaced the initial weights; absent if there is no parent run."""
    determinism: Determinism
    device: Device


# --- circumstances


class Image(Document):
    """The image, and how well its identity is known."""

    known: Knowledge
    environment: str | None = None
    reference: str | None = None
    manifest: Digest | None = None
    config: Digest | None = None
    build_id: Digest | None = None
    """The build ID baked into the running image."""
    handed_build_id: Digest | None = None
    """The build ID that the launcher passed; differs from `build_id` if another image runs."""
    reason: str | None = None
    """Why the identity is not verified."""


class Distribution(Document):
    """An installed Python distribution."""

    version: str
    record: Digest | None = None
    """The digest of the RECORD file, which lists the digests of the installed files."""


class Inventory(Document):
    """The software installed and loaded in the running process."""

    python: str
    distributions: dict[str, Distribution] = {}
    system: dict[str, str] = {}
    """System packages and their versions."""
    libraries: dict[str, Count] = {}
    """Shared libraries mapped into the process, with their size in bytes."""
    roots: list[str] = []
    """The folders from which modules are imported, in search order."""


class Gpu(Document):
    """A GPU, as NVML reports it."""

    name: OneLine
    uuid: OneLine
    memory: Count
    """Bytes."""
    multiprocessors: Count | None = None
    capability: str | None = None
    """Compute capability, for example `9.0`."""


class Host(Document):
    """The machine."""

    name: OneLine
    system: OneLine
    kernel: OneLine
    cpu: OneLine
    cpu_flags: Digest | None = None
    cores: Count
    """Cores that the process may use."""
    memory: Count
    """Bytes."""
    gpus: list[Gpu] = []
    driver: str | None = None
    cuda_driver: str | None = None


class Imported(Document):
    """The files of the source that the process had imported when the attempt was closed."""

    digest: Digest
    """The digest of their paths and contents: equal if and only if two runs imported equal code."""
    files: list[str]


class ParentRun(Document):
    """The run whose weights are the initial weights of another run. Only the digest of the weights is an ingredient."""

    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(ge=1, le=MOST_ATTEMPTS)
    identity: Digest


class Node(Document):
    """Another machine of a run that used several machines."""

    host: Host
    image: Image
    devices: Annotated[Count, Field(ge=1)]
    drift: list[str] = []


class Timing(Document):
    """The start by the wall clock, and durations in seconds by a monotonic clock."""

    started: AwareDatetime
    seconds: Seconds | None = None
    stages: dict[str, Seconds] = {}
    """Seconds spent in each stage: identify, fetch, train, close."""


class Circumstances(Document):
    """How and where a run was executed, which must not affect the result."""

    command: list[str]
    source: Source
    image: Image
    host: Host
    nodes: list[Node] = Field(default=[], exclude_if=lambda nodes: not nodes)
    """The other machines of a run that used several; `host` is the machine that wrote the record."""
    inventory: Inventory
    drift: list[str] = []
    """Differences of the process from the image's inventory and the lock, and of its files from the installed files, one per line."""
    drift_at_end: list[str] | None = Field(default=None, exclude_if=lambda lines: lines is None)
    """Differences of the same kind when the attempt was closed; `None` if not checked."""
    determinism_at_end: list[str] | None = Field(default=None, exclude_if=lambda lines: lines is None)
    """Torch's global flags, threads and variables that left the determinism level during training, one per line; `None` if not checked."""
    imported: Imported | None = Field(default=None, exclude_if=lambda code: code is None)
    """The files of the source that were imported; `None` if not checked. The ingredient is the whole source."""
    retest_of: str | None = Field(default=None, pattern=rf"^{RUN_ID.pattern}$", exclude_if=lambda run: run is None)
    """The original run, if this run is a rerun that was started to retest it."""
    parent: ParentRun | None = Field(default=None, exclude_if=lambda run: run is None)
    """The run from which `initial_weights` were taken. It is not an ingredient: a rerun of it with equal weights is equivalent."""
    purpose: str | None = Field(default=None, pattern=r"^[a-z]{1,20}$", exclude_if=lambda name: name is None)
    """The command that started this run for its own purpose, for example `certify` or `noise`; absent for a user's run and for a retest."""
    notebook: str | None = Field(default=None, exclude_if=lambda path: path is None)
    """The file in the source with the executed cells of the notebook that started the run; absent if no notebook did."""
    limits: dict[str, str] = Field(default={}, exclude_if=lambda found: not found)
    """Guarantees that the run lacks, with the reason: `order`, `export` of a LightningModule, `network` of a script, `logs of NAME`."""
    changed: list[str] = Field(default=[], exclude_if=lambda lines: not lines)
    """Differences of a resumed attempt from the ingredients, one per line. The user allowed them by name."""
    origins: dict[str, str]
    """The origin of each setting's value."""
    settings_files: dict[str, str] = Field(default={}, exclude_if=lambda files: not files)
    """The settings file of each value with the origin `file`: its path in the source, or on the machine."""
    execution: dict[str, JsonValue] = {}
    """The values of the settings that do not affect the result."""
    manifests: dict[str, Digest] = {}
    """The digest of the manifest from which each dataset was fetched."""
    variables: dict[str, str] = {}
    """Environment variables that the determinism level set for libraries."""
    timing: Timing

    def origin_of(self, name: str) -> str:
        """Return the origin of a setting's value, with its settings file; empty if it is not recorded."""
        return " ".join(filter(None, (self.origins.get(name, ""), self.settings_files.get(name, ""))))


# --- outcome


class EvaluatedWeights(Document):
    """The weights that the test evaluated: of the last checkpoint, or of the best by `monitor`."""

    epoch: Count
    """Epochs that had started: 1 during the first epoch, 0 before it."""
    step: Count
    """Optimizer steps taken until then."""


class LoadedWeights(Document):
    """How the tensors of `init_from` match the net. Names are those of the net; names in `unexpected` are those of the file, renamed."""

    loaded: Count
    """The number of tensors that were loaded."""
    missing: list[str] = []
    """Tensors of the net that kept their initial values, because the file has no tensor of that name."""
    unexpected: list[str] = []
    """Tensors of the file that the net does not have."""
    reshaped: list[str] = []
    """Tensors of the net that kept their initial values, because the tensor of that name in the file has another shape."""


class Outcome(Document):
    """The result of a run."""

    status: RunStatus
    reason: str | None = None
    """Why the run did not complete."""
    metrics: dict[str, JsonValue] = {}
    """Result metrics at full precision; non-finite values are strings."""
    undefined: dict[str, str] = Field(default={}, exclude_if=lambda found: not found)
    """Why a result metric is NaN, by metric: it is undefined on these samples, or the net returned NaN."""
    telemetry: dict[str, JsonValue] = {}
    """Measurements that are not results, such as throughput."""
    steps: Count | None = None
    """Optimizer steps taken."""
    evaluated: EvaluatedWeights | None = Field(default=None, exclude_if=lambda found: found is None)
    """The weights that the test evaluated; `None` if there was no test or an earlier version did not record it."""
    loaded_weights: LoadedWeights | None = Field(default=None, exclude_if=lambda found: found is None)
    """Which tensors of `init_from` were loaded; `None` if the net began with its own initial weights, or from a checkpoint."""
    ledger: dict[str, LedgerEntry] = {}
    unread: list[str] = []
    """Settings that were bound and never read, and settings of the experiment that were never used."""
    tolerances: dict[str, Annotated[FiniteFloat, Field(ge=0)]] = Field(default={}, exclude_if=lambda found: not found)
    """The largest difference of each result metric that the experiment declares to be tolerable."""
    weights: Digest | None = None
    """The digest of the weights in `tensors.json`: equal if and only if the final weights are bit-identical."""
    outputs: Digest | None = Field(default=None, exclude_if=lambda digest: digest is None)
    """The digest of a script's outputs in `outputs.json`: equal if and only if the outputs that are compared have equal contents."""
    files: list[File] = []
    certificates: list[str] = []


class Record(Document):
    """The record of one attempt of a run."""

    format: Literal["reprise.run/1"] = FORMAT
    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(default=1, ge=1, le=MOST_ATTEMPTS)
    identity: Digest
    ingredients: Ingredients
    circumstances: Circumstances
    outcome: Outcome

    @property
    def promise(self) -> str:
        """The determinism level that the run kept: `off` if it left the requested level."""
        return "off" if self.circumstances.determinism_at_end else self.ingredients.determinism.level

    def to_json(self) -> bytes:
        """Return the canonical JSON; `read_record` reads it as an equal record."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def identity_of(ingredients: Ingredients) -> str:
    """Return the identity: the digest of the format and the ingredients."""
    return digest_of_document({"format": FORMAT, "ingredients": ingredients.model_dump(mode="json")})


class _Versioned(BaseModel):
    format: str


def read_record(text: str | bytes, *, where: str) -> Record:
    """Parse a record written by any released version. Raise `DocumentError`, which names `where` and the fault."""
    return typed_record(json_value(text, where=where), where=where)


def typed_record(content: object, *, where: str) -> Record:
    """Validate a parsed record written by any released version. Raise `DocumentError`."""
    version = typed(content, _Versioned, where=where).format
    if version != FORMAT:
        message = f"{where} has the format {version!r}; this version of Reprise reads {FORMAT!r}"
        raise DocumentError(message, hint="use the version of Reprise that wrote it, or a newer one")
    return typed(content, Record, where=where)


def record_schema() -> str:
    """Return the JSON Schema of a record, as committed in docs/record.schema.json."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"A run's record, {FORMAT}"}
    return json.dumps(Record.model_json_schema() | head, indent=1, sort_keys=True) + "\n"
