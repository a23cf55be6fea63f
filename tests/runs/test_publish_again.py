"""Publishing unusual attempts: without a record, claim or source, with logs that have grown, or changed since publication."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run, start_run
from tests.runs.test_pull_again import ProgressRecorder
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, RunError, UnsafePathError
from trainer.runs import publish as publishing
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run, source_of
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.seal import claim_key, sealed_key
from trainer.source.capture import ARCHIVE
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.open_run import OpenRun


@pytest.fixture
def run(tmp_path: Path) -> OpenRun:
    return finish_run(tmp_path / "runs")


def run_root(run: OpenRun) -> Path:
    return run.folder.parents[1]


def test_publishing_reports_its_total_size(run: OpenRun) -> None:
    result, source = ProgressRecorder(), source_of(run_root(run))
    publish_run(run_root(run), MemoryStore(), progress=result)
    assert source is not None
    size = sum(file.size for file in run.record.outcome.files) + source.size
    assert (result.total, result.seen, result.ended, result.lines) == (size, size, 1, [])


@pytest.mark.parametrize("has_claim", [True, False])
def test_the_number_of_an_attempt_without_a_record_is_claimed(run: OpenRun, *, has_claim: bool) -> None:
    (run.folder / "record.json").unlink()
    if not has_claim:
        (run.folder / "claim.json").unlink()
    second = open_run(run_root(run), ingredients=run.record.ingredients, circumstances=run.record.circumstances)
    second.close(Outcome(status=RunStatus.COMPLETED))
    store = MemoryStore()
    assert len(publish_run(run_root(run), store)) == 1
    claim = json.loads(b"".join(store.read(claim_key(run.record.run, 1))))
    assert (claim["attempt"], claim["token"] != "0" * 32) == (1, has_claim)
    assert store.size(sealed_key(run.record.run, 1)) is None
    assert store.size(sealed_key(run.record.run, 2)) is not None


def test_an_attempt_without_a_claim_is_not_published(run: OpenRun) -> None:
    (run.folder / "claim.json").unlink()
    with pytest.raises(RunError, match=r"claim\.json is missing"):
        publish_run(run_root(run), store := MemoryStore())
    assert list(store.keys("")) == []


def test_a_run_without_a_source_is_published_without_one(run: OpenRun) -> None:
    (run_root(run) / ARCHIVE).unlink()
    publish_run(run_root(run), store := MemoryStore())
    assert json.loads(b"".join(store.read(sealed_key(run.record.run, 1))))["source"] is None


def test_a_file_that_grew_is_published_as_recorded(run: OpenRun) -> None:
    """A log may grow after the record is closed, but a changed byte within the recorded size is detected."""
    path, before = run.folder / "metrics.jsonl", (run.folder / "metrics.jsonl").read_bytes()
    path.write_bytes(before + b"more")
    publish_run(run_root(run), store := MemoryStore())
    assert b"".join(store.read(object_key(digest_of_bytes(before)))) == before
    path.write_bytes(b"?" + before[1:] + b"more")
    with pytest.raises(DigestMismatchError, match=r"metrics\.jsonl differs from the file that the record lists"):
        publish_run(run_root(run), MemoryStore())


@pytest.mark.parametrize(("most", "is_cut"), [(11, True), (10, False)])
def test_a_large_file_that_grew_is_damaged(
    run: OpenRun, monkeypatch: pytest.MonkeyPatch, most: int, *, is_cut: bool
) -> None:
    monkeypatch.setattr(publishing, "_LOG", most)
    path = run.folder / "metrics.jsonl"
    assert path.stat().st_size == 11
    path.write_bytes(path.read_bytes() + b"more")
    with nullcontext() if is_cut else pytest.raises(DigestMismatchError, match="differs from the file"):
        publish_run(run_root(run), MemoryStore())


def test_an_unwritable_note_is_reported(run: OpenRun) -> None:
    progress = ProgressRecorder()
    (run.folder / "published.json").mkdir()
    publish_run(run_root(run), MemoryStore(), progress=progress)
    (line,) = progress.lines
    assert line.startswith("published to memory:, but could not write published.json: ")


def test_a_link_in_place_of_a_file_is_not_published(run: OpenRun, tmp_path: Path) -> None:
    path = run.folder / "metrics.jsonl"
    path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "aside")
    with pytest.raises(UnsafePathError, match="is a symbolic link"):
        publish_run(run_root(run), MemoryStore())


def test_the_error_names_the_side_that_changed(run: OpenRun, tmp_path: Path) -> None:
    store = MemoryStore()
    publish_run(run_root(run), store)
    shutil.copytree(run_root(run), aside := tmp_path / "aside" / run_root(run).name)
    (run_root(run) / ARCHIVE).unlink()
    with pytest.raises(DigestMismatchError, match="the local run was changed after it was published") as caught:
        publish_run(run_root(run), store)
    assert f"`reprise runs pull {run.record.run}` restores" in str(caught.value.hint)
    (aside / ARCHIVE).unlink()
    (aside / "attempts/1/published.json").unlink()
    with pytest.raises(DigestMismatchError, match="has no note of a publication") as caught:
        publish_run(aside, store)
    assert "one of them was changed" in str(caught.value.hint)


def test_a_running_or_killed_run_is_rejected_with_a_hint(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    with pytest.raises(RunError, match="still running") as caught:
        publish_run(run_root(run), MemoryStore())
    assert f"`reprise runs publish {run.record.run} --abandoned`" in str(caught.value.hint)
