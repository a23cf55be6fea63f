"""`reprise verify CERTIFICATE [--key FILE]`: verify a certificate, a retest or a signed package, and format it as text.

The checks of a certificate: the signature with a public key that the user trusts, the consistency of the statement, and its digests and
verdict against the local records. A key that comes with the certificate is not trusted. Text of a certificate is untrusted, so control
characters are escaped.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import CertificateError
from trainer.base.plain_text import read_bytes
from trainer.base.run_files import read_run_file
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import runs_folder
from trainer.cli.formatting import columns
from trainer.cli.output import one_line, print_json
from trainer.comparison.certificate import FOLDER, Statement, is_envelope, read_signed
from trainer.comparison.retest import Retest
from trainer.comparison.verdict import EXIT_CODES, VerdictLevel
from trainer.models.package import PACKAGE as PACKAGE_DOCUMENT
from trainer.models.package import SIGNED as PACKAGE
from trainer.models.package import open_package, read_package
from trainer.models.package_signature import check_signature
from trainer.models.weights_retest import SIGNED as RETEST
from trainer.models.weights_retest import RetestSubject, checked_retest, payload_kind
from trainer.runs.record import Knowledge
from trainer.runs.run import ATTEMPTS, RECORD, load_record
from trainer.runs.run_id import is_run_id

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from trainer.comparison.certificate import FailureCause, Predicate
    from trainer.runs.record import Record

_LARGEST = 1 << 24
"""The largest certificate in bytes."""


def main(argv: list[str]) -> int:
    """Verify and print; return 0 if the certificate is valid and its claim holds, the verdict's code if the claim does not hold."""
    args = _parser().parse_args(argv)
    text = read_bytes(args.certificate, most=_LARGEST)
    kind = payload_kind(text, where=str(args.certificate))
    if kind in {RETEST, PACKAGE}:
        _require_signed(text, key=args.key, where=str(args.certificate))
        return _verify_retest(text, args) if kind == RETEST else _verify_package(text, args)
    statement, signature = _read(text, key=args.key, where=str(args.certificate))
    checks = [f"signature  {signature}", *_check(statement, args.certificate)]
    if args.json:
        document = statement.model_dump(mode="json", by_alias=True)
        print(json.dumps({"statement": document, "checks": checks, "holds": statement.predicate.holds}))
    else:
        print("\n".join([*page(statement), *(f"  {line}" for line in checks)]))
    return statement.predicate.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise verify",
        "Verify a certificate, a retest or a signed package: signature, digests and available records. Exit codes: 0 valid, and the "
        "property holds; 10, 11, 20 or 30 valid, but the property does not hold; 49 invalid; docs/reference/exit-codes.md.",
    )
    parser.add_argument(
        "certificate",
        metavar="FILE",
        type=Path,
        help="file written by `reprise certify`, `reprise retest`, or `reprise package --key`",
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="Ed25519 public key of the expected signer, PEM (default: the signature is not checked)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _read(text: bytes, *, key: Path | None, where: str) -> tuple[Statement, str]:
    """Return the statement and the state of its signature."""
    _require_signed(text, key=key, where=where)
    payload, signature = read_signed(text, key=key, where=where)
    return Statement.read(payload, where), signature


def _require_signed(text: bytes, *, key: Path | None, where: str) -> None:
    """Raise `CertificateError` if a key is given for an unsigned file; report a signature for which no key is given."""
    if key is not None and not is_envelope(text):
        raise CertificateError(
            f"{where} is unsigned", hint="ask its author for a signed file: --key FILE of the command that wrote it"
        )
    if key is None and is_envelope(text):
        message = "the signature was not verified: pass the public key of the expected signer: --key FILE"
        print(f"reprise: {message}", file=sys.stderr)


def _verify_retest(text: bytes, args: Namespace) -> int:
    """Verify a retest with its evidence, and with the package or the record on this machine; return the verdict's code."""
    path, where = args.certificate, str(args.certificate)
    retest = Retest.read(read_signed(text, key=args.key, where=where, kind=RETEST)[0], where)
    evidence = path.with_name(f"{path.name.removesuffix('.json').removesuffix('.dsse')}.evidence.json")
    subject, about = _subject(retest, path.absolute().parent.parent)
    own = read_bytes(evidence, most=_LARGEST) if evidence.is_file() else None
    _, signature = checked_retest(text, where, key=args.key, evidence=own, subject=subject)
    checks = [f"signature  {signature}", f"evidence   {evidence.name}: as stated", about]
    if retest.verdict not in EXIT_CODES:
        raise CertificateError(
            f"{where} has the verdict {retest.verdict!a}", hint="do not trust this retest; test again: reprise retest"
        )
    if args.json:
        print_json({"retest": retest.model_dump(mode="json"), "checks": checks, "verdict": retest.verdict})
    else:
        print(one_line(f"retest of the {retest.tested} of run {retest.original.run}: {retest.verdict}"))
        print(one_line(f"  by {retest.who} on {retest.host}, {retest.device}, {retest.when:%Y-%m-%d %H:%M} UTC"))
        print("\n".join(f"  {one_line(line)}" for line in checks))
    return VerdictLevel(retest.verdict).code


def _subject(retest: Retest, folder: Path) -> tuple[RetestSubject | None, str]:
    """Return the subject of a retest, with a line about it: the package in `folder`, the run's record, or `None` without the record."""
    if (folder / PACKAGE_DOCUMENT).is_file():
        package = read_package(folder)[0]
        return RetestSubject.of_package(package), f"package    {package.name}: as tested"
    name = f"{retest.original.run}/{ATTEMPTS}/{retest.original.attempt}/{RECORD}"
    if not (file := runs_folder() / name).is_file():
        return None, f"record     {name}: not on this machine, not checked"
    subject = RetestSubject.of_run(load_record(file))
    return replace(subject, package=retest.package), f"record     {name}: as tested"


def _verify_package(text: bytes, args: Namespace) -> int:
    """Verify a signed package and its files; return 0 if its certificate holds, else 20."""
    path = args.certificate
    opened = open_package(path.absolute().parent)
    signature = check_signature(text, opened.package, str(path), key=args.key)
    checks = [f"signature  {signature}", f"files      {len(opened.files)}, each with its digest"]
    holds = opened.certificate.holds
    if args.json:
        print_json({"package": opened.package.digest, "checks": checks, "holds": holds})
    else:
        print(f"package {opened.package.name}: its certificate is {'valid' if holds else 'invalid'}")
        print("\n".join(f"  {one_line(line)}" for line in checks))
    return 0 if holds else VerdictLevel.DIFFERENT.code


def _check(statement: Statement, path: Path) -> list[str]:
    """Check the statement against its folder and the local records. Raise `CertificateError` if they contradict the statement."""
    folder = path.absolute().parent
    if folder.name == FOLDER and is_run_id(folder.parent.name) and folder.parent.name not in statement.runs:
        message = f"{path} is in the folder of run {folder.parent.name}, but certifies {' and '.join(statement.runs)}"
        raise CertificateError(message, hint="do not trust it for this run")
    lines: list[str] = []
    records: list[Record] = []
    for subject in statement.subject:
        file = runs_folder() / subject.name
        if not file.is_file():
            lines.append(f"record     {subject.name}: not on this machine, not checked")
            continue
        records.append(load_record(file))
        statement.check_record(records[-1], read_run_file(file))
        lines.append(f"record     {subject.name}: as certified")
    if len(records) == len(statement.subject):
        statement.check_verdict(records)
        lines.append(f"verdict    computed again from the records: {statement.predicate.verdict}")
    return lines


def page(statement: Statement) -> Iterator[str]:
    """Yield the claim and its result, then the inputs."""
    tested, ingredients = statement.predicate, statement.predicate.ingredients
    yield f"{tested.claim} {'holds' if tested.holds else 'does not hold'}: {_summary(tested)}"
    if tested.lost:
        yield f"  first difference: {_cause(tested, tested.lost)}"
    datasets = (f"{name}@{each.version} {each.content[:19]}" for name, each in ingredients.datasets.items())
    settings = (f"{name}={value}" for name, value in sorted(ingredients.settings.items()) if value is not None)
    image, level = tested.image, ingredients.determinism
    identifier = f"{image.environment or 'no environment'}, {image.reference or image.manifest or image.config}"
    is_unknown = image.known is Knowledge.UNKNOWN
    rows = [
        ("experiment", ingredients.experiment),
        ("runs", ", ".join(statement.runs)),
        ("identity", tested.identity),
        ("level", f"{level.level}, {counted(level.threads, 'thread')}"),
        ("device", f"{tested.device}, {ingredients.device.precision}"),
        (
            "image",
            f"unknown: {image.reason or 'nothing was provided'}" if is_unknown else f"{identifier} ({image.known})",
        ),
        ("code", f"{ingredients.source}, commit {tested.commit}"),
        ("datasets", ", ".join(datasets)),
        ("settings", ", ".join(settings)),
        ("tested", f"{tested.when:%Y-%m-%d %H:%M} UTC, by Reprise {tested.reprise}"),
    ]
    yield from (f"  {line}" for line in columns(rows))


def _summary(tested: Predicate) -> str:
    result = f"equal bit for bit: {', '.join(tested.compared)}" if tested.holds else f"the verdict is {tested.verdict}"
    if tested.claim == "rerun":
        return f"trained twice from the start, {counted(tested.steps, 'step')}; {result}"
    after = f"{counted(tested.observed or 0, 'step')} after that, {tested.steps} in all"
    if tested.devices:
        *counts, most = tested.devices
        trained = f"trained on {', '.join(map(str, counts))} devices, and begun on {most}, killed after step {tested.killed_after}"
        return f"{trained}, resumed on 1 from step {tested.resumed_from}, {after}; {result}"
    return f"killed after step {tested.killed_after}, resumed from step {tested.resumed_from}, {after}; {result}"


def _cause(tested: Predicate, cause: FailureCause) -> str:
    location = f", at step {cause.step}, stream {cause.stream}" if cause.step is not None else ""
    tensor = f", tensor {cause.tensor}" if cause.tensor else ""
    first, second = (
        ("without the stop", "with it") if tested.claim == "resume" else ("in the first run", "in the other")
    )
    values = f": {cause.a} {first}, {cause.b} {second}" if cause.a is not None else ""
    return f"{cause.what}{location}{tensor}{values}"
