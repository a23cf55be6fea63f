"""Retests of saved weights: results of `reprise retest` in the folder of the run or the package, signed if a key is given.

    retests/weights-<date>-<digits>.evidence.json   the metrics and outputs, `Evidence`
    retests/weights-<date>-<digits>.json            the retest, format `reprise.retest/1`, with the digest of the evidence
    retests/weights-<date>-<digits>.dsse.json       or its signed envelope

A retest may be written by another user. So each retest is compared with its evidence, its signature, and the run or package of its folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from trainer.base.digest import Digest, digest_of_bytes
from trainer.base.document import json_value
from trainer.base.errors import CertificateError, RepriseError
from trainer.base.safe_folder import run_root
from trainer.comparison.certificate import PAYLOAD_TYPE, is_envelope, read_signed, sign
from trainer.comparison.retest import FOLDER, FORMAT, Retest
from trainer.comparison.saved_document import SavedDocument, read_files, save_files
from trainer.comparison.verdict import VerdictLevel
from trainer.models.package import MetricComparison, OutputComparison
from trainer.runs.metric_text import is_of_test
from trainer.runs.run_id import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from trainer.base.safe_folder import Root
    from trainer.models.package import Package
    from trainer.runs.record import Record

SIGNED: Final = "application/vnd.reprise.retest+json"
"""The type of a signed retest."""
_NAME: Final = re.compile(r"(weights-[0-9]{8}t[0-9]{6}-[0-9a-f]{8})(\.dsse)?\.json")
_EVIDENCE: Final = re.compile(r"weights-[0-9]{8}t[0-9]{6}-[0-9a-f]{8}\.evidence\.json")
_LARGEST: Final = 1 << 24
_DISTRUST: Final = "do not trust this retest; test again: reprise retest"


class Evidence(SavedDocument):
    """The metrics and the outputs of a test of saved weights, compared with those that the run measured."""

    format: Literal["reprise.retest.evidence/1"] = "reprise.retest.evidence/1"
    run: str = Field(pattern=rf"^{RUN_ID.pattern}$")
    package: Digest | None = None
    verdict: VerdictLevel
    metrics: tuple[MetricComparison, ...]
    outputs: OutputComparison | None = None
    """The outputs of a package, compared with those of the run's net; `None` for a run."""

    def check(self, where: str) -> None:
        """Raise `CertificateError` if the verdict is not that of the metrics."""
        if self.verdict is not (found := verdict_of(self.metrics)):
            message = f"{where} has the verdict {self.verdict}; its metrics give {found}"
            raise CertificateError(message, hint=_DISTRUST)


def verdict_of(metrics: Sequence[MetricComparison]) -> VerdictLevel:
    """Compare a test's metrics with those that the run measured; return the verdict."""
    if not metrics:
        return VerdictLevel.NOT_COMPARABLE
    if all(each.measured == each.recomputed for each in metrics):
        return VerdictLevel.IDENTICAL
    return VerdictLevel.WITHIN_TOLERANCE if all(each.holds for each in metrics) else VerdictLevel.DIFFERENT


