"""Certificates to judge: of two small runs that are equal, and keys made for the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.actions.compared import made, save_trace
from trainer.actions.certify import LOG, Kill, certify
from trainer.actions.compare import Places, compare

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.actions.compare import Side
    from trainer.sameness.certificate import Statement


def keys(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """A new key pair: the private file and the public one."""
    folder.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    paths = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    paths[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths


def traced(runs: Path, *losses: float, rate: float = 0.1, slow_from: int = 99) -> Side:
    """A run with a trace of these losses, and a log."""
    side = made(runs)
    assert side.attempt
    save_trace(side.attempt, *losses, rate=rate, slow_from=slow_from)
    (side.attempt / LOG).write_text('{"step":0,"train_loss":0.5}\n')
    return side


def statement(a: Side, b: Side, *, kill: Kill | None = None) -> Statement:
    """What comparing them states."""
    assert a.folder
    runs = a.folder.parent
    return certify(compare(a, b, places=Places(runs=runs, cache=runs / "cache")), kill=kill)
