"""Copying a run between stores preserves its ID, claims, seals and files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.data.test_versions import all_objects
from tests.runs.runs import finish_run
from tests.runs.test_publish import FailingStore
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, RunError, RunNotFoundError, StoreUnreachableError
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.runs.push import missing_datasets, push_run
from trainer.runs.record import DatasetIngredient
from trainer.runs.seal import claim_key, sealed_key
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.record import Record


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return finish_run(tmp_path / "runs").record


@pytest.fixture
def source(record: Record, tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    publish_run(tmp_path / "runs" / record.run, store)
    return store


def test_both_stores_hold_the_same_objects_afterwards(record: Record, source: MemoryStore, tmp_path: Path) -> None:
    target = MemoryStore()
    pushed = push_run(record.run, source=source, target=target)
    assert all_objects(target) == all_objects(source)
    assert pushed.records == (record,)
    assert pull_run(record.run, target, runs=tmp_path / "elsewhere") == [record]


def test_a_second_push_sends_nothing(record: Record, source: MemoryStore) -> None:
    target = MemoryStore()
    push_run(record.run, source=source, target=target)
    pushed = push_run(record.run, source=source, target=target)
    assert (pushed.sent, pushed.is_new) == (0, False)


@pytest.mark.parametrize("writes", range(5))
def test_an_interrupted_push_has_no_seal_and_the_same_call_completes_it(
    record: Record, source: MemoryStore, writes: int
) -> None:
    target = FailingStore(after=writes)
    with pytest.raises(StoreUnreachableError):
        push_run(record.run, source=source, target=target)
    assert target.size(sealed_key(record.run, 1)) is None
    target.left = 100
    push_run(record.run, source=source, target=target)
    assert all_objects(target) == all_objects(source)


def test_another_attempt_of_the_same_number_is_rejected(record: Record, source: MemoryStore) -> None:
    target, claim = MemoryStore(), json.loads(b"".join(source.read(claim_key(record.run, 1))))
    target.create(claim_key(record.run, 1), json.dumps(claim | {"host": "another-machine"}).encode())
    with pytest.raises(RunError, match="from host another-machine"):
        push_run(record.run, source=source, target=target)


def test_another_seal_in_the_target_is_rejected(record: Record, source: MemoryStore) -> None:
    target = MemoryStore()
    target.create(sealed_key(record.run, 1), b"another")
    with pytest.raises(DigestMismatchError, match="with different content"):
        push_run(record.run, source=source, target=target)


def test_a_run_missing_in_the_source_is_named_with_the_store(record: Record) -> None:
    with pytest.raises(RunNotFoundError, match=f"run {record.run} is not in memory:"):
        push_run(record.run, source=MemoryStore(), target=MemoryStore())


def test_datasets_missing_in_the_target_are_named(record: Record) -> None:
    body, target = b"manifest", MemoryStore()
    digest = digest_of_bytes(body)
    around = record.circumstances.model_copy(update={"manifests": {"digits": digest}})
    inside = record.ingredients.model_copy(
        update={"datasets": {"digits": DatasetIngredient(version=3, content=digest)}}
    )
    known = record.model_copy(update={"circumstances": around, "ingredients": inside})
    assert missing_datasets(known, target) == ["digits@3"]
    target.create(object_key(digest), body)
    assert missing_datasets(known, target) == []
