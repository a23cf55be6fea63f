"""Certificates: the content of statements, and statements that are rejected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.certified import make_statement, make_traced_run
from trainer.base.errors import CertificateError, DocumentError, RepriseError
from trainer.comparison.certificate import PREDICATE, STATEMENT, Statement
from trainer.runs.record import Outcome, RunStatus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rerun_statement(tmp_path: Path) -> Statement:
    return make_statement(make_traced_run(tmp_path / "runs", 0.5, 0.4), make_traced_run(tmp_path / "runs", 0.5, 0.4))


def test_a_certificate_is_an_in_toto_statement_and_round_trips(rerun_statement: Statement) -> None:
    text = rerun_statement.to_json()
    document = json.loads(text)
    assert (document["_type"], document["predicateType"]) == (STATEMENT, PREDICATE)
    assert set(document) == {"_type", "subject", "predicateType", "predicate"}
    assert all(
        set(subject) == {"name", "digest"} and set(subject["digest"]) == {"sha256"} for subject in document["subject"]
    )
    assert Statement.read(text, "there") == rerun_statement


def edit_statement(stated: Statement, **change: Any) -> bytes:
    document = json.loads(stated.to_json())
    document["predicate"] |= change
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"identity": f"sha256:{'0' * 64}"}, CertificateError),
        ({"verdict": "different"}, CertificateError),
        ({"holds": False}, CertificateError),
        ({"lost": {"what": "x"}}, CertificateError),
        ({"claim": "speed"}, DocumentError),
        ({"extra": 1}, DocumentError),
        ({"format": "reprise.certificate/2"}, DocumentError),
    ],
)
def test_a_contradictory_statement_is_rejected(
    rerun_statement: Statement, change: dict[str, Any], kind: type[RepriseError]
) -> None:
    with pytest.raises(kind):
        Statement.read(edit_statement(rerun_statement, **change), "there")


@pytest.mark.parametrize(
    "change", [{"_type": "https://in-toto.io/Statement/v0.1"}, {"predicateType": "https://slsa.dev/provenance/v1"}]
)
def test_another_type_of_statement_is_rejected(rerun_statement: Statement, change: dict[str, str]) -> None:
    document = json.loads(rerun_statement.to_json()) | change
    with pytest.raises(DocumentError):
        Statement.read(json.dumps(document).encode(), "there")


def test_a_record_is_compared_with_the_certificate(rerun_statement: Statement, tmp_path: Path) -> None:
    mine = make_traced_run(tmp_path / "runs", 0.5, 0.4)
    theirs = make_statement(mine, make_traced_run(tmp_path / "runs", 0.5, 0.4))
    theirs.check_record(mine.record, mine.record.to_json())
    with pytest.raises(CertificateError, match="the certificate is for"):
        theirs.check_record(mine.record, mine.record.to_json() + b" ")
    with pytest.raises(CertificateError, match="not about"):
        rerun_statement.check_record(mine.record, mine.record.to_json())


def test_the_verdict_must_follow_from_the_records(rerun_statement: Statement, tmp_path: Path) -> None:
    one = make_traced_run(tmp_path / "runs", 0.5, 0.4).record
    rerun_statement.check_verdict([one, one])
    other = one.model_copy(
        update={
            "outcome": Outcome(
                status=RunStatus.COMPLETED, metrics={"test_loss": 0.6}, weights=one.outcome.weights, steps=2
            )
        }
    )
    with pytest.raises(CertificateError, match="the records give different"):
        rerun_statement.check_verdict([one, other])