def measured_on_test(record: Record) -> dict[str, Any]:
    """Return the metrics that a run measured on its test split."""
    return {name: value for name, value in record.outcome.metrics.items() if is_of_test(name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetestSubject:
    """A run or a package, and the values that a retest of it must state."""

    run: str
    identity: str
    package: str | None
    metrics: Mapping[str, JsonValue]
    """The metrics that the run measured on its test split."""

    @classmethod
    def of_run(cls, record: Record) -> RetestSubject:
        """Return the subject for the retests of a run."""
        return cls(run=record.run, identity=record.identity, package=None, metrics=measured_on_test(record))

    @classmethod
    def of_package(cls, package: Package) -> RetestSubject:
        """Return the subject for the retests of a package."""
        return cls(run=package.run, identity=package.identity, package=package.digest, metrics=package.metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRetest:
    """A file of a retest: the retest and the state of its signature, or the fault of an invalid or altered file."""

    name: str
    retest: Retest | None = None
    signature: str = ""
    fault: str | None = None


def save_weights_retest(
    folder: Path, retest: Retest, evidence: Evidence, *, key: Path | None, opened: Callable[[Path], Root] = run_root
) -> Path:
    """Write a retest and its evidence into the folder of a run or a package, and return the retest's path.

    The retest is signed if `key` is a file with a private key. Raise `CertificateError` if the key cannot be read, and `MachineError` if
    the folder cannot be written.
    """
    text = retest.to_json()
    name = f"weights-{retest.when:%Y%m%dt%H%M%S}-{digest_of_bytes(text).removeprefix('sha256:')[:8]}"
    written = {f"{name}.json": text} if key is None else {f"{name}.dsse.json": sign(text, key=key, kind=SIGNED)}
    files = {f"{name}.evidence.json": evidence.to_json(), **written}
    return save_files(folder, FOLDER, files, opened=opened)


def sign_weights_retest(path: Path, *, key: Path, opened: Callable[[Path], Root] = run_root) -> Path:
    """Replace an unsigned retest with a signed envelope, and return its path. Raise `CertificateError` if the key cannot be read."""
    with opened(path.parents[1]) as root, root.below(FOLDER) as folder:
        signed = sign(folder.read(path.name, most=_LARGEST), key=key, kind=SIGNED)
        name = f"{path.name.removesuffix('.json')}.dsse.json"
        folder.write_whole(name, signed)
        folder.give(name)
        folder.unlink(path.name)
    return path.with_name(name)


def weights_retests(
    folder: Path, subject: RetestSubject, *, key: Path | None, opened: Callable[[Path], Root] = run_root
) -> list[FoundRetest]:
    """Return the retests of saved weights in the folder of a run or a package, each verified. A fault is part of the result."""
    found: list[FoundRetest] = []
    ignored: dict[str, str] = {}
    evidence = dict(
        read_files(
            folder,
            FOLDER,
            lambda text, where: (where.rpartition("/")[2], text),
            most=_LARGEST,
            names=_EVIDENCE,
            opened=opened,
            on_fault=lambda name, fault: ignored.update({name: fault.message}),
        )
    )

    def read(text: bytes, where: str) -> FoundRetest:
        name = where.rpartition("/")[2]
        own = evidence.get(f"{name.removesuffix('.json').removesuffix('.dsse')}.evidence.json")
        retest, signature = checked_retest(text, where, key=key, evidence=own, subject=subject)
        return FoundRetest(name=name, retest=retest, signature=signature)

    def keep(name: str, fault: RepriseError) -> None:
        found.append(FoundRetest(name=name, fault=fault.message))

    found += read_files(folder, FOLDER, read, most=_LARGEST, names=_NAME, opened=opened, on_fault=keep)
    return sorted(found, key=lambda each: each.name)


def checked_retest(
    text: bytes, where: str, *, key: Path | None, evidence: bytes | None, subject: RetestSubject | None
) -> tuple[Retest, str]:
    """Return a retest and the state of its signature.

    Raise `CertificateError` if the retest was altered, is signed by another key, contradicts its evidence, or is not about `subject`.
    """
    payload, signature = read_signed(text, key=key, where=where, kind=SIGNED)
    retest = Retest.read(payload, where)
    if evidence is None:
        raise CertificateError(f"{where} has no evidence beside it", hint=_DISTRUST)
    if (digest := digest_of_bytes(evidence)) != retest.evidence:
        message = f"the evidence of {where} is {digest}; the retest states {retest.evidence}: one of them was altered"
        raise CertificateError(message, hint=_DISTRUST)
    if retest.tested != "training":
        _check_evidence(retest, Evidence.read(evidence, f"the evidence of {where}"), where, subject)
    if subject is not None:
        _check_subject(retest, subject, where)
    return retest, signature


def _check_evidence(retest: Retest, shown: Evidence, where: str, subject: RetestSubject | None) -> None:
    if (shown.run, shown.package, shown.verdict) != (retest.original.run, retest.package, retest.verdict):
        message = f"{where} states {retest.verdict}; its evidence is about run {shown.run}: {shown.verdict}"
        raise CertificateError(message, hint=_DISTRUST)
    if subject is None:
        return
    stated = {each.name: each.measured for each in shown.metrics}
    if stated != dict(subject.metrics):
        name = next(name for name in {**stated, **subject.metrics} if stated.get(name) != subject.metrics.get(name))
        message = (
            f"{where} states that the run measured {name} {stated.get(name)}; it measured {subject.metrics.get(name)}"
        )
        raise CertificateError(message, hint=_DISTRUST)


def _check_subject(retest: Retest, subject: RetestSubject, where: str) -> None:
    found = (retest.original.run, retest.original.identity, retest.package)
    if found != (subject.run, subject.identity, subject.package):
        about = f"package {retest.package}" if retest.package else f"run {retest.original.run}"
        raise CertificateError(f"{where} is about {about}, not about the run or package in its folder", hint=_DISTRUST)


def payload_kind(text: bytes, *, where: str) -> str:
    """Return the media type of a document, from its envelope or its format. Raise `DocumentError` if it is not JSON."""
    content = json_value(text, where=where)
    stated = content if isinstance(content, dict) else {}
    if is_envelope(text):
        return str(stated["payloadType"])
    return SIGNED if stated.get("format") == FORMAT else PAYLOAD_TYPE
