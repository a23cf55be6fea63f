"""Crates on disk are complete, equal for equal runs, and verified while they are written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tests.runs.runs import finish_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, MachineError
from trainer.runs.exports.crate_file import write_crate
from trainer.runs.exports.exported_run import run_in_folder
from trainer.runs.run import record_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finish_run(tmp_path / "runs").folder.parents[1]


def test_a_crate_has_every_file_with_its_digest_and_is_a_run_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "crate"
    write_crate(run_in_folder(run), run, out=out)
    graph = json.loads((out / "ro-crate-metadata.json").read_bytes())["@graph"]
    described = {each["@id"]: each["sha256"] for each in graph if "contentSize" in each}
    bodies = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del bodies["ro-crate-metadata.json"]
    assert {path: digest_of_bytes(body)[7:] for path, body in bodies.items()} == described
    assert record_of(out) == record_of(run)
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {0o644}


def test_equal_runs_give_equal_zip_files(run: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.zip", tmp_path / "other.ZIP"
    for out in (one, other):
        write_crate(run_in_folder(run), run, out=out)
    assert one.read_bytes() == other.read_bytes()
    with ZipFile(one) as archive:
        assert archive.testzip() is None
        assert archive.read("attempts/1/record.json") == (run / "attempts/1/record.json").read_bytes()


def test_a_log_that_has_grown_is_copied_as_recorded(run: Path, tmp_path: Path) -> None:
    with (run / "attempts/1/metrics.jsonl").open("a") as log:
        log.write("a late line")
    write_crate(run_in_folder(run), run, out=tmp_path / "crate")
    assert (tmp_path / "crate/attempts/1/metrics.jsonl").read_bytes() == b'{"step":1}\n'


@pytest.mark.parametrize("name", ["crate", "crate.zip"])
@pytest.mark.parametrize("harm", ["removed", "altered"])
def test_nothing_is_left_of_a_crate_whose_file_is_damaged(run: Path, tmp_path: Path, name: str, harm: str) -> None:
    found, file = run_in_folder(run), run / "attempts/1/checkpoints/last.ckpt"
    if harm == "removed":
        file.unlink()
    else:
        file.write_bytes(b"x" * file.stat().st_size)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DigestMismatchError, match=r"last\.ckpt is (missing|damaged)") as error:
        write_crate(found, run, out=tmp_path / name)
    assert "runs pull" in str(error.value.hint)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_does_not_exist_is_named(run: Path, tmp_path: Path) -> None:
    for name in ("nowhere/crate", "nowhere/crate.zip"):
        with pytest.raises(MachineError, match="nowhere"):
            write_crate(run_in_folder(run), run, out=tmp_path / name)
