"""The contract of stores, tested with memory, a directory and a real S3 server."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, ObjectMissingError, StoreError
from trainer.stores.contract import BLOCK, object_key

if TYPE_CHECKING:
    from trainer.stores.contract import Store

BODY = bytes(range(256)) * 5000  # more than one block
KEY = object_key(digest_of_bytes(BODY))
HOSTILE = [
    "",
    "/a",
    "a/",
    "a//b",
    "a/../b",
    ".",
    "a/./b",
    "a\\b",
    "a b",
    "A",
    "ä",
    "a\x00b",
    ".hidden",
    "a" * 600,
    "a\n",
]


def read(store: Store, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.read(key, start=start, length=length))


def test_an_object_round_trips(store: Store) -> None:
    store.write(KEY, io.BytesIO(BODY), sha256=digest_of_bytes(BODY))
    assert read(store, KEY) == BODY
    assert store.size(KEY) == len(BODY) > BLOCK


@pytest.mark.parametrize(
    ("start", "length"), [(0, 0), (0, 1), (7, 100), (BLOCK - 1, 2), (len(BODY) - 1, 1), (5, None), (0, len(BODY))]
)
def test_a_range_has_exactly_the_requested_bytes(store: Store, start: int, length: int | None) -> None:
    store.write(KEY, BODY, sha256=digest_of_bytes(BODY))
    end = len(BODY) if length is None else start + length
    assert read(store, KEY, start=start, length=length) == BODY[start:end]


@pytest.mark.parametrize(("start", "length"), [(0, len(BODY) + 1), (len(BODY) - 5, 6), (len(BODY) + 10, 5)])
def test_a_range_beyond_the_end_is_rejected(store: Store, start: int, length: int) -> None:
    store.write(KEY, BODY, sha256=digest_of_bytes(BODY))
    with pytest.raises(DigestMismatchError):
        read(store, KEY, start=start, length=length)


def test_bytes_with_another_digest_are_rejected(store: Store) -> None:
    with pytest.raises(DigestMismatchError, match="altered"):
        store.write(KEY, BODY[:-1], sha256=digest_of_bytes(BODY))
    assert store.size(KEY) is None
    assert list(store.keys("")) == []


def test_writing_again_changes_nothing(store: Store) -> None:
    for _ in range(2):
        store.write(KEY, BODY, sha256=digest_of_bytes(BODY))
    assert read(store, KEY) == BODY
    assert list(store.keys("objects/")) == [KEY]


def test_an_empty_object_is_stored(store: Store) -> None:
    assert store.create("a/empty", b"")
    assert read(store, "a/empty") == b""
    assert store.size("a/empty") == 0


def test_a_name_is_created_once(store: Store) -> None:
    assert store.create("runs/a/claim.json", b"first")
    assert not store.create("runs/a/claim.json", b"second")
    assert not store.create("runs/a/claim.json", b"first")
    assert read(store, "runs/a/claim.json") == b"first"


def test_exactly_one_of_many_creators_succeeds(store: Store) -> None:
    for name in (f"race/{number}" for number in range(5)):
        with ThreadPoolExecutor(8) as threads:
            won = list(
                threads.map(lambda body, name=name: store.create(name, body), [b"%d" % number for number in range(8)])
            )
        assert won.count(True) == 1
        assert read(store, name) == b"%d" % won.index(True)


def test_a_missing_object_is_reported(store: Store) -> None:
    assert store.size("a/nowhere") is None
    with pytest.raises(ObjectMissingError, match="a/nowhere"):
        read(store, "a/nowhere")


def test_keys_are_listed_by_prefix_in_order(store: Store) -> None:
    names = ["datasets/a/1.json", "datasets/a/2.json", "datasets/ab/1.json", "runs/x"]
    for name in reversed(names):
        store.create(name, b"x")
    assert list(store.keys("")) == names
    assert list(store.keys("datasets/a/")) == names[:2]
    assert list(store.keys("datasets/a")) == names[:3]
    assert list(store.keys("nothing/")) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_an_ambiguous_or_escaping_key_is_rejected(store: Store, key: str) -> None:
    for use in (lambda: store.create(key, b""), lambda: store.size(key), lambda: read(store, key)):
        with pytest.raises(StoreError, match="store key"):
            use()
