"""Certificates: statements, optionally signed, that a property of a run was tested, with the result of the test.

A certificate is an in-toto Statement (v1). Its subjects are records, identified by digest; its predicate has the format
`reprise.certificate/1`. A signed certificate is a DSSE envelope, signed with an Ed25519 key in a PEM file and verified with a key that the
caller names. A key that comes with the envelope proves nothing.

The library of envelopes imports the clients of several clouds, which takes 0.2 s: it is imported only when an envelope is read or written.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pydantic import Field, StringConstraints
from securesystemslib.exceptions import FormatError, VerificationError

from trainer.base.digest import Digest, canonical, digest_of_bytes
from trainer.base.document import Document, json_value
from trainer.base.errors import CertificateError, DocumentError
from trainer.base.plain_text import read_bytes
from trainer.comparison.retest import device_class
from trainer.comparison.saved_document import SavedDocument
from trainer.comparison.trace import Stream
from trainer.comparison.verdict import VerdictLevel, judge
from trainer.runs.record import Image, Ingredients, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined] # the package exports its names without `__all__`

    from trainer.runs.record import Record

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:reprise:certificate:1"
_DISTRUST: Final = "do not trust this certificate: ask its author for a new one"
_REPEAT: Final = "test it again with reprise certify: an earlier version wrote this certificate without the observation"
FOLDER: Final = "certificates"
"""The name of the folder of certificates in a run's folder."""

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class CertifiedRecord(Document):
    """A record, identified by its path below the folder of all runs and its digest."""

    name: str = Field(pattern=r"^[0-9]{8}t[0-9]{6}-[a-z2-7]{6}/attempts/[1-9][0-9]{0,5}/record\.json$")
    digest: dict[Literal["sha256"], Hex] = Field(min_length=1)

    @property
    def sha256(self) -> str:
        """The record's digest, as `sha256:...`."""
        return f"sha256:{self.digest['sha256']}"


class FailureCause(Document):
    """The first difference, which shows that the property does not hold."""

    what: str
    """For example `the state of the random generators`."""
    step: int | None = None
    stream: Stream | None = None
    tensor: str | None = None
    a: str | None = None
    b: str | None = None


class Predicate(Document):
    """The test: the ingredients of its runs, the compared outputs, and the result."""

    format: Literal["reprise.certificate/1"] = "reprise.certificate/1"
    claim: Literal["rerun", "resume", "elastic"]
    """`rerun`: trained twice from the start. `resume`: killed and resumed, compared with an uninterrupted run. `elastic`: trained on one
    device, on several, and started on several and resumed on one."""
    devices: list[int] | None = Field(default=None, exclude_if=lambda devices: devices is None)
    """The number of devices of each run of an elastic training; the last run begins with the most devices and is resumed on one device."""
    holds: bool
    """Whether all compared outputs are bit-identical."""
    verdict: VerdictLevel
    compared: list[str]
    """The outputs that are equal if the property holds."""
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
        return 0 if self.holds else (self.verdict.code or VerdictLevel.DIFFERENT.code)


