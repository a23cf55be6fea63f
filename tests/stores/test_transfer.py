"""Transfers with a real S3 server: datasets are published, fetched, damaged in the store, and fetched without the server."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
from contextlib import contextmanager
from functools import partial
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.data.conftest import FILES, contents, fill, leftovers
from tests.stores.server import BUCKET, serving
from trainer.base.errors import DigestMismatchError, DiskFullError, ObjectMissingError, StoreUnreachableError
from trainer.data.cache import folder as cache
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.versions import push_dataset
from trainer.stores import open_store
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.data.declaration import Dataset

pytestmark = pytest.mark.s3


@pytest.fixture
def dataset(s3_address: str, tmp_path: Path) -> Dataset:
    source = SourceFolder(root=fill(tmp_path / "source", FILES))
    return publish_dataset(Draft(name="small"), source=source, store=open_store(s3_address)).dataset


def fetch(dataset: Dataset, address: str, root: Path) -> Path:
    return fetch_dataset(dataset, cache=Cache(root=root), open_store=partial(open_store, address)).folder()


def test_a_dataset_round_trips(dataset: Dataset, s3_address: str, tmp_path: Path) -> None:
    assert contents(fetch(dataset, s3_address, tmp_path / "cache")) == FILES


def test_an_object_damaged_at_rest_is_detected(dataset: Dataset, s3_address: str, tmp_path: Path) -> None:
    store, prefix = open_store(s3_address), s3_address.partition(f"{BUCKET}/")[2]
    (pack,) = (key for key in store.keys("objects/") if key != object_key(dataset.manifest))
    body = bytearray(b"".join(store.read(pack)))
    body[100] ^= 1
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{prefix}/{pack}", Body=bytes(body))
    with pytest.raises(DigestMismatchError, match="small@1: a pack has been altered"):
        fetch(dataset, s3_address, tmp_path / "cache")
    assert Cache(root=tmp_path / "cache").find(dataset) is None


def test_a_dataset_missing_in_the_store_is_reported(dataset: Dataset, s3_address: str, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match="dataset small@1 is not in store"):
        fetch(dataset, f"{s3_address}/elsewhere", tmp_path / "cache")


def test_an_unreachable_server_is_reported_unless_the_dataset_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_environment: str
) -> None:
    assert s3_environment
    (tmp_path / "server").mkdir()
    source = SourceFolder(root=fill(tmp_path / "source", FILES))
    with serving(tmp_path / "server") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        address = f"s3://{BUCKET}"
        dataset = publish_dataset(Draft(name="small"), source=source, store=open_store(address)).dataset
        folder = fetch(dataset, address, tmp_path / "cache")
    assert fetch(dataset, address, tmp_path / "cache") == folder
    with pytest.raises(StoreUnreachableError, match="does not respond"):
        fetch(dataset, address, tmp_path / "other")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.getuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("needs root and the right to mount a tmpfs")
    yield folder
    gc.collect()  # free the fetch, to which the error referred, and its open file in the folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("spare", [cache._SPARE, -(1 << 30)], ids=["known before", "while writing"])
def test_a_full_disk_is_reported_in_one_line(
    dataset: Dataset, s3_address: str, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    monkeypatch.setattr(cache, "_SPARE", spare)
    (tiny_disk / "ballast").write_bytes(bytes(40 << 10))
    with pytest.raises(DiskFullError):
        fetch(dataset, s3_address, tiny_disk / "cache")
    assert not leftovers(Cache(root=tiny_disk / "cache"))


def test_a_disk_full_at_any_write_is_one_line_and_the_same_command_continues(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = str(tmp_path / "store")
    source = SourceFolder(root=fill(tmp_path / "source", FILES))
    dataset = publish_dataset(Draft(name="small"), source=source, store=open_store(store)).dataset
    for allowed in count():
        root = tmp_path / str(allowed)
        with suppress_full() as faults, full_after(allowed):
            assert contents(fetch(dataset, store, root)) == FILES
        if not faults:
            break
        assert "no space left" in faults[0].message
        assert not leftovers(Cache(root=root))
        assert contents(fetch(dataset, store, root)) == FILES
    assert allowed > 8


@contextmanager
def suppress_full() -> Iterator[list[DiskFullError]]:
    faults: list[DiskFullError] = []
    try:
        yield faults
    except DiskFullError as fault:
        faults.append(fault)


@contextmanager
def full_after(allowed: int) -> Iterator[None]:
    """Let `left` disk writes succeed in this process; all others fail."""
    with pytest.MonkeyPatch.context() as patched:
        calls, lock = count(1), Lock()

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **options: Any) -> Any:
                with lock:
                    if next(calls) > allowed:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*words, **options)

            return call

        for name in ("pwrite", "mkdir", "rename", "replace", "fsync", "ftruncate"):
            patched.setattr(os, name, counted(getattr(os, name)))
        yield


def test_a_version_is_copied_from_a_bucket_to_a_folder_and_to_another_bucket(
    dataset: Dataset, s3_address: str, s3_environment: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    bucket, folder = open_store(s3_address), open_store(str(tmp_path / "folder"))
    other = open_store(f"{s3_address}/other?endpoint={s3_environment}")
    push_dataset(dataset, source=bucket, target=folder)
    push_dataset(dataset, source=folder, target=other)
    names = [name for name in bucket.keys("") if not name.startswith("other/")]
    assert list(folder.keys("")) == list(other.keys("")) == names
    assert contents(fetch(dataset, str(tmp_path / "folder"), tmp_path / "cache")) == FILES
