"""What a store holds about an attempt: a claim first, a seal last.

Knows the formats `reprise.claim/1`, `reprise.sealed/1`, `reprise.published/1` and the names they are kept under.
Refuses to know how bytes travel. An attempt is published exactly when its seal is there: the seal names every byte of
it by digest.

A seal may come from a stranger. Reading one checks what can be checked without the files: that the paths can be made
on this disk together, that the record is the run's own, that its identity is that of its ingredients.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, JsonValue

from trainer.base.digest import Digest, canonical, digest_of_bytes, digest_of_document
from trainer.base.document import Document, OneLine, parse_json
from trainer.base.errors import DocumentError
from trainer.base.file_entry import File
from trainer.base.paths import collision, path_fault
from trainer.runs.record import MOST_ATTEMPTS, RUN_ID, Record, typed_record

SMALL: Final = 1 << 16
"""Bytes of a document with a few fields: a claim, a note about a publication."""
MOST_FILES: Final = 100_000


class Claim(Document):
    """Whose attempt this is: made once, when it is opened; the token tells two claimants apart."""

    format: Literal["reprise.claim/1"] = "reprise.claim/1"
    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    attempt: int = Field(ge=1, le=MOST_ATTEMPTS)
    identity: Digest
    host: OneLine
    token: str = Field(pattern=r"^[0-9a-f]{32}$")

    def to_json(self) -> bytes:
        """Write the claim: the same bytes each time."""
        return canonical(self.model_dump(mode="json"))


class Sealed(Document):
    """A finished attempt: its record as it was written, and every file by digest."""

    format: Literal["reprise.sealed/1"] = "reprise.sealed/1"
    record: dict[str, JsonValue]
    files: list[File] = Field(max_length=MOST_FILES)
    source: File | None = None
    """The run's source bundle, `source.tar.gz`."""

    def to_json(self) -> bytes:
        """Write the seal: the same bytes each time."""
        return canonical(self.model_dump(mode="json"))

    def record_text(self) -> bytes:
        """The bytes of `record.json`."""
        return canonical(self.record) + b"\n"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files) + (self.source.size if self.source else 0)


class Published(Document):
    """Left beside a local record once the attempt is in a store."""

    format: Literal["reprise.published/1"] = "reprise.published/1"
    store: OneLine
    sealed: Digest
    record: Digest | None = None
    """Of the bytes of `record.json`; absent in notes of earlier versions."""

    @classmethod
    def of(cls, sealed: Sealed, *, store: str) -> Published:
        """Note that an attempt is in a store."""
        digest = digest_of_bytes(sealed.to_json())
        return cls(store=store, sealed=digest, record=digest_of_bytes(sealed.record_text()))

    def to_json(self) -> bytes:
        """Write the note: the same bytes each time."""
        return canonical(self.model_dump(mode="json", exclude_none=True)) + b"\n"


def claim_key(run: str, attempt: int) -> str:
    """Where the claim of an attempt is kept."""
    return f"runs/{run}/attempts/{attempt}/claim.json"


def sealed_key(run: str, attempt: int) -> str:
    """Where the seal of an attempt is kept."""
    return f"runs/{run}/attempts/{attempt}/sealed.json"


def read_claim(text: bytes, *, where: str) -> Claim:
    """Read a claim. Raises `DocumentError`."""
    return parse_json(text, Claim, where=where, most=SMALL)


def read_sealed(text: bytes, *, run: str, attempt: int, where: str) -> tuple[Sealed, Record]:
    """Read the seal of an attempt and the record in it. Raises `DocumentError` for a seal that does not hold together."""
    sealed = parse_json(text, Sealed, where=where)
    record = typed_record(sealed.record, where=f"the record in {where}")
    if (record.run, record.attempt) != (run, attempt):
        found = f"run {record.run}, attempt {record.attempt}"
        raise DocumentError(
            f"{where} holds the record of {found}; expected run {run}, attempt {attempt}", hint=_FOREIGN
        )
    if identity_as_written(sealed.record) != record.identity:
        raise DocumentError(f"{where}: the identity {record.identity} is not that of its ingredients", hint=_FOREIGN)
    if fault := _path_fault([file.path for file in sealed.files]):
        raise DocumentError(f"{where}: {fault}", hint=_FOREIGN)
    return sealed, record


def identity_as_written(record: dict[str, JsonValue]) -> str:
    """The identity of a record by the words it was written in: later versions of the format may have more ingredients."""
    return digest_of_document({"format": record["format"], "ingredients": record["ingredients"]})


_FOREIGN: Final = "it was damaged, or made by somebody who meant harm: do not use it"
_OURS: Final = frozenset({"record.json", "claim.json", "published.json"})


def _path_fault(paths: list[str]) -> str | None:
    for path in paths:
        if fault := path_fault(path):
            return f"the path {path!a} is not acceptable: {fault}"
        if path in _OURS:
            return f"the path {path!a} is not acceptable: Reprise writes that file itself"
    clash = collision(paths)
    return None if clash is None else f"the path {clash!a} stands twice, or is a file and a folder"
