"""Files that differ from the record are reported, with a hint that names the store with an intact copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run
from trainer.base.errors import DigestMismatchError
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run, require_intact
from trainer.runs.pull import pull_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import record_of
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_damaged_file_is_named_and_pulled_again(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    publish_run(run.folder.parents[1], store)
    log = run.folder / "metrics.jsonl"
    log.write_text(log.read_text() + "more")
    assert require_intact(run.folder, run.record) == 2
    weights = run.folder / "checkpoints/last.ckpt"
    good = weights.read_bytes()
    for harm in (b"W" + good[1:], None):
        weights.unlink() if harm is None else weights.write_bytes(harm)
        with pytest.raises(DigestMismatchError, match=r"last\.ckpt is") as error:
            require_intact(run.folder, run.record)
        assert f"memory: has an intact copy: `reprise runs pull {run.record.run}`" in str(error.value.hint)
        pull_run(run.record.run, store, runs=tmp_path / "runs")
        assert weights.read_bytes() == good


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
