"""What every store promises: each test runs against memory, a directory and a real S3 server."""

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
    """All that a store gives for a range."""
    return b"".join(store.read(key, start=start, length=length))


def test_what_was_written_is_read(store: Store) -> None:
    """An object comes back as it was, from bytes and from a file alike."""
    store.write(KEY, io.BytesIO(BODY), sha256=digest_of_bytes(BODY))
    assert read(store, KEY) == BODY
    assert store.size(KEY) == len(BODY) > BLOCK


@pytest.mark.parametrize(
    ("start", "length"), [(0, 0), (0, 1), (7, 100), (BLOCK - 1, 2), (len(BODY) - 1, 1), (5, None), (0, len(BODY))]
)
def test_a_range_is_exactly_what_was_asked_for(store: Store, start: int, length: int | None) -> None:
    """Ranges begin and end at the byte, across blocks too."""
    store.write(KEY, BODY, sha256=digest_of_bytes(BODY))
    end = len(BODY) if length is None else start + length
    assert read(store, KEY, start=start, length=length) == BODY[start:end]


@pytest.mark.parametrize(("start", "length"), [(0, len(BODY) + 1), (len(BODY) - 5, 6), (len(BODY) + 10, 5)])
def test_a_range_beyond_the_end_is_refused(store: Store, start: int, length: int) -> None:
    """A store never gives fewer bytes than were asked for."""
    store.write(KEY, BODY, sha256=digest_of_bytes(BODY))
    with pytest.raises(DigestMismatchError):
        read(store, KEY, start=start, length=length)


def test_bytes_that_are_not_what_they_are_named_are_refused(store: Store) -> None:
    """A wrong digest stores nothing."""
    with pytest.raises(DigestMismatchError, match="altered"):
        store.write(KEY, BODY[:-1], sha256=digest_of_bytes(BODY))
    assert store.size(KEY) is None
    assert list(store.keys("")) == []


def test_writing_again_changes_nothing(store: Store) -> None:
    """The same object twice is one object."""
    for _ in range(2):
        store.write(KEY, BODY, sha256=digest_of_bytes(BODY))
    assert read(store, KEY) == BODY
    assert list(store.keys("objects/")) == [KEY]


def test_an_empty_object_is_an_object(store: Store) -> None:
    """No bytes are not nothing."""
    assert store.create("a/empty", b"")
    assert read(store, "a/empty") == b""
    assert store.size("a/empty") == 0


def test_a_name_is_created_once(store: Store) -> None:
    """The second to create a name is told so, and what stands there stays."""
    assert store.create("runs/a/claim.json", b"first")
    assert not store.create("runs/a/claim.json", b"second")
    assert not store.create("runs/a/claim.json", b"first")
    assert read(store, "runs/a/claim.json") == b"first"


def test_of_many_creators_one_wins(store: Store) -> None:
    """A conditional create is decided by the store, without a race."""
    for name in (f"race/{number}" for number in range(5)):
        with ThreadPoolExecutor(8) as threads:
            won = list(
                threads.map(lambda body, name=name: store.create(name, body), [b"%d" % number for number in range(8)])
            )
        assert won.count(True) == 1
        assert read(store, name) == b"%d" % won.index(True)


def test_what_is_not_there_is_said_so(store: Store) -> None:
    """A missing object has no size, and reading it names it."""
    assert store.size("a/nowhere") is None
    with pytest.raises(ObjectMissingError, match="a/nowhere"):
        read(store, "a/nowhere")


def test_keys_are_listed_by_prefix_in_order(store: Store) -> None:
    """A listing has every name below a prefix, sorted, whether or not the prefix ends at a slash."""
    names = ["datasets/a/1.json", "datasets/a/2.json", "datasets/ab/1.json", "runs/x"]
    for name in reversed(names):
        store.create(name, b"x")
    assert list(store.keys("")) == names
    assert list(store.keys("datasets/a/")) == names[:2]
    assert list(store.keys("datasets/a")) == names[:3]
    assert list(store.keys("nothing/")) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_a_key_that_could_be_folded_or_lead_out_is_refused(store: Store, key: str) -> None:
    """Only one spelling of a name exists, and none leaves the store."""
    for use in (lambda: store.create(key, b""), lambda: store.size(key), lambda: read(store, key)):
        with pytest.raises(StoreError, match="store key"):
            use()
