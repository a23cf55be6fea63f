"""Verified reads from an untrusted store: limited in size and checked by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError
from trainer.base.file_entry import File
from trainer.base.safe_folder import Root
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore
from trainer.stores.transfer import copy_object, read_file, read_small

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"12345"
DIGEST = digest_of_bytes(BODY)


@pytest.fixture
def source() -> MemoryStore:
    store = MemoryStore()
    store.write(object_key(DIGEST), BODY, sha256=DIGEST)
    return store


def test_a_document_of_exactly_the_maximum_size_is_read(source: MemoryStore) -> None:
    assert read_small(source, object_key(DIGEST), largest=5) == BODY
    with pytest.raises(DigestMismatchError, match="is larger than 4 bytes"):
        read_small(source, object_key(DIGEST), largest=4)


@pytest.mark.parametrize("size", [None, 5])
def test_an_object_is_sent_once_and_replaced_if_the_target_differs(source: MemoryStore, size: int | None) -> None:
    target, key = MemoryStore(), object_key(DIGEST)
    assert [copy_object(DIGEST, source=source, target=target, size=size) for _ in range(2)] == [5, 0]
    damaged = MemoryStore()
    damaged.create(key, b"12x45")
    assert copy_object(DIGEST, source=source, target=damaged, size=size) == 5
    assert b"".join(damaged.read(key)) == BODY


def test_an_altered_object_is_not_copied() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.create(object_key(DIGEST), b"12x45")
    source.label = "the source"
    with pytest.raises(DigestMismatchError, match="the source"):
        copy_object(DIGEST, source=source, target=target)
    assert list(target.keys("")) == []


@pytest.mark.parametrize(("message", "size"), [(b"12x45", 5), (BODY + b"6", 6), (b"1234", 4)])
def test_a_file_that_differs_from_its_entry_raises(tmp_path: Path, message: bytes, size: int) -> None:
    store = MemoryStore()
    store.create(object_key(DIGEST), message)
    with Root.at(tmp_path) as into, pytest.raises(DigestMismatchError, match=f"{size} bytes; expected {size}"):
        read_file(store, File(path="in/file", size=size, sha256=DIGEST), into=into)


def test_a_file_is_created_with_its_parent_folders(source: MemoryStore, tmp_path: Path) -> None:
    file = File(path="in/deep/file", size=5, sha256=DIGEST)
    with Root.at(tmp_path) as into:
        read_file(source, file, into=into)
        assert (into.read(file.path), (tmp_path / file.path).stat().st_mode & 0o133) == (BODY, 0)
        with pytest.raises(DigestMismatchError, match="4 bytes; expected 4"):
            read_file(source, File(path="short", size=4, sha256=DIGEST), into=into)
