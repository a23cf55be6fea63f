"""Signed envelopes: a changed payload, payload type or key is detected."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.certified import make_keys
from trainer.base.errors import CertificateError, DocumentError
from trainer.comparison.certificate import is_envelope, read_envelope, sign, signing_key, verify_envelope

if TYPE_CHECKING:
    from pathlib import Path

KIND = "application/json"


def test_verification_returns_the_signed_payload(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    text = sign(b'{"a":1}', kind=KIND, key=private)
    payload, signer = verify_envelope(text, kind=KIND, key=public, where="there")
    assert payload == b'{"a":1}'
    assert read_envelope(text, kind=KIND, where="there") == (payload, [signer])
    assert is_envelope(text)
    assert not is_envelope(payload)


def test_a_tampered_payload_is_rejected(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    document = json.loads(sign(b'{"a":1}', kind=KIND, key=private))
    document["payload"] = base64.b64encode(b'{"a":2}').decode()
    with pytest.raises(CertificateError, match="was altered"):
        verify_envelope(json.dumps(document).encode(), kind=KIND, key=public, where="there")


def test_a_signature_by_another_key_is_rejected_with_both_ids(tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path)
    _, stranger = make_keys(tmp_path, "stranger")
    with pytest.raises(CertificateError, match=r"is signed by .*, not by the key in .*stranger"):
        verify_envelope(sign(b"x", kind=KIND, key=private), kind=KIND, key=stranger, where="there")


def test_the_payload_type_is_signed(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    text = sign(b"x", kind="text/plain", key=private)
    with pytest.raises(CertificateError, match="holds 'text/plain'"):
        verify_envelope(text, kind=KIND, key=public, where="there")
    relabelled = json.dumps(json.loads(text) | {"payloadType": KIND}).encode()
    with pytest.raises(CertificateError, match="was altered"):
        verify_envelope(relabelled, kind=KIND, key=public, where="there")


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"payload": "x"}', b'{"payloadType": 1, "payload": "?", "signatures": 3}', b"[" * 100000],
)
def test_an_invalid_envelope_is_rejected(tmp_path: Path, text: bytes) -> None:
    _, public = make_keys(tmp_path)
    with pytest.raises((DocumentError, CertificateError)):
        verify_envelope(text, kind=KIND, key=public, where="there")


def test_only_unencrypted_ed25519_keys_are_accepted(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    loaded = load_pem_private_key(private.read_bytes(), password=None)
    locked, curve = tmp_path / "locked.pem", tmp_path / "curve.pem"
    locked.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    other = generate_private_key(SECP256R1())
    curve.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    for path, message in {
        tmp_path / "none": "does not exist",
        public: "expected PEM",
        locked: "encrypted",
        curve: "encrypted",
    }.items():
        with pytest.raises(CertificateError, match=message) as error:
            signing_key(path)
        assert "openssl genpkey" in (error.value.hint or "")