class Statement(SavedDocument):
    """A certificate's in-toto statement: the records and the predicate."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT, alias="_type")
    subject: list[CertifiedRecord] = Field(min_length=1)
    predicate_type: Literal["urn:reprise:certificate:1"] = Field(default=PREDICATE, alias="predicateType")
    predicate: Predicate

    @property
    def runs(self) -> list[str]:
        """The IDs of the certified runs."""
        return [subject.name.partition("/")[0] for subject in self.subject]

    def check(self, where: str) -> None:
        """Raise `CertificateError` if the statement contradicts itself or is not based on an observation."""
        tested = self.predicate
        if identity_of(tested.ingredients) != tested.identity:
            message = f"{where} names the identity {tested.identity}, which does not match its ingredients"
            raise CertificateError(message, hint=_DISTRUST)
        if tested.holds != (tested.verdict is VerdictLevel.IDENTICAL and tested.lost is None):
            raise CertificateError(
                f"{where} contradicts itself: it claims success and lists a difference, or the reverse", hint=_DISTRUST
            )
        if tested.claim != "rerun" and (tested.killed_after is None or tested.resumed_from is None):
            raise CertificateError(f"{where} does not state where the run was killed and resumed", hint=_REPEAT)
        if tested.observed < 1:
            resume = f"step followed the resume (from step {tested.resumed_from} of {tested.steps})"
            missing = "step was taken" if tested.claim == "rerun" else resume
            raise CertificateError(f"{where} is not based on an observation: no {missing}", hint=_REPEAT)

    def check_record(self, record: Record, text: bytes) -> None:
        """Raise `CertificateError` if the statement is not about `record`, whose file has the bytes `text`."""
        name, tested = _file(record), self.predicate
        subject = next((subject for subject in self.subject if subject.name == name), None)
        if subject is None:
            message = f"the certificate is about {' and '.join(dict.fromkeys(self.runs))}, not about {name}"
            raise CertificateError(message, hint="verify the certificate in that run's folder")
        if (digest := digest_of_bytes(text)) != subject.sha256:
            message = f"{name} is {digest}; the certificate is for {subject.sha256}"
            raise CertificateError(message, hint="the record or the certificate was changed: trust neither")
        if record.identity != tested.identity or device_class(record) != tested.device:
            message = f"{name} has different ingredients or a different device than the certificate"
            raise CertificateError(message, hint=_DISTRUST)

    def check_verdict(self, records: Sequence[Record]) -> None:
        """Compare the results of the certified runs again. Raise `CertificateError` if the statement has other steps or another verdict."""
        stated = self.predicate
        if stated.steps != (steps := records[-1].outcome.steps):
            message = f"the certificate states {stated.steps} steps; the record states {steps}"
            raise CertificateError(message, hint=_DISTRUST)
        levels = [judge(records[0], other).level for other in records[1:]]
        if any((level is VerdictLevel.IDENTICAL) != (stated.verdict is VerdictLevel.IDENTICAL) for level in levels):
            message = f"the certificate states the verdict {stated.verdict}; the records give {levels[0]}"
            raise CertificateError(message, hint=_DISTRUST)


def read_certificate(text: bytes, where: str) -> tuple[Statement, list[str]]:
    """Parse a statement or its envelope; return the statement and the IDs of the signers' keys. No signature is verified.

    Raise `DocumentError` if the text is invalid, `CertificateError` if the statement contradicts itself.
    """
    payload, signers = read_envelope(text, where=where) if is_envelope(text) else (text, [])
    return Statement.read(payload, where), signers


def subject_of(record: Record, text: bytes) -> CertifiedRecord:
    """Return a record, whose file has the bytes `text`, as a subject."""
    return CertifiedRecord(name=_file(record), digest={"sha256": digest_of_bytes(text).removeprefix("sha256:")})


def _file(record: Record) -> str:
    return f"{record.run}/attempts/{record.attempt}/record.json"


STREAM_CONTENTS: Final = {
    Stream.DATA: "the position in the data",
    Stream.RANDOM: "the state of the random generators",
    Stream.SCHEDULE: "the schedule of the learning rate",
    Stream.FORWARD: "a weight, a buffer, or other state of the model",
    Stream.BACKWARD: "a sum of gradients",
    Stream.WEIGHTS: "the state of the optimizer",
    Stream.EVALUATION: "the state of the metrics",
}
"""The value that must have differed, by the first stream in which two runs with equal ingredients diverge."""


PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The payload type of a certificate."""
_KEY: Final = 1 << 16
"""The maximum size of a key file in bytes."""
_DAMAGED: Final = "it is damaged: fetch it again"
MAKE: Final = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub.pem"


