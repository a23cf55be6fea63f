"""`reprise verify CERTIFICATE [--key PUBLIC]`: verify a certificate.

The checks are: the signature with a public key that the user trusts, the consistency of the statement, and its digests and verdict with the
local records. A key that comes with the certificate is not trusted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import CertificateError
from trainer.base.plain_text import read_bytes
from trainer.base.run_files import read_run_file
from trainer.cli.arguments import Arguments
from trainer.cli.certify.page import page
from trainer.cli.configuration import runs_folder
from trainer.comparison.certificate import FOLDER, Statement, read_certificate
from trainer.comparison.signing import is_envelope, verify_envelope
from trainer.runs.record import is_run_id
from trainer.runs.run import load_record

if TYPE_CHECKING:
    from trainer.runs.record import Record

_LARGEST = 1 << 24
"""The largest certificate in bytes."""


def main(argv: list[str]) -> int:
    """Verify and print; return 0 if the certificate is valid and its claim holds, the verdict's code if the claim does not hold."""
    words = _parser().parse_args(argv)
    text = read_bytes(words.certificate, most=_LARGEST)
    statement, signature = _read(text, key=words.key, where=str(words.certificate))
    checks = [f"signature  {signature}", *_check(statement, words.certificate)]
    if words.json:
        document = statement.model_dump(mode="json", by_alias=True)
        print(json.dumps({"statement": document, "checks": checks, "holds": statement.predicate.holds}))
    else:
        print("\n".join([*page(statement), *(f"  {line}" for line in checks)]))
    return statement.predicate.code


def _parser() -> Arguments:
    parser = Arguments("reprise verify", "Verify a certificate: signature, digests and available records.")
    parser.add_argument("certificate", type=Path, help="file written by `reprise certify`")
    parser.add_argument("--key", type=Path, metavar="PUBLIC", help="Ed25519 public key of the expected signer (PEM)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _read(text: bytes, *, key: Path | None, where: str) -> tuple[Statement, str]:
    """Return the statement and the state of its signature."""
    if key is None:
        statement, signers = read_certificate(text, where)
        if not signers:
            return statement, "none: the author is not verified"
        message = "the signature was not verified: give the public key of the expected signer: --key PUBLIC"
        print(f"reprise: {message}", file=sys.stderr)
        return statement, f"by key {', '.join(name[:16] for name in signers)}..., not checked"
    if not is_envelope(text):
        raise CertificateError(f"{where} is unsigned", hint="ask for a signed one: reprise certify ... --key FILE")
    payload, signer = verify_envelope(text, key=key, where=where)
    return Statement.read(payload, where), f"good, by key {signer[:16]}... ({key})"


def _check(statement: Statement, path: Path) -> list[str]:
    """Check the statement against its folder and the local records. Raise `CertificateError`."""
    folder = path.absolute().parent
    if folder.name == FOLDER and is_run_id(folder.parent.name) and folder.parent.name not in statement.runs:
        message = f"{path} lies beside run {folder.parent.name}; it is about {' and '.join(statement.runs)}"
        raise CertificateError(message, hint="do not trust it for this run")
    lines: list[str] = []
    records: list[Record] = []
    for subject in statement.subject:
        file = runs_folder() / subject.name
        if not file.is_file():
            lines.append(f"record     {subject.name}: not at hand, not checked")
            continue
        records.append(load_record(file))
        statement.check_record(records[-1], read_run_file(file))
        lines.append(f"record     {subject.name}: as certified")
    if len(records) == len(statement.subject):
        statement.check_verdict(records)
        lines.append(f"verdict    computed again from the records: {statement.predicate.verdict}")
    return lines
