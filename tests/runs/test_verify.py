"""Files that differ from the record are reported, with a hint that names the store with an intact copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run, start_run
from trainer.base.errors import DigestMismatchError
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import record_of
from trainer.runs.verify import require_intact
from trainer.source.capture import ARCHIVE
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_damaged_file_is_named_and_pulled_again(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    publish_run(run.folder.parents[1], store)
    for name in ("metrics.jsonl", "checkpoints/last.ckpt"):
        path = run.folder / name
        good = path.read_bytes()
        for harm in (b"W" + good[1:], good + b"more", good[:-1], None):
            path.unlink() if harm is None else path.write_bytes(harm)
            with pytest.raises(DigestMismatchError, match=rf"{name} is (damaged|missing)") as error:
                require_intact(run.folder, run.record)
            assert f"memory: has an intact copy: `reprise runs pull {run.record.run}`" in str(error.value.hint)
            pull_run(run.record.run, store, runs=tmp_path / "runs")
            assert path.read_bytes() == good


@pytest.mark.parametrize("name", ["log.txt", "rank-1.txt"])
def test_a_console_log_may_get_lines_after_the_record_was_closed(tmp_path: Path, name: str) -> None:
    run = start_run(tmp_path / "runs")
    log = run.folder / name
    log.write_text("epoch 1\n")
    run.close(Outcome(status=RunStatus.COMPLETED))
    log.write_text("epoch 1\npublished\n")
    assert require_intact(run.folder, run.record) == 1
    log.write_text("epoch 2\npublished\n")
    with pytest.raises(DigestMismatchError, match="is damaged"):
        require_intact(run.folder, run.record)


def test_an_edited_source_bundle_is_named(tmp_path: Path) -> None:
    run = finish_run(tmp_path / "runs")
    publish_run(run.folder.parents[1], MemoryStore())
    bundle = run.folder.parents[1] / ARCHIVE
    bundle.write_bytes(bundle.read_bytes() + b"more")
    with pytest.raises(DigestMismatchError, match=f"{bundle} differs from what was published") as error:
        require_intact(run.folder, run.record)
    assert f"`reprise runs pull {run.record.run}` restores the file" in str(error.value.hint)


def test_a_run_in_no_store_is_reported(tmp_path: Path) -> None:
    run = finish_run(tmp_path / "runs")
    (run.folder / "metrics.jsonl").write_text("")
    with pytest.raises(DigestMismatchError) as error:
        require_intact(run.folder, run.record)
    assert "in no store" in str(error.value.hint)


def test_a_record_edited_after_publishing_is_named(tmp_path: Path) -> None:
    run = finish_run(tmp_path / "runs")
    publish_run(run.folder.parents[1], MemoryStore())
    path = run.folder / "record.json"
    path.write_bytes(path.read_bytes().replace(b"test_accuracy", b"test_accuracies"))
    with pytest.raises(
        DigestMismatchError, match=f"{path} was changed after the run was published to memory:"
    ) as caught:
        record_of(run.folder.parents[1])
    assert f"runs pull {run.record.run}" in str(caught.value.hint)


def test_an_attempt_without_a_record_is_skipped(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs", status=RunStatus.PREEMPTED), MemoryStore()
    home = run.folder.parents[1]
    (home / "attempts/2").mkdir()
    assert record_of(home).attempt == 1
    third = open_run(home, ingredients=run.record.ingredients, circumstances=run.record.circumstances)
    third.close(Outcome(status=RunStatus.COMPLETED))
    (home / "attempts/4").mkdir()
    assert len(publish_run(home, store)) == 2
    pulled = pull_run(run.record.run, store, runs=tmp_path / "there")
    assert [record.attempt for record in pulled] == [1, 3]
