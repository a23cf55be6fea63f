"""Sign and verify DSSE envelopes around any bytes, with an Ed25519 key in a PEM file.

An envelope is verified with a key that the caller names; a key that comes with the envelope proves nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined] # it lists its names without saying so

from trainer.base.digest import canonical
from trainer.base.document import json_value
from trainer.base.errors import CertificateError, DocumentError
from trainer.base.plain_text import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The payload type of a certificate."""
_KEY: Final = 1 << 16
"""The largest key file in bytes."""
_DAMAGED: Final = "it is damaged: fetch it again"
_DISTRUST: Final = "do not trust this certificate"
MAKE: Final = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub.pem"


def sign(payload: bytes, *, key: Path, kind: str = PAYLOAD_TYPE) -> bytes:
    """Return an envelope with `payload`, of media type `kind`, signed with the private key in the file `key`. Raise `CertificateError`."""
    envelope = Envelope(payload, kind, {})
    envelope.sign(signing_key(key))
    return canonical(envelope.to_dict()) + b"\n"


def signing_key(path: Path) -> CryptoSigner:
    """Read a private key. Raise `CertificateError` if the file is no readable Ed25519 key."""
    return CryptoSigner(_read_key(path, "private", partial(load_pem_private_key, password=None), Ed25519PrivateKey))


def is_envelope(text: bytes) -> bool:
    """Return whether the text claims to be an envelope."""
    try:
        content: Any = json_value(text, where="")
    except DocumentError:
        return False
    return isinstance(content, dict) and "payloadType" in content


def read_envelope(text: bytes, *, where: str, kind: str = PAYLOAD_TYPE) -> tuple[bytes, list[str]]:
    """Return an envelope's payload and the ids of its signers' keys, both unverified."""
    envelope = _envelope(text, kind=kind, where=where)
    return envelope.payload, sorted(envelope.signatures)


def verify_envelope(text: bytes, *, key: Path, where: str, kind: str = PAYLOAD_TYPE) -> tuple[bytes, str]:
    """Return the payload of an envelope verified with the public key in the file `key`, and the key's id. Raise `CertificateError`."""
    envelope = _envelope(text, kind=kind, where=where)
    public = SSlibKey.from_crypto(_read_key(key, "public", load_pem_public_key, Ed25519PublicKey))
    try:
        envelope.verify([public], threshold=1)
    except VerificationError as fault:
        signers = ", ".join(f"{name[:16]}..." for name in envelope.signatures) or "no key"
        if public.keyid in envelope.signatures:
            message = f"{where} was altered: its signature by {key} does not hold for what is in it"
        else:
            message = f"{where} is signed by {signers}, not by the key in {key} ({public.keyid[:16]}...)"
        raise CertificateError(message, hint=_DISTRUST) from fault
    return envelope.payload, public.keyid


def _envelope(text: bytes, *, kind: str, where: str) -> Envelope:
    content: Any = json_value(text, where=where)
    try:
        envelope = Envelope.from_dict(content)
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, RecursionError) as fault:
        raise DocumentError(f"{where} is no DSSE envelope: {fault!r}", hint=_DAMAGED) from fault
    if not all(isinstance(name, str) for name in envelope.signatures):
        raise DocumentError(f"{where} is no DSSE envelope: a key's id is no text", hint=_DAMAGED)
    if envelope.payload_type != kind:
        raise CertificateError(f"{where} holds {envelope.payload_type!a}; expected {kind}", hint=_DISTRUST)
    return envelope


def _read_key(path: Path, kind: str, load: Callable[[bytes], object], expected: type[Any]) -> Any:
    """Load a PEM file; an error has the reason in one short line instead of the library's long message."""
    try:
        key = load(read_bytes(path, most=_KEY))
    except (DocumentError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
        reason = "it is encrypted" if isinstance(fault, TypeError) else "expected PEM"
        if isinstance(fault, DocumentError):
            reason = fault.message.removeprefix(f"{path} ")
        raise CertificateError(f"{path} is no {kind} key that can be read: {reason}", hint=MAKE) from fault
    if not isinstance(key, expected):
        raise CertificateError(f"{path} is a key of another kind; expected Ed25519", hint=MAKE)
    return key
