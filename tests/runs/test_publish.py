"""Publishing a run: claim, files, seal, and interruptions between them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tests.runs.runs import finish_run, start_run
from trainer.base.errors import DigestMismatchError, RunError, StoreUnreachableError
from trainer.runs.publish import publish_run
from trainer.runs.run import read_publication
from trainer.runs.seal import claim_key, sealed_key
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.record import Record


class FailingStore(MemoryStore):
    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.left = after

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        self._spend()
        super().write(key, body, sha256=sha256)

    def create(self, key: str, body: bytes) -> bool:
        self._spend()
        return super().create(key, body)

    def _spend(self) -> None:
        if self.left == 0:
            raise StoreUnreachableError("the store does not respond")
        self.left -= 1


def seal_key(record: Record) -> str:
    return sealed_key(record.run, record.attempt)


def test_everything_in_the_seal_is_in_the_store(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    publish_run(run.folder.parents[1], store)
    sealed = json.loads(b"".join(store.read(seal_key(run.record))))
    assert sealed["record"] == json.loads(run.record.to_json())
    for file in [*sealed["files"], sealed["source"]]:
        assert store.size(object_key(file["sha256"])) == file["size"]
    assert [file["path"] for file in sealed["files"]] == ["checkpoints/last.ckpt", "metrics.jsonl"]


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    first = publish_run(run.folder.parents[1], store)
    before = list(store.keys(""))
    assert publish_run(run.folder.parents[1], store) == first
    assert list(store.keys("")) == before
    assert read_publication(run.folder) == first[0]


def test_published_objects_are_not_sent_again(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    first = publish_run(run.folder.parents[1], store)
    before = dict(store._objects)
    assert publish_run(run.folder.parents[1], store) == first
    assert all(store._objects[key] is body for key, body in before.items())


@pytest.mark.parametrize("harm", ["gone", "other bytes"])
def test_publishing_again_repairs_the_store(tmp_path: Path, harm: str) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    publish_run(run.folder.parents[1], store)
    whole = dict(store._objects)
    for key in [key for key in whole if key.startswith("objects/")]:
        store._objects[key] = bytes(len(whole[key]))
        if harm == "gone":
            del store._objects[key]
    publish_run(run.folder.parents[1], store)
    assert store._objects == whole


@pytest.mark.parametrize("writes", range(5))
def test_an_interrupted_publication_has_no_seal_and_the_same_command_completes_it(tmp_path: Path, writes: int) -> None:
    run, store = finish_run(tmp_path / "runs"), FailingStore(after=writes)
    with pytest.raises(StoreUnreachableError):
        publish_run(run.folder.parents[1], store)
    assert (store.size(seal_key(run.record)), read_publication(run.folder)) == (None, None)
    store.left = 100
    publish_run(run.folder.parents[1], store)
    assert store.size(seal_key(run.record))


def test_two_concurrent_publishers_both_succeed(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    with ThreadPoolExecutor(4) as pool:
        notes = list(pool.map(lambda _: publish_run(run.folder.parents[1], store), range(4)))
    assert all(note == notes[0] for note in notes)


def test_another_attempt_of_the_same_number_is_rejected(tmp_path: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    claim = json.loads((run.folder / "claim.json").read_text())
    claim |= {"token": "0" * 32, "host": "another-machine"}
    store.create(claim_key(run.record.run, 1), json.dumps(claim).encode())
    with pytest.raises(RunError, match="from host another-machine"):
        publish_run(run.folder.parents[1], store)
    assert store.size(seal_key(run.record)) is None


def test_a_running_run_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="still running"):
        publish_run(start_run(tmp_path / "runs").folder.parents[1], MemoryStore())


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_a_file_that_differs_from_the_record_is_named_and_prevents_publishing(tmp_path: Path, harm: str) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    path = run.folder / "metrics.jsonl"
    path.write_text("other") if harm == "change" else path.unlink()
    with pytest.raises(DigestMismatchError, match=r"metrics\.jsonl"):
        publish_run(run.folder.parents[1], store)
    assert store.size(seal_key(run.record)) is None
