"""Retests of saved weights: signed or unsigned, and the errors for forged and edited retests."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.certified import make_keys
from tests.models.test_package_store import small_package
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import CertificateError, DigestMismatchError
from trainer.base.safe_folder import Root
from trainer.cli.packages import main as packages
from trainer.cli.verify import main as verify
from trainer.comparison.retest import Retest, RunIdentity, local_retests
from trainer.comparison.verdict import VerdictLevel
from trainer.models.package import MetricComparison, Package, write_package
from trainer.models.package_signature import sign_package
from trainer.models.weights_retest import (
    Evidence,
    RetestSubject,
    save_weights_retest,
    sign_weights_retest,
    weights_retests,
)
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.models.weights_retest import FoundRetest


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A package with a retest."""

    folder: Path
    package: Package
    retest: Path

    def found(self, key: Path | None = None) -> FoundRetest:
        """Return the only retest, verified."""
        subject = RetestSubject.of_package(self.package)
        (only,) = weights_retests(self.folder, subject, key=key, opened=Root.at)
        return only

    def edit(self, change: dict[str, Any], *, path: Path | None = None) -> bytes:
        """Change values of a document on the disk, and return its new bytes."""
        path = path or self.retest
        text = json.dumps(json.loads(path.read_bytes()) | change).encode()
        path.write_bytes(text)
        return text

    @property
    def evidence(self) -> Path:
        """The file of the evidence."""
        return next(self.folder.glob("retests/*.evidence.json"))


def metric(recomputed: float, *, measured: float = 0.75) -> MetricComparison:
    return MetricComparison(
        name="test_accuracy", measured=measured, recomputed=recomputed, holds=abs(measured - recomputed) < 1e-3
    )


def written(runs: Path, *, key: Path | None = None, recomputed: float = 0.75) -> Written:
    """Write a package, and a retest in its folder."""
    package, files = small_package()
    folder = write_package(package, files, runs=runs)
    run = RunIdentity(run=package.run, attempt=1, identity=package.identity)
    metrics = (metric(recomputed),)
    verdict = VerdictLevel.IDENTICAL if recomputed == 0.75 else VerdictLevel.DIFFERENT
    evidence = Evidence(run=package.run, package=package.digest, verdict=verdict, metrics=metrics)
    retest = Retest(
        original=run,
        retest=run,
        tested="package",
        package=package.digest,
        when=datetime(2026, 11, 30, 7, 15, tzinfo=UTC),
        who="ann",
        host="lab-3",
        device="a CPU",
        how="here",
        image=Knowledge.UNKNOWN,
        verdict=verdict,
        evidence=digest_of_bytes(evidence.to_json()),
    )
    path = save_weights_retest(folder, retest, evidence, key=key, opened=Root.at)
    return Written(folder=folder, package=package, retest=path)


