"""Sign and verify DSSE envelopes around any bytes, with an Ed25519 key in a PEM file.

An envelope is verified with a key that the caller names; a key that comes with the envelope proves nothing.
"""

from __future__ import annotations

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
    from pathlib import Path

_KEY: Final = 1 << 16
"""The largest key file in bytes."""
MAKE: Final = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub.pem"


def sign(payload: bytes, *, kind: str, key: Path) -> bytes:
    """Return an envelope with `payload`, of media type `kind`, signed with the private key in the file `key`. Raise `CertificateError`."""
    envelope = Envelope(payload, kind, {})
    envelope.sign(signing_key(key))
    return canonical(envelope.to_dict()) + b"\n"


def signing_key(path: Path) -> CryptoSigner:
    """Read a private key. Raise `CertificateError` if the file is no readable Ed25519 key."""
    try:
        key = load_pem_private_key(read_bytes(path, most=_KEY), password=None)
    except (DocumentError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise CertificateError(
            f"{path} is no private key that can be read: {_reason(fault, path)}", hint=MAKE
        ) from fault
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"{path} is a key of another kind; expected Ed25519", hint=MAKE)
    return CryptoSigner(key)


def is_envelope(text: bytes) -> bool:
    """Return whether the text claims to be an envelope."""
    try:
        content: Any = json_value(text, where="")
    except DocumentError:
        return False
    return isinstance(content, dict) and "payloadType" in content


def opened(text: bytes, *, kind: str, where: str) -> tuple[bytes, list[str]]:
    """Return an envelope's payload and the ids of its signers' keys, both unverified."""
    envelope = _envelope(text, kind=kind, where=where)
    return envelope.payload, sorted(envelope.signatures)


def verified(text: bytes, *, kind: str, key: Path, where: str) -> tuple[bytes, str]:
    """Return the payload of an envelope verified with the public key in the file `key`, and the key's id. Raise `CertificateError`."""
    envelope, public = _envelope(text, kind=kind, where=where), _public(key)
    try:
        envelope.verify([public], threshold=1)
    except VerificationError as fault:
        signers = ", ".join(f"{name[:16]}..." for name in envelope.signatures) or "nobody"
        if public.keyid in envelope.signatures:
            said = f"{where} was altered: its signature by {key} does not hold for what is in it"
        else:
            said = f"{where} is signed by {signers}, not by the key in {key} ({public.keyid[:16]}...)"
        raise CertificateError(said, hint="do not trust this certificate") from fault
    return envelope.payload, public.keyid


def _envelope(text: bytes, *, kind: str, where: str) -> Envelope:
    content: Any = json_value(text, where=where)
    try:
        envelope = Envelope.from_dict(content)
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, RecursionError) as fault:
        raise DocumentError(f"{where} is no DSSE envelope: {fault!r}", hint="it is damaged: fetch it again") from fault
    if not all(isinstance(name, str) for name in envelope.signatures):
        raise DocumentError(f"{where} is no DSSE envelope: a key's id is no text", hint="it is damaged: fetch it again")
    if envelope.payload_type != kind:
        raise CertificateError(
            f"{where} holds {envelope.payload_type!a}; expected {kind}", hint="do not trust this certificate"
        )
    return envelope


def _public(path: Path) -> SSlibKey:
    try:
        key = load_pem_public_key(read_bytes(path, most=_KEY))
    except (DocumentError, ValueError, UnsupportedAlgorithm) as fault:
        raise CertificateError(
            f"{path} is no public key that can be read: {_reason(fault, path)}", hint=MAKE
        ) from fault
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateError(f"{path} is a key of another kind; expected Ed25519", hint=MAKE)
    return SSlibKey.from_crypto(key)


def _reason(fault: Exception, path: Path) -> str:
    """Return the reason in one short line instead of the library's long message."""
    if isinstance(fault, DocumentError):
        return fault.message.removeprefix(f"{path} ")
    return "it is encrypted" if isinstance(fault, TypeError) else "expected PEM"
