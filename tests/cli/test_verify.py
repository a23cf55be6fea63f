"""`reprise verify`, as it is typed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.certified import again, keys, statement, traced
from trainer.base.errors import CertificateError
from trainer.cli.verify import main
from trainer.comparison.certificate import sign
from trainer.comparison.certify import Kill, save_certificate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's runs."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def signed(runs: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A signed certificate beside its run, and the public key."""
    private, public = keys(tmp_path / "keys")
    stated = statement(traced(runs, 0.5), traced(runs, 0.5))
    return save_certificate(stated, sign(stated.to_json(), key=private), runs=runs)[0], public


def test_a_good_certificate_is_said_to_be_good(signed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Signature, both records, the verdict computed again; exit 0."""
    path, public = signed
    assert main([str(path), "--key", str(public)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("rerun holds: trained twice from the start")
    assert out.count("as certified") == 2
    assert "good, by key" in out
    assert "computed again from the records: identical" in out


def test_an_unsigned_one_says_so(runs: Path, signed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Its digests are checked all the same; with a key it is refused."""
    path = save_certificate(statement(traced(runs, 0.5), traced(runs, 0.5)), None, runs=runs)[0]
    assert main([str(path)]) == 0
    assert "the author is not verified" in capsys.readouterr().out
    with pytest.raises(CertificateError, match="is unsigned"):
        main([str(path), "--key", str(signed[1])])


def test_a_signature_nobody_asked_about_is_not_called_good(
    signed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a key nothing is known of it."""
    main([str(signed[0])])
    assert "not checked" in capsys.readouterr().out


def test_a_certificate_beside_another_run_is_refused(runs: Path, signed: tuple[Path, Path]) -> None:
    """It may be good, of what it is about."""
    elsewhere = traced(runs, 0.5)
    assert elsewhere.folder
    (elsewhere.folder / "certificates").mkdir()
    copied = shutil.copy(signed[0], elsewhere.folder / "certificates")
    with pytest.raises(CertificateError, match="is in the folder of run"):
        main([str(copied), "--key", str(signed[1])])


def test_a_record_that_was_changed_is_noticed(runs: Path, signed: tuple[Path, Path]) -> None:
    """By its digest, whoever changed it; a record that is not on this machine is reported as unchecked."""
    record = next(runs.glob("*/attempts/1/record.json"))
    record.write_bytes(record.read_bytes().replace(b'"test_loss":0.5', b'"test_loss":0.1'))
    with pytest.raises(CertificateError, match="was given for"):
        main([str(signed[0]), "--key", str(signed[1])])


def test_away_from_its_runs_only_the_signature_is_checked(
    tmp_path: Path, runs: Path, signed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The records are reported as not on this machine."""
    path = shutil.copy(signed[0], tmp_path)
    shutil.rmtree(runs)
    assert main([str(path), "--key", str(signed[1]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [line for line in told["checks"] if "not on this machine" in line] == told["checks"][1:]


def test_one_that_states_a_failure_exits_with_its_verdict(runs: Path) -> None:
    """Good as a certificate; what it states is that the property does not hold."""
    stated = statement(traced(runs, 0.5, 0.3), again(traced(runs, 0.4, 0.3)), kill=Kill(after=1, resumed_from=1))
    assert not stated.predicate.holds
    assert main([str(save_certificate(stated, None, runs=runs)[0])]) == 20


def test_an_older_one_in_which_no_step_followed_the_resume_shows_nothing(runs: Path, tmp_path: Path) -> None:
    """Such were written before the steps were looked at: it is never said to hold."""
    stated = statement(traced(runs, 0.5, 0.4), again(traced(runs, 0.5, 0.4)), kill=Kill(after=1, resumed_from=1))
    document = json.loads(stated.to_json())
    document["predicate"] |= {"killed_after": 2, "resumed_from": 2}
    (tmp_path / "old.json").write_text(json.dumps(document))
    with pytest.raises(CertificateError, match=r"no step followed the resume \(from step 2 of 2\)"):
        main([str(tmp_path / "old.json")])


def test_its_steps_must_be_those_of_the_records(runs: Path, tmp_path: Path) -> None:
    stated = statement(traced(runs, 0.5, 0.4), traced(runs, 0.5, 0.4))
    document = json.loads(stated.to_json())
    document["predicate"]["steps"] = 200
    (tmp_path / "more.json").write_text(json.dumps(document))
    with pytest.raises(CertificateError, match="says 200 steps; the record says 2"):
        main([str(tmp_path / "more.json")])
