"""`reprise runs export`: from this machine, from the store, from a package; the options of each format."""

from __future__ import annotations

import base64
import json
import shutil
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest

from tests.certified import make_keys
from tests.comparison.compared import make_run
from tests.models.test_package_store import small_package
from tests.runs.runs import finish_run, start_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import CertificateError, RepriseError, RunError, RunNotFoundError, UsageError
from trainer.cli.compare import main as compare
from trainer.cli.runs import main
from trainer.comparison.certificate import verify_envelope
from trainer.models.package import RECORD, PackageFile, write_package
from trainer.runs.record import Outcome, RunStatus

if TYPE_CHECKING:
    from pathlib import Path


def export(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main(["export", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def store(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert not runs.exists()
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def test_provenance_on_stdout_is_that_in_a_file(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs)
    document = export(capsys, "latest", "--as", "slsa")
    assert document["predicate"]["runDetails"]["metadata"]["invocationId"] == run.record.run
    out = tmp_path / "provenance.json"
    result = export(capsys, str(run.folder.parents[1]), "--as", "slsa", "--output", str(out), "--json")
    assert json.loads(out.read_bytes()) == document
    assert result == {
        "run": run.record.run,
        "as": "slsa",
        "path": str(out),
        "sha256": digest_of_bytes(out.read_bytes()),
    }


def test_signed_provenance_is_an_envelope_that_the_public_key_verifies(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_run(runs)
    private, public = make_keys(tmp_path)
    envelope = export(capsys, "latest", "--as", "slsa", "--key", str(private))
    payload, _ = verify_envelope(json.dumps(envelope).encode(), key=public, where="there")
    assert payload == base64.b64decode(envelope["payload"])
    assert json.loads(payload) == export(capsys, "latest", "--as", "slsa")


def test_a_bill_of_materials_names_the_model(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(runs)
    document = export(capsys, run.record.run, "--as", "cyclonedx")
    assert document["metadata"]["component"]["version"] == run.record.run


def test_a_run_in_the_store_is_exported_without_its_files(
    runs: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(runs).record.run
    here = export(capsys, run, "--as", "slsa")
    assert main(["publish", run]) == 0
    shutil.rmtree(runs)
    shutil.rmtree(store / "objects")
    assert export(capsys, run[:20], "--as", "slsa") == here
    assert not runs.exists()


@pytest.mark.usefixtures("store")
def test_a_crate_of_a_run_in_the_store_is_pulled_first(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(runs).record.run
    assert main(["publish", run]) == 0
    shutil.rmtree(runs)
    out = tmp_path / "run.zip"
    assert export(capsys, run, "--as", "ro-crate", "--output", str(out), "--json")["path"] == str(out)
    with ZipFile(out) as archive:
        assert {"ro-crate-metadata.json", "source.tar.gz", "attempts/1/record.json"} <= set(archive.namelist())


def test_an_unpacked_crate_is_compared_as_a_run(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(runs).record.run
    assert main(["export", run, "--as", "ro-crate", "--output", str(tmp_path / "crate")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'crate'}\n"
    assert compare([str(tmp_path / "crate"), run]) == 0
    assert "identical" in capsys.readouterr().out


def test_the_record_of_a_package_is_exported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(runs)
    package, files = small_package()
    assert run.attempt
    files[RECORD] = (run.attempt / "record.json").read_bytes()
    listed = [PackageFile(path=path, sha256=digest_of_bytes(body), bytes=len(body)) for path, body in files.items()]
    folder = write_package(package.model_copy(update={"files": tuple(listed)}), files, runs=tmp_path / "elsewhere")
    here = export(capsys, run.record.run, "--as", "slsa")
    assert export(capsys, str(folder), "--as", "slsa")["subject"] == here["subject"]
    with pytest.raises(UsageError, match="is a model package"):
        main(["export", str(folder), "--as", "ro-crate", "--output", str(tmp_path / "crate")])


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ([], UsageError, "--as"),
        (["--as", "spdx"], UsageError, "spdx"),
        (["--as", "ro-crate"], UsageError, "--output is missing"),
        (["--as", "ro-crate", "--output", "{folder}"], UsageError, "exists"),
        (["--as", "ro-crate", "--output", "{folder}/file"], UsageError, "exists"),
        (["--as", "cyclonedx", "--key", "k.pem"], UsageError, "--key signs provenance"),
        (["--as", "slsa", "--key", "missing.pem"], CertificateError, "missing.pem"),
        (["--as", "cyclonedx"], RunError, "no weights"),
    ],
)
def test_invalid_options_and_runs_without_weights_are_errors_with_a_hint(
    runs: Path, tmp_path: Path, words: list[str], kind: type[RepriseError], message: str
) -> None:
    start_run(runs).close(Outcome(status=RunStatus.COMPLETED))
    (tmp_path / "file").touch()
    with pytest.raises(kind, match=message) as error:
        main(["export", "latest", *(word.format(folder=tmp_path) for word in words)])
    assert error.value.hint


def test_an_unknown_run_suggests_the_nearest(runs: Path) -> None:
    run = finish_run(runs).record.run
    with pytest.raises(RunNotFoundError) as error:
        main(["export", run[:-1] + "1", "--as", "slsa"])
    assert run in str(error.value.hint)
