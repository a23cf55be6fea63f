"""If a record or a seal in the store was edited, no command shows the edited values, and the error states which of the two was edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run
from trainer.base.errors import DigestMismatchError
from trainer.runs.list import local_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import EDITED, pull_run
from trainer.runs.run import RECORD, load_record, read_publication
from trainer.runs.seal import sealed_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.open_run import OpenRun


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run(tmp_path: Path, store: MemoryStore) -> OpenRun:
    run = finish_run(tmp_path / "runs")
    publish_run(run.folder.parents[1], store)
    return run


def edit(text: bytes) -> bytes:
    assert b'"steps":10' in text
    return text.replace(b'"steps":10', b'"steps":99')


def test_an_edited_record_is_not_shown(run: OpenRun, tmp_path: Path) -> None:
    """`show`, `ls`, `compare` and `report` read records through `load_record`."""
    path = run.folder / RECORD
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(DigestMismatchError, match="changed after the run was published"):
        load_record(path)
    listed = local_run(tmp_path / "runs", run.record.run)
    assert listed.record is None
    assert "changed after the run was published" in str(listed.fault)


def test_pulling_restores_an_edited_record(run: OpenRun, store: MemoryStore, tmp_path: Path) -> None:
    path = run.folder / RECORD
    good = path.read_bytes()
    path.write_bytes(edit(good))
    pull_run(run.record.run, store, runs=tmp_path / "runs")
    assert (path.read_bytes(), (run.folder / EDITED).read_bytes()) == (good, edit(good))
    assert load_record(path) == run.record


def test_an_edited_seal_is_attributed_to_the_store(run: OpenRun, store: MemoryStore, tmp_path: Path) -> None:
    """Publishing again and pulling report the edited seal, and do not change local files."""
    key = sealed_key(run.record.run, 1)
    store._objects[key] = edit(store._objects[key])
    before = (run.folder / RECORD).read_bytes()
    for action in (
        lambda: publish_run(run.folder.parents[1], store),
        lambda: pull_run(run.record.run, store, runs=tmp_path / "runs"),
    ):
        with pytest.raises(DigestMismatchError, match="in memory: was changed after the run was published") as caught:
            action()
        assert "the local run is the published run" in str(caught.value.hint)
    assert (run.folder / RECORD).read_bytes() == before


def test_a_read_only_run_folder_can_be_published(store: MemoryStore, tmp_path: Path) -> None:
    run = finish_run(tmp_path / "runs")
    note = run.folder / "published.json"
    note.mkdir()  # in place of a read-only folder, into which root could write: no user can replace a folder with a file
    publish_run(run.folder.parents[1], store)
    assert store.size(sealed_key(run.record.run, 1))
    assert read_publication(run.folder) is None
