"""The documents of an attempt in a store: a claim, written first, snapshots while it runs, and a seal, written last.

Formats `reprise.claim/1`, `reprise.snapshot/1`, `reprise.sealed/1` and `reprise.published/1`. An attempt is published if and only if its
seal is in the store; the seal lists every file by digest. A snapshot lists the files from which an attempt without a seal can be resumed.

A seal or a snapshot may come from an untrusted user: its paths, its run and attempt, and the identity of its record are checked when it is
read.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, JsonValue

from trainer.base.digest import Digest, canonical, digest_of_bytes, digest_of_document
from trainer.base.document import Count, Document, OneLine, parse_json
from trainer.base.errors import DocumentError
from trainer.base.file_entry import File
from trainer.base.paths import collision, path_fault
from trainer.runs.record import MOST_ATTEMPTS, Record, RunStatus, typed_record
from trainer.runs.run_id import RUN_ID

SMALL: Final = 1 << 16
"""The maximum size in bytes of a document with few fields, such as a claim or a note of publication."""
MOST_FILES: Final = 100_000
MOST_SNAPSHOTS: Final = 1 << 20


class Claim(Document):
    """The owner of an attempt, written once when the attempt is opened. The token distinguishes processes that claim the same number."""

    format: Literal["reprise.claim/1"] = "reprise.claim/1"
    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(ge=1, le=MOST_ATTEMPTS)
    identity: Digest
    host: OneLine
    token: str = Field(pattern=r"^[0-9a-f]{32}$")

    def to_json(self) -> bytes:
        """Return the canonical bytes of the claim."""
        return canonical(self.model_dump(mode="json"))


class Contents(Document):
    """An attempt in a store: its record as it was written, and the digests of its files."""

    record: dict[str, JsonValue]
    files: list[File] = Field(max_length=MOST_FILES)
    source: File | None = None
    """The run's source bundle, `source.tar.gz`."""

    def to_json(self) -> bytes:
        """Return the canonical bytes of the document."""
        return canonical(self.model_dump(mode="json"))

    def record_text(self) -> bytes:
        """Return the bytes of `record.json`."""
        return canonical(self.record) + b"\n"

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return sum(file.size for file in self.files) + (self.source.size if self.source else 0)


class Sealed(Contents):
    """A finished attempt, with all of its files."""

    format: Literal["reprise.sealed/1"] = "reprise.sealed/1"


class Snapshot(Contents):
    """A running attempt, with its last checkpoint and its logs up to that checkpoint."""

    format: Literal["reprise.snapshot/1"] = "reprise.snapshot/1"
    number: int = Field(ge=1, le=MOST_SNAPSHOTS)
    """The number of the snapshot in its attempt: 1, 2, ..."""
    step: Count
    """The optimizer steps of the run at the checkpoint."""


class Published(Document):
    """The note of a publication, beside the local record."""

    format: Literal["reprise.published/1"] = "reprise.published/1"
    store: OneLine
    sealed: Digest
    record: Digest | None = None
    """The digest of `record.json`; absent in notes of earlier versions."""

    @classmethod
    def of(cls, sealed: Sealed, *, store: str) -> Published:
        """Return the note for an attempt published to `store`."""
        digest = digest_of_bytes(sealed.to_json())
        return cls(store=store, sealed=digest, record=digest_of_bytes(sealed.record_text()))

    def to_json(self) -> bytes:
        """Return the canonical bytes of the note."""
        return canonical(self.model_dump(mode="json", exclude_none=True)) + b"\n"


def claim_key(run: str, attempt: int) -> str:
    """Return the store's key of an attempt's claim."""
    return f"runs/{run}/attempts/{attempt}/claim.json"


def sealed_key(run: str, attempt: int) -> str:
    """Return the store's key of an attempt's seal."""
    return f"runs/{run}/attempts/{attempt}/sealed.json"


def snapshot_key(run: str, attempt: int, number: int) -> str:
    """Return the store's key of a snapshot of an attempt."""
    return f"runs/{run}/attempts/{attempt}/snapshots/{number}.json"


def read_claim(text: bytes, *, where: str) -> Claim:
    """Parse a claim. Raise `DocumentError` if it is invalid."""
    return parse_json(text, Claim, where=where, most=SMALL)


def read_sealed(text: bytes, *, run: str, attempt: int, where: str) -> tuple[Sealed, Record]:
    """Parse the seal of an attempt, and its record. Raise `DocumentError` if they are invalid or inconsistent."""
    sealed = parse_json(text, Sealed, where=where)
    return sealed, _record_in(sealed, run=run, attempt=attempt, where=where)


def read_snapshot(text: bytes, *, run: str, attempt: int, where: str) -> tuple[Snapshot, Record]:
    """Parse a snapshot of an attempt, and its record. Raise `DocumentError` if they are invalid or inconsistent."""
    snapshot = parse_json(text, Snapshot, where=where)
    record = _record_in(snapshot, run=run, attempt=attempt, where=where)
    if record.outcome.status is not RunStatus.RUNNING:
        found = record.outcome.status
        raise DocumentError(f"{where} holds a record with status {found}; expected running", hint=_UNTRUSTED_HINT)
    return snapshot, record


def _record_in(contents: Contents, *, run: str, attempt: int, where: str) -> Record:
    """Return the record in `contents`. Raise `DocumentError` if it belongs to another attempt, or if its identity or a path is invalid."""
    record = typed_record(contents.record, where=f"the record in {where}")
    if (record.run, record.attempt) != (run, attempt):
        description = f"run {record.run}, attempt {record.attempt}"
        raise DocumentError(
            f"{where} holds the record of {description}; expected run {run}, attempt {attempt}", hint=_UNTRUSTED_HINT
        )
    if identity_as_written(contents.record) != record.identity:
        raise DocumentError(
            f"{where}: the identity {record.identity} does not match the ingredients", hint=_UNTRUSTED_HINT
        )
    if fault := _path_fault([file.path for file in contents.files]):
        raise DocumentError(f"{where}: {fault}", hint=_UNTRUSTED_HINT)
    return record


def identity_as_written(record: dict[str, JsonValue]) -> str:
    """Compute the identity from a record as it was written, with ingredients that this version may not define."""
    return digest_of_document({"format": record["format"], "ingredients": record["ingredients"]})


_UNTRUSTED_HINT: Final = "it is damaged or forged: ask the author of the run for a new copy"
_OWN_FILES: Final = frozenset({"record.json", "claim.json", "published.json", ".snapshot.json"})


def _path_fault(paths: list[str]) -> str | None:
    for path in paths:
        if fault := path_fault(path):
            return f"the path {path!a} is invalid: {fault}"
        if path in _OWN_FILES:
            return f"the path {path!a} is invalid: Reprise writes that file itself"
    clash = collision(paths)
    return None if clash is None else f"the path {clash!a} is listed twice, or is both a file and a folder"
