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
from trainer.cli.places import runs_folder
from trainer.comparison.certificate import FOLDER, PAYLOAD_TYPE, check_record, check_verdict, read_statement
from trainer.comparison.signing import is_envelope, opened, verified
from trainer.runs.record import is_run_id
from trainer.runs.run import load_record

if TYPE_CHECKING:
    from trainer.comparison.certificate import Statement
    from trainer.runs.record import Record

_LARGEST = 1 << 24
"""The largest certificate in bytes."""


def main(argv: list[str]) -> int:
    """Verify and print; return 0 if the certificate is valid and its claim holds, the verdict's code if the claim does not hold."""
    words = _parser().parse_args(argv)
    text = read_bytes(words.certificate, most=_LARGEST)
    payload, signature = _payload(text, key=words.key, where=str(words.certificate))
    statement = read_statement(payload, where=str(words.certificate))
    at_hand = _check(statement, words.certificate)
    checks = [f"signature  {signature}", *at_hand]
    if words.json:
        said = statement.model_dump(mode="json", by_alias=True)
        document = {"statement": said, "checks": checks, "holds": statement.predicate.holds}
        print(json.dumps(document))
    else:
        print("\n".join([*page(statement), *(f"  {line}" for line in checks)]))
    return statement.predicate.code


def _parser() -> Arguments:
    parser = Arguments("reprise verify", "Verify a certificate: signature, digests and available records.")
    parser.add_argument("certificate", type=Path, help="file written by `reprise certify`")
    parser.add_argument("--key", type=Path, metavar="PUBLIC", help="Ed25519 public key of the expected signer (PEM)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _payload(text: bytes, *, key: Path | None, where: str) -> tuple[bytes, str]:
    """Return the statement's bytes, and the state of the signature."""
    if not is_envelope(text):
        if key is not None:
            raise CertificateError(f"{where} is unsigned", hint="ask for a signed one: reprise certify ... --key FILE")
        return text, "none: the author is not verified"
    if key is None:
        payload, signers = opened(text, kind=PAYLOAD_TYPE, where=where)
        print(
            "reprise: the signature was not verified: give the public key of the expected signer: --key PUBLIC",
            file=sys.stderr,
        )
        return payload, f"by key {', '.join(name[:16] for name in signers)}..., not checked"
    payload, signer = verified(text, kind=PAYLOAD_TYPE, key=key, where=where)
    return payload, f"good, by key {signer[:16]}... ({key})"


def _check(statement: Statement, path: Path) -> list[str]:
    """Check the statement against its folder and the local records. Raise `CertificateError`."""
    place = path.absolute().parent
    if place.name == FOLDER and is_run_id(place.parent.name) and place.parent.name not in statement.runs:
        said = f"{path} lies beside run {place.parent.name}; it is about {' and '.join(statement.runs)}"
        raise CertificateError(said, hint="do not trust it for this run")
    checked: list[str] = []
    records: list[Record] = []
    for subject in statement.subject:
        file = runs_folder() / subject.name
        if not file.is_file():
            checked.append(f"record     {subject.name}: not at hand, not checked")
            continue
        records.append(load_record(file))
        check_record(statement, records[-1], read_run_file(file))
        checked.append(f"record     {subject.name}: as certified")
    if len(records) == len(statement.subject):
        check_verdict(statement, records)
        checked.append(f"verdict    computed again from the records: {statement.predicate.verdict}")
    return checked
