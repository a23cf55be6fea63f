"""Certificates of two small equal runs, and signing keys."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.comparison.compared import make_run, save_trace
from trainer.comparison.certify import LOG, Kill, certify
from trainer.comparison.compare import EvidenceSources, compare, load_compared_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.comparison.compared import Values
    from trainer.comparison.certificate import Statement
    from trainer.comparison.compare import ComparedRun


def make_keys(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """Create a key pair; return the files of the private and the public key."""
    folder.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    paths = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    paths[0].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths


def make_traced_run(
    runs: Path,
    *losses: float,
    rate: float = 0.1,
    slow_from: int = 99,
    steps: int | None = None,
    weights: Values | None = None,
) -> ComparedRun:
    """Make a run with a trace of these losses, and a log."""
    found = make_run(runs, steps=len(losses) if steps is None else steps, weights=weights)
    assert found.attempt
    save_trace(found.attempt, *losses, rate=rate, slow_from=slow_from)
    (found.attempt / LOG).write_text('{"step":0,"train_loss":0.5}\n')
    return found


def resume_copy(found: ComparedRun) -> ComparedRun:
    """Copy the results of attempt 1 to attempt 2, as if the run had been killed and resumed."""
    assert found.folder
    one, two = (found.folder / "attempts" / number for number in "12")
    shutil.copytree(one, two)
    (two / "record.json").write_bytes(found.record.model_copy(update={"attempt": 2}).to_json())
    return load_compared_run(found.folder)


def make_statement(a: ComparedRun, b: ComparedRun, *, kill: Kill | None = None) -> Statement:
    """Return the statement of comparing two runs."""
    assert a.folder
    runs = a.folder.parent
    return certify(compare(a, b, sources=EvidenceSources(runs=runs, cache=runs / "cache")), kill=kill)
