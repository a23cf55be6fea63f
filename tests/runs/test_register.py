"""The register decides which attempts are the user's own; the content of a run's folder does not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.flushed import record_flushes
from tests.runs.runs import finish_run
from trainer.base.errors import MachineError, NotWritableError
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.register import is_own, own_attempts, register_attempt

if TYPE_CHECKING:
    from trainer.runs.open_run import OpenRun

ME = {os.getuid()}


@pytest.fixture
def run(tmp_path: Path) -> OpenRun:
    run = finish_run(tmp_path / "runs", status=RunStatus.PREEMPTED)
    register_attempt(run.folder)
    return run


def is_owned(run: OpenRun, users: set[int] = ME) -> bool:
    return is_own(run.folder, runs=run.folder.parents[2], users=users)


def test_only_registered_attempts_belong_to_the_user(run: OpenRun) -> None:
    folder = run.folder.parents[1]
    assert is_owned(run)
    again = open_run(folder, ingredients=run.record.ingredients, circumstances=run.record.circumstances)
    again.close(Outcome(status=RunStatus.PREEMPTED))
    assert own_attempts(folder, runs=folder.parent, users=ME) == [1]


@pytest.mark.parametrize("key", ["token", "identity"])
def test_an_attempt_with_another_claim_is_not_registered(run: OpenRun, key: str) -> None:
    path = run.folder / "claim.json"
    claim = json.loads(path.read_bytes())
    claim[key] = claim[key][:-1] + ("0" if claim[key][-1] != "0" else "1")
    path.write_text(json.dumps(claim))
    assert not is_owned(run)


def test_an_attempt_whose_record_names_another_source_is_not_registered(run: OpenRun) -> None:
    path = run.folder / "record.json"
    path.write_text(path.read_text().replace(run.record.ingredients.source, "sha256:" + "0" * 64))
    assert not is_owned(run)


def test_a_copy_of_a_run_is_not_registered(run: OpenRun, tmp_path: Path) -> None:
    folder = run.folder.parents[1]
    shutil.copytree(folder, folder.with_name("20260101t000000-aaaaaa"))
    shutil.copytree(folder, tmp_path / "other" / folder.name)
    runs = folder.parent
    assert not is_own(runs / "20260101t000000-aaaaaa/attempts/1", runs=runs, users=ME)
    assert not is_own(tmp_path / "other" / folder.name / "attempts/1", runs=runs, users=ME)


def test_an_entry_of_another_user_does_not_count(run: OpenRun) -> None:
    mine = run.folder.parents[2] / f".own-{os.getuid()}"
    other = mine.with_name(".own-4242")
    mine.rename(other)
    assert not is_owned(run)
    mine.symlink_to(other)
    assert not is_owned(run)
    mine.unlink()
    other.rename(mine)
    (entry,) = mine.iterdir()
    entry.rename(kept := mine.parent / "kept")
    entry.symlink_to(kept)
    assert not is_owned(run)


def test_a_register_that_is_a_link_is_not_written(run: OpenRun, tmp_path: Path) -> None:
    mine = run.folder.parents[2] / f".own-{os.getuid()}"
    shutil.rmtree(mine)
    (tmp_path / "victim").mkdir()
    mine.symlink_to(tmp_path / "victim")
    with pytest.raises(MachineError, match=mine.name):
        register_attempt(run.folder)
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("name", ["claim.json", "record.json"])
@pytest.mark.parametrize("text", [None, "", "{}"])
def test_an_attempt_with_unreadable_documents_is_not_registered(run: OpenRun, name: str, text: str | None) -> None:
    (run.folder / name).unlink() if text is None else (run.folder / name).write_text(text)
    assert not is_owned(run)


def test_each_attempt_has_an_entry_of_its_own(run: OpenRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = finish_run(run.folder.parents[2])
    found = record_flushes(monkeypatch, tmp_path)
    register_attempt(other.folder)
    mine = run.folder.parents[2] / f".own-{os.getuid()}"
    entries = {path.name: path.stat() for path in mine.iterdir()}
    assert set(entries) == {f"{each.record.run}-1.json" for each in (run, other)}
    assert found == [("file", entries[f"{other.record.run}-1.json"].st_size), ("folder", 0)]
    assert {each.st_mode & 0o777 for each in entries.values()} == {0o644}
    assert mine.stat().st_mode & 0o777 == 0o755
    assert is_owned(run)
    assert is_owned(other)


def test_an_entry_that_is_a_pipe_does_not_block(run: OpenRun) -> None:
    (entry,) = (run.folder.parents[2] / f".own-{os.getuid()}").iterdir()
    entry.unlink()
    os.mkfifo(entry)
    assert not is_owned(run)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, which can give files away")
def test_an_entry_counts_only_with_trusted_owners(run: OpenRun) -> None:
    assert is_owned(run, {4242})
    mine = run.folder.parents[2] / ".own-0"
    (entry,) = mine.iterdir()
    os.chown(entry, 4242, 4242)
    assert not is_owned(run)
    os.chown(entry, 0, 0)
    os.chown(mine, 4242, 4242)
    assert not is_owned(run)
    with pytest.raises(NotWritableError, match=r"\.own-0 belongs to user 4242; expected 0"):
        register_attempt(run.folder)


def test_no_file_of_the_register_stays_open(run: OpenRun) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    register_attempt(run.folder)
    assert is_owned(run)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