def test_a_retest_beside_a_package_is_listed_with_the_state_of_its_signature(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    assert written(tmp_path / "a").found().signature == "none: the author is not verified"
    signed = written(tmp_path / "b", key=private)
    assert signed.retest.name.endswith(".dsse.json")
    assert signed.found().signature.endswith("not checked")
    assert signed.found(public).signature.startswith("good, by key")
    assert signed.found(public).retest is not None


def test_an_unsigned_retest_is_signed_afterwards(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    made = written(tmp_path)
    path = sign_weights_retest(made.retest, key=private, opened=Root.at)
    assert (path.is_file(), made.retest.exists()) == (True, False)
    assert made.found(public).signature.startswith("good, by key")


def test_edited_retests_are_reported_as_such(tmp_path: Path) -> None:
    made = written(tmp_path / "verdict", recomputed=0.1)
    made.edit({"verdict": "identical"})
    assert "states identical; its evidence is about run" in str(made.found().fault)
    made = written(tmp_path / "evidence", recomputed=0.1)
    made.edit({"verdict": "identical"}, path=made.evidence)
    assert "one of them was altered" in str(made.found().fault)
    made = written(tmp_path / "gone")
    made.evidence.unlink()
    assert "has no evidence beside it" in str(made.found().fault)
    made = written(tmp_path / "key")
    made.edit({"surprise": 1})
    assert "unknown key 'surprise'" in str(made.found().fault)


def test_forged_evidence_is_reported_as_such(tmp_path: Path) -> None:
    made = written(tmp_path / "verdict", recomputed=0.1)
    text = made.edit({"verdict": "identical"}, path=made.evidence)
    made.edit({"verdict": "identical", "evidence": digest_of_bytes(text)})
    assert "has the verdict identical; its metrics give different" in str(made.found().fault)
    made = written(tmp_path / "metrics", recomputed=0.1)
    forged = [metric(0.1, measured=0.1).model_dump(mode="json")]
    text = made.edit({"verdict": "identical", "metrics": forged}, path=made.evidence)
    made.edit({"verdict": "identical", "evidence": digest_of_bytes(text)})
    assert "states that the run measured test_accuracy 0.1; it measured 0.75" in str(made.found().fault)


def test_a_retest_of_another_package_is_reported_as_such(tmp_path: Path) -> None:
    made = written(tmp_path)
    other = "sha256:" + "2" * 64
    text = made.edit({"package": other}, path=made.evidence)
    made.edit({"package": other, "evidence": digest_of_bytes(text)})
    assert "is about package sha256:2222" in str(made.found().fault)


def test_a_signature_of_another_key_or_of_other_content_is_reported_as_such(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    _, stranger = make_keys(tmp_path / "keys", "stranger")
    made = written(tmp_path, key=private)
    assert "not by the key in" in str(made.found(stranger).fault)
    envelope = json.loads(made.retest.read_bytes())
    other = written(tmp_path / "other", recomputed=0.1)
    payload = json.loads(other.retest.read_bytes())
    made.edit(
        {"payload": base64.b64encode(json.dumps(payload).encode()).decode(), "signatures": envelope["signatures"]}
    )
    assert "was altered" in str(made.found(public).fault)


def test_a_retest_of_saved_weights_does_not_count_as_a_rerun(tmp_path: Path) -> None:
    made = written(tmp_path)
    run = tmp_path / made.package.run
    made.folder.rename(run)
    document = next(each for each in run.glob("retests/weights-*.json") if "evidence" not in each.name)
    document.rename(document.with_name(f"{made.package.run}.json"))
    assert local_retests(run) == []


def test_packages_show_lists_retests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = make_keys(tmp_path / "keys")
    made = written(tmp_path, key=private)
    assert packages(["show", str(made.folder)]) == 0
    out = capsys.readouterr().out
    assert "signature   none: the author is not verified" in out
    assert "retests     identical on lab-3, 2026-11-30, by ann; signature by key" in out
    sign_package(made.folder, made.package, key=private)
    assert packages(["show", str(made.folder), "--key", str(public), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["signature"].startswith("good, by key")
    assert (shown["retests"][0]["host"], shown["retests"][0]["verdict"]) == ("lab-3", "identical")
    with pytest.raises(CertificateError, match="is not a readable public key"):
        packages(["show", str(made.folder), "--key", str(private)])
    made.retest.write_bytes(made.retest.read_bytes()[:-9])
    assert packages(["show", str(made.folder)]) == 0
    assert "retests     NOT VALID: " in capsys.readouterr().out


def test_the_signature_of_another_package_is_not_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = make_keys(tmp_path / "keys")
    made = written(tmp_path)
    sign_package(made.folder, made.package.model_copy(update={"golden": 1}), key=private)
    packages(["show", str(made.folder), "--key", str(public)])
    assert "signature   NOT VALID: " in capsys.readouterr().out
    with pytest.raises(CertificateError, match="is the signature of package"):
        verify([str(made.folder / "package.dsse.json"), "--key", str(public)])


def test_verify_checks_a_retest_and_a_signed_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = make_keys(tmp_path / "keys")
    made = written(tmp_path, key=private, recomputed=0.1)
    sign_package(made.folder, made.package, key=private)
    assert verify([str(made.retest), "--key", str(public)]) == 20
    assert verify([str(made.folder / "package.dsse.json"), "--key", str(public)]) == 0
    out = capsys.readouterr().out
    assert "retest of the package of run" in out
    assert out.count("signature  good, by key") == 2
    (made.folder / "README.md").write_text("edited")
    with pytest.raises(DigestMismatchError, match=r"README\.md is sha256:"):
        verify([str(made.folder / "package.dsse.json"), "--key", str(public)])
    unsigned = written(tmp_path / "unsigned")
    with pytest.raises(CertificateError, match="is unsigned"):
        verify([str(unsigned.retest), "--key", str(public)])
