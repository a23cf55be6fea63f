"""Copying a version of a dataset between stores: the same bytes under the same names, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import contents, fill
from tests.runs.test_publish import FailingStore
from trainer.base.errors import DatasetError, DigestMismatchError, ObjectMissingError, StoreUnreachableError
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.versions import list_versions, newest_version, push_dataset, read_version
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.data.conftest import Published


def all_objects(store: MemoryStore) -> dict[str, bytes]:
    return {key: b"".join(store.read(key)) for key in store.keys("")}


def publish_second_version(published: Published) -> Published:
    """Return a second version that shares packs with the first version."""
    fill(published.source.root, {"later.txt": b"later"})
    publish_dataset(Draft(name="small"), source=published.source, store=published.store)
    return published


def test_both_stores_hold_the_same_objects_afterwards(published: Published) -> None:
    target = MemoryStore()
    pushed = push_dataset(published.dataset, source=published.store, target=target)
    assert all_objects(target) == all_objects(published.store)
    assert (pushed.is_new, pushed.sent > 0) == (True, True)


def test_a_second_push_sends_nothing(published: Published) -> None:
    target = MemoryStore()
    push_dataset(published.dataset, source=published.store, target=target)
    pushed = push_dataset(published.dataset, source=published.store, target=target)
    assert (pushed.is_new, pushed.sent) == (False, 0)


def test_a_later_version_keeps_its_number_and_files_in_an_empty_store(published: Published, tmp_path: Path) -> None:
    source, target = publish_second_version(published).store, MemoryStore()
    second = read_version(source, "small", 2)
    assert second is not None
    push_dataset(second, source=source, target=target)
    assert read_version(target, "small", 2) == second
    cached = fetch_dataset(second, cache=Cache(root=tmp_path / "other"), open_store=lambda: target)
    assert contents(cached.folder()) == contents(published.source.root)


def test_the_next_version_follows_a_later_version_that_is_alone_in_its_store(published: Published) -> None:
    source, target = publish_second_version(published).store, MemoryStore()
    second = read_version(source, "small", 2)
    assert second is not None
    push_dataset(second, source=source, target=target)
    assert (list_versions(target, "small"), newest_version(target, "small")) == ([2], second)
    fill(published.source.root, {"third.txt": b"third"})
    assert publish_dataset(Draft(name="small"), source=published.source, store=target).dataset.version == 3


def test_other_content_under_the_same_version_is_rejected_with_both_digests(
    published: Published, tmp_path: Path
) -> None:
    target, other = MemoryStore(), SourceFolder(root=fill(tmp_path / "other", {"x": b"another"}))
    theirs = publish_dataset(Draft(name="small"), source=other, store=target).dataset
    before = all_objects(target)
    with pytest.raises(DatasetError) as caught:
        push_dataset(published.dataset, source=published.store, target=target)
    assert theirs.content in caught.value.message
    assert published.dataset.content in caught.value.message
    assert all_objects(target) == before


@pytest.mark.parametrize("writes", range(3))
def test_an_interrupted_push_publishes_no_version_and_the_same_call_completes_it(
    published: Published, writes: int
) -> None:
    target = FailingStore(after=writes)
    with pytest.raises(StoreUnreachableError):
        push_dataset(published.dataset, source=published.store, target=target)
    assert read_version(target, "small", 1) is None
    target.left = 100
    push_dataset(published.dataset, source=published.store, target=target)
    assert all_objects(target) == all_objects(published.store)


def test_a_damaged_object_in_the_source_is_not_copied(published: Published) -> None:
    source, target = MemoryStore(), MemoryStore()
    for key, body in all_objects(published.store).items():
        is_pack = key.startswith("objects/") and key != object_key(published.dataset.manifest)
        source.create(key, bytes(len(body)) if is_pack else body)
    with pytest.raises(DigestMismatchError, match="memory:"):
        push_dataset(published.dataset, source=source, target=target)
    assert all_objects(target) == {}


@pytest.mark.parametrize("wrong", [lambda body: body[:-1], lambda body: b"?" + body[1:]], ids=["short", "other"])
def test_a_wrong_object_in_the_target_is_replaced(published: Published, wrong: Callable[[bytes], bytes]) -> None:
    target = MemoryStore()
    for key in published.store.keys("objects/"):
        target.create(key, wrong(b"".join(published.store.read(key))))
    push_dataset(published.dataset, source=published.store, target=target)
    assert all_objects(target) == all_objects(published.store)


def test_a_version_missing_in_the_source_is_named_with_the_store(published: Published) -> None:
    with pytest.raises(ObjectMissingError, match="small@1 is not in store memory:"):
        push_dataset(published.dataset, source=MemoryStore(), target=MemoryStore())
