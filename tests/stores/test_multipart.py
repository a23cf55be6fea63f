"""Multipart uploads to a real server are complete or absent; parts have the smallest size that S3 allows."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.stores import server
from trainer.base.errors import DigestMismatchError, StoreError
from trainer.stores import multipart, open_store
from trainer.stores.multipart import MOST_PARTS, PART_BYTES, part_bytes

if TYPE_CHECKING:
    from trainer.stores.contract import Store

PART = 5 << 20
BODY = os.urandom(64) * (2 * PART // 64 + 100)
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


@pytest.fixture
def store(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store on the server; bodies of more than 5 MiB are sent in parts."""
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    monkeypatch.setattr(multipart, "part_bytes", lambda _: PART)
    return open_store(s3_address)


def uploads(store: Store) -> int:
    prefix = store.address.removeprefix(f"s3://{server.BUCKET}/")
    answer = boto3.client("s3").list_multipart_uploads(Bucket=server.BUCKET)
    return sum(each["Key"].startswith(prefix) for each in answer.get("Uploads", []))


@pytest.mark.s3
def test_a_large_body_round_trips(store: Store) -> None:
    store.write("a/large", io.BytesIO(BODY), sha256=DIGEST)
    assert b"".join(store.read("a/large")) == BODY
    assert b"".join(store.read("a/large", start=PART - 3, length=7)) == BODY[PART - 3 : PART + 4]
    assert store.size("a/large") == len(BODY)
    store.write("a/large", io.BytesIO(b"\0" * len(BODY)), sha256=DIGEST)
    assert b"".join(store.read("a/large")) == BODY
    assert uploads(store) == 0


@pytest.mark.s3
def test_a_body_with_another_digest_is_not_stored(store: Store) -> None:
    with pytest.raises(DigestMismatchError, match="has been altered"):
        store.write("a/large", io.BytesIO(BODY[:-1] + b"\0\0"), sha256=DIGEST)
    assert store.size("a/large") is None
    assert uploads(store) == 0


class TornFile(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0:
            raise OSError("the disk is gone")
        return super().read(size)


@pytest.mark.s3
def test_an_interrupted_upload_leaves_nothing(store: Store) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        store.write("a/large", TornFile(BODY), sha256=DIGEST)
    assert (store.size("a/large"), uploads(store)) == (None, 0)
    store.write("a/large", io.BytesIO(BODY), sha256=DIGEST)
    assert store.size("a/large") == len(BODY)


@pytest.mark.s3
def test_an_altered_part_is_rejected_by_the_server(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    right = hashlib.sha256

    class Wrong:
        @staticmethod
        def sha256(block: bytes = b"") -> object:
            return right(block[:-1] + bytes([block[-1] ^ 1])) if block else right()

    monkeypatch.setattr(multipart, "hashlib", Wrong)
    with pytest.raises(StoreError):
        store.write("a/large", io.BytesIO(BODY), sha256=DIGEST)
    assert (store.size("a/large"), uploads(store)) == (None, 0)


@pytest.mark.parametrize("size", [1, PART_BYTES * MOST_PARTS, PART_BYTES * MOST_PARTS + 1, 5 << 40])
def test_no_body_has_more_parts_than_s3_allows(size: int) -> None:
    """Objects have up to 5 TiB, each part less than 5 GiB."""
    part = part_bytes(size)
    assert -(-size // part) <= MOST_PARTS
    assert PART_BYTES <= part < 5 << 30
