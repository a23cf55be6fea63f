"""The command `reprise verify`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.certified import make_keys, make_statement, make_traced_run, resume_copy
from trainer.base.errors import CertificateError
from trainer.cli.verify import main
from trainer.comparison.certificate import sign
from trainer.comparison.certify import Kill, save_certificate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def signed_certificate(runs: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a signed certificate in the folder of its run, and the public key."""
    private, public = make_keys(tmp_path / "keys")
    stated = make_statement(make_traced_run(runs, 0.5), make_traced_run(runs, 0.5))
    return save_certificate(stated, sign(stated.to_json(), key=private), runs=runs)[0], public


def test_a_valid_certificate_is_reported_as_valid(
    signed_certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, public = signed_certificate
    assert main([str(path), "--key", str(public)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("rerun holds: trained twice from the start")
    assert out.count("as certified") == 2
    assert "good, by key" in out
    assert "computed again from the records: identical" in out


def test_an_unsigned_certificate_is_reported_as_unsigned(
    runs: Path, signed_certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_certificate(make_statement(make_traced_run(runs, 0.5), make_traced_run(runs, 0.5)), None, runs=runs)[0]
    assert main([str(path)]) == 0
    assert "the author is not verified" in capsys.readouterr().out
    with pytest.raises(CertificateError, match="is unsigned"):
        main([str(path), "--key", str(signed_certificate[1])])


def test_a_signature_is_not_called_valid_without_a_key(
    signed_certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(signed_certificate[0])])
    assert "not checked" in capsys.readouterr().out


def test_a_certificate_of_another_run_is_rejected(runs: Path, signed_certificate: tuple[Path, Path]) -> None:
    elsewhere = make_traced_run(runs, 0.5)
    assert elsewhere.folder
    (elsewhere.folder / "certificates").mkdir()
    copied = shutil.copy(signed_certificate[0], elsewhere.folder / "certificates")
    with pytest.raises(CertificateError, match="is in the folder of run"):
        main([str(copied), "--key", str(signed_certificate[1])])


def test_a_changed_record_is_detected(runs: Path, signed_certificate: tuple[Path, Path]) -> None:
    record = next(runs.glob("*/attempts/1/record.json"))
    record.write_bytes(record.read_bytes().replace(b'"test_loss":0.5', b'"test_loss":0.1'))
    with pytest.raises(CertificateError, match="the certificate is for"):
        main([str(signed_certificate[0]), "--key", str(signed_certificate[1])])


def test_without_its_runs_only_the_signature_is_checked(
    tmp_path: Path, runs: Path, signed_certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copy(signed_certificate[0], tmp_path)
    shutil.rmtree(runs)
    assert main([str(path), "--key", str(signed_certificate[1]), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [line for line in document["checks"] if "not on this machine" in line] == document["checks"][1:]


def test_a_certificate_of_a_failure_exits_with_its_verdict(runs: Path) -> None:
    stated = make_statement(
        make_traced_run(runs, 0.5, 0.3),
        resume_copy(make_traced_run(runs, 0.4, 0.3)),
        kill=Kill(after=1, resumed_from=1),
    )
    assert not stated.predicate.holds
    assert main([str(save_certificate(stated, None, runs=runs)[0])]) == 20


def test_an_old_certificate_without_a_step_after_the_resume_is_no_evidence(runs: Path, tmp_path: Path) -> None:
    stated = make_statement(
        make_traced_run(runs, 0.5, 0.4),
        resume_copy(make_traced_run(runs, 0.5, 0.4)),
        kill=Kill(after=1, resumed_from=1),
    )
    document = json.loads(stated.to_json())
    document["predicate"] |= {"killed_after": 2, "resumed_from": 2}
    (tmp_path / "old.json").write_text(json.dumps(document))
    with pytest.raises(CertificateError, match=r"no step followed the resume \(from step 2 of 2\)"):
        main([str(tmp_path / "old.json")])


def test_the_steps_of_a_certificate_must_match_the_records(runs: Path, tmp_path: Path) -> None:
    stated = make_statement(make_traced_run(runs, 0.5, 0.4), make_traced_run(runs, 0.5, 0.4))
    document = json.loads(stated.to_json())
    document["predicate"]["steps"] = 200
    (tmp_path / "more.json").write_text(json.dumps(document))
    with pytest.raises(CertificateError, match="states 200 steps; the record states 2"):
        main([str(tmp_path / "more.json")])