def sign(payload: bytes, *, key: Path, kind: str = PAYLOAD_TYPE) -> bytes:
    """Return an envelope with `payload`, of media type `kind`, signed with the private key in the file `key`. Raise `CertificateError`."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, kind, {})
    envelope.sign(signing_key(key))
    return canonical(envelope.to_dict()) + b"\n"


def signing_key(path: Path) -> CryptoSigner:
    """Read a private key. Raise `CertificateError` if the file is not a readable Ed25519 key."""
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # see above

    return CryptoSigner(_read_key(path, "private", partial(load_pem_private_key, password=None), Ed25519PrivateKey))


def verification_key(path: Path) -> SSlibKey:
    """Read a public key. Raise `CertificateError` if the file is not a readable Ed25519 key."""
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined] # see above

    return SSlibKey.from_crypto(_read_key(path, "public", load_pem_public_key, Ed25519PublicKey))


def is_envelope(text: bytes) -> bool:
    """Return whether the text is a JSON object with the key `payloadType`."""
    try:
        content: Any = json_value(text, where="")
    except DocumentError:
        return False
    return isinstance(content, dict) and "payloadType" in content


def read_envelope(text: bytes, *, where: str, kind: str = PAYLOAD_TYPE) -> tuple[bytes, list[str]]:
    """Return an envelope's payload and the IDs of its signers' keys, both unverified.

    Raise `DocumentError` if the text is not an envelope, `CertificateError` if its payload is not of media type `kind`.
    """
    envelope = _envelope(text, kind=kind, where=where)
    return envelope.payload, sorted(envelope.signatures)


def verify_envelope(text: bytes, *, key: Path, where: str, kind: str = PAYLOAD_TYPE) -> tuple[bytes, str]:
    """Verify an envelope with the public key in the file `key`; return its payload and the key's ID.

    Raise `CertificateError` if the signature is invalid or of another key, `DocumentError` if the text is not an envelope.
    """
    envelope = _envelope(text, kind=kind, where=where)
    public = verification_key(key)
    try:
        envelope.verify([public], threshold=1)
    except VerificationError as fault:
        signers = ", ".join(f"{name[:16]}..." for name in envelope.signatures) or "no key"
        if public.keyid in envelope.signatures:
            message = f"{where} was altered: its signature by {key} does not match its content"
        else:
            message = f"{where} is signed by {signers}, not by the key in {key} ({public.keyid[:16]}...)"
        raise CertificateError(message, hint=_DISTRUST) from fault
    return envelope.payload, public.keyid


UNSIGNED: Final = "none: the author is not verified"


def read_signed(text: bytes, *, key: Path | None, where: str, kind: str = PAYLOAD_TYPE) -> tuple[bytes, str]:
    """Return a document, which may be in an envelope, and a description of its signature.

    The signature is verified only if `key` names a public key file. Raise `CertificateError` if it is invalid.
    """
    if not is_envelope(text):
        return text, UNSIGNED
    if key is None:
        payload, signers = read_envelope(text, where=where, kind=kind)
        return payload, f"by key {', '.join(name[:16] for name in signers) or 'none'}..., not checked"
    payload, signer = verify_envelope(text, key=key, where=where, kind=kind)
    return payload, f"good, by key {signer[:16]}... ({key})"


def _envelope(text: bytes, *, kind: str, where: str) -> Envelope:
    from securesystemslib.dsse import Envelope

    content: Any = json_value(text, where=where)
    try:
        envelope = Envelope.from_dict(content)
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, RecursionError) as fault:
        raise DocumentError(f"{where} is not a DSSE envelope: {fault!r}", hint=_DAMAGED) from fault
    if not all(isinstance(name, str) for name in envelope.signatures):
        raise DocumentError(f"{where} is not a DSSE envelope: a key's ID is not text", hint=_DAMAGED)
    if envelope.payload_type != kind:
        raise CertificateError(f"{where} holds {envelope.payload_type!a}; expected {kind}", hint=_DISTRUST)
    return envelope


def _read_key(path: Path, kind: str, load: Callable[[bytes], object], expected: type[Any]) -> Any:
    """Load a PEM file. Raise `CertificateError` with a short reason instead of the library's long message."""
    try:
        key = load(read_bytes(path, most=_KEY))
    except (DocumentError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
        reason = "it is encrypted" if isinstance(fault, TypeError) else "expected PEM"
        if isinstance(fault, DocumentError):
            reason = fault.message.removeprefix(f"{path} ")
        raise CertificateError(f"{path} is not a readable {kind} key: {reason}", hint=MAKE) from fault
    if not isinstance(key, expected):
        raise CertificateError(f"{path} is not an Ed25519 key", hint=MAKE)
    return key
