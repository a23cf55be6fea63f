"""A certificate: a statement, signed if a key is given, that a property of a training was tested, and the result of the test.

A certificate is an in-toto Statement (v1). Its subjects are records by digest; its predicate has the format `reprise.certificate/1`.
Signatures are in `trainer.comparison.signing`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints

from trainer.base.digest import Digest, digest_of_bytes
from trainer.base.document import Document
from trainer.base.errors import CertificateError
from trainer.comparison.retest import device_class
from trainer.comparison.saved_document import SavedDocument
from trainer.comparison.signing import is_envelope, read_envelope
from trainer.comparison.trace import Stream
from trainer.comparison.verdict import Rung, judge
from trainer.runs.record import Image, Ingredients, identity_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.runs.record import Record

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:reprise:certificate:1"
_DISTRUST: Final = "do not trust this certificate"
_REPEAT: Final = "test it again with reprise certify: an earlier version wrote this without that observation"
FOLDER: Final = "certificates"
"""The folder's name in a run's folder."""

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Subject(Document):
    """A record, as a file below the folder of all runs."""

    name: str = Field(pattern=r"^[0-9]{8}t[0-9]{6}-[a-z2-7]{6}/attempts/[1-9][0-9]{0,5}/record\.json$")
    digest: dict[Literal["sha256"], Hex] = Field(min_length=1)

    @property
    def sha256(self) -> str:
        """The record's digest, as `sha256:...`."""
        return f"sha256:{self.digest['sha256']}"


class FailureCause(Document):
    """The first difference, which makes the property fail."""

    what: str
    """For example `the state of the random generators`."""
    step: int | None = None
    stream: Stream | None = None
    tensor: str | None = None
    a: str | None = None
    b: str | None = None


class Predicate(Document):
    """The test: the ingredients of its runs, what was compared, and the result."""

    format: Literal["reprise.certificate/1"] = "reprise.certificate/1"
    claim: Literal["rerun", "resume"]
    """`rerun`: trained twice from the start. `resume`: killed and resumed, compared with an uninterrupted run."""
    holds: bool
    """Whether everything that was compared is bit-identical."""
    verdict: Rung
    compared: list[str]
    """The things that are equal if the property holds."""
    lost: FailureCause | None = None
    killed_after: int | None = None
    """The last step in the trace when the process was killed; `None` for a rerun."""
    resumed_from: int | None = None
    """The step of the checkpoint from which the run was resumed."""
    steps: int
    """The number of steps in the trace of the last run, over all attempts."""
    identity: Digest
    ingredients: Ingredients
    """Code, settings, datasets, determinism level and image layers; equal in all runs of the test."""
    image: Image
    commit: str
    device: str
    """The class of device; the certificate holds for this class only."""
    when: datetime
    reprise: str
    """The version of Reprise that ran the test."""

    @property
    def observed(self) -> int:
        """The number of steps that support the claim: the steps after the resume, or all steps of a rerun."""
        return self.steps - (self.resumed_from or 0)

    @property
    def code(self) -> int:
        """The exit code: the verdict's, or that of a difference if only intermediate steps differ."""
        return 0 if self.holds else (self.verdict.code or Rung.DIFFERENT.code)


class Statement(SavedDocument):
    """The complete statement."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT, alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: Literal["urn:reprise:certificate:1"] = Field(default=PREDICATE, alias="predicateType")
    predicate: Predicate

    @property
    def runs(self) -> list[str]:
        """The ids of the certified runs."""
        return [subject.name.partition("/")[0] for subject in self.subject]

    def check(self, where: str) -> None:
        """Raise `CertificateError` if the statement contradicts itself or states no observation."""
        tested = self.predicate
        if identity_of(tested.ingredients) != tested.identity:
            message = f"{where} names the identity {tested.identity}; its ingredients have another one"
            raise CertificateError(message, hint=_DISTRUST)
        if tested.holds != (tested.verdict is Rung.IDENTICAL and tested.lost is None):
            raise CertificateError(f"{where} says that it holds, and what does not", hint=_DISTRUST)
        if tested.claim == "resume" and (tested.killed_after is None or tested.resumed_from is None):
            raise CertificateError(f"{where} does not say where the run was killed and resumed", hint=_REPEAT)
        if tested.observed < 1:
            resume = f"step followed the resume (from step {tested.resumed_from} of {tested.steps})"
            missing = resume if tested.claim == "resume" else "step was made"
            raise CertificateError(f"{where} shows nothing: no {missing}", hint=_REPEAT)

    def check_record(self, record: Record, text: bytes) -> None:
        """Raise `CertificateError` if the statement is not about this record, whose file is `text`."""
        name, tested = _file(record), self.predicate
        subject = next((subject for subject in self.subject if subject.name == name), None)
        if subject is None:
            message = f"the certificate is about {' and '.join(dict.fromkeys(self.runs))}, not about {name}"
            raise CertificateError(message, hint="find the right one")
        if (digest := digest_of_bytes(text)) != subject.sha256:
            message = f"{name} is {digest}; the certificate was given for {subject.sha256}"
            raise CertificateError(message, hint="one of the two was changed")
        if record.identity != tested.identity or device_class(record) != tested.device:
            message = f"{name} is not of the ingredients or the device that the certificate names"
            raise CertificateError(message, hint=_DISTRUST)

    def check_verdict(self, records: Sequence[Record]) -> None:
        """Compare the results of the certified runs again. Raise `CertificateError` if the statement disagrees."""
        stated = self.predicate
        if stated.steps != (steps := records[-1].outcome.steps):
            message = f"the certificate says {stated.steps} steps; the record says {steps}"
            raise CertificateError(message, hint=_DISTRUST)
        rungs = [judge(records[0], other).rung for other in records[1:]]
        if any((rung is Rung.IDENTICAL) != (stated.verdict is Rung.IDENTICAL) for rung in rungs):
            message = f"the certificate says {stated.verdict}; the records say {rungs[0]}"
            raise CertificateError(message, hint=_DISTRUST)


def read_certificate(text: bytes, where: str) -> tuple[Statement, list[str]]:
    """Read a statement or its envelope; return the ids of the signers' keys, without verifying a signature.

    Raise `DocumentError`, `CertificateError`.
    """
    payload, signers = read_envelope(text, where=where) if is_envelope(text) else (text, [])
    return Statement.read(payload, where), signers


def subject_of(record: Record, text: bytes) -> Subject:
    """Return a record, whose file is `text`, as a subject."""
    return Subject(name=_file(record), digest={"sha256": digest_of_bytes(text).removeprefix("sha256:")})


def _file(record: Record) -> str:
    return f"{record.run}/attempts/{record.attempt}/record.json"


STREAM_CONTENTS: Final = {
    Stream.DATA: "the place in the data",
    Stream.RANDOM: "the state of the random generators",
    Stream.SCHEDULE: "the schedule of the learning rate",
    Stream.FORWARD: "a weight or a buffer of the model, or what the model keeps besides",
    Stream.BACKWARD: "a sum of gradients",
    Stream.WEIGHTS: "the state of the optimizer",
    Stream.EVALUATION: "the state of the metrics",
}
"""What differs if two runs with equal ingredients diverge in a stream and all earlier streams of the step are equal."""
