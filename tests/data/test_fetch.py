"""A fetch results only in complete and verified files, whatever the store, the disk and other processes do."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.data.conftest import FILES, Published, damage, leftovers, objects
from tests.stores import fakes
from trainer.base import parallel
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import (
    DigestMismatchError,
    DiskFullError,
    ManifestError,
    ObjectMissingError,
    RepriseError,
    StoreUnreachableError,
)
from trainer.data.cache import locks
from trainer.data.cache.folder import Cache
from trainer.data.fetch import fetch_dataset
from trainer.data.upstream.listing import Upstream
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from trainer.data.cache.version import CachedDataset
    from trainer.stores.contract import Store


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PAUSES_S", (0.0, 0.0))


def unreachable_store() -> Store:
    raise StoreUnreachableError("the store is away")


def fetch(published: Published, store: Store | None = None) -> CachedDataset:
    return fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store or published.store)


def read(cached: CachedDataset) -> dict[str, bytes]:
    return {path: bytes(cached.read(path)) for path in cached.paths}


def test_a_published_dataset_is_fetched(published: Published) -> None:
    assert read(fetch(published)) == FILES
    assert {path.stat().st_mode & 0o777 for path in objects(published.cache)} == {0o444}
    assert not leftovers(published.cache)


def test_a_cached_dataset_needs_no_store(published: Published) -> None:
    fetch(published)
    assert read(fetch_dataset(published.dataset, cache=published.cache, open_store=unreachable_store)) == FILES


def test_without_a_cache_the_store_is_read_once(published: Published) -> None:
    with pytest.raises(StoreUnreachableError):
        fetch_dataset(published.dataset, cache=published.cache, open_store=unreachable_store)
    assert published.cache.find(published.dataset) is None


ONCE = [fakes.flipped, fakes.cut, fakes.silently_cut, fakes.reset]


@pytest.mark.parametrize("error", ONCE)
def test_a_transient_fault_is_retried(published: Published, error: Any) -> None:
    store = fakes.FaultyStore(published.store, error, times=1)
    assert read(fetch(published, store)) == FILES
    assert len(store.reads) == 3


@pytest.mark.parametrize("error", ONCE)
def test_a_persistent_fault_is_named_and_the_same_command_continues_later(published: Published, error: Any) -> None:
    store = fakes.FaultyStore(published.store, error, times=99)
    with pytest.raises((DigestMismatchError, StoreUnreachableError)):
        fetch(published, store)
    assert published.cache.find(published.dataset) is None
    assert not leftovers(published.cache)
    assert read(fetch(published)) == FILES


def test_an_endless_body_is_rejected(published: Published) -> None:
    store = fakes.FaultyStore(published.store, fakes.endless, times=99)
    assert read(fetch(published, store)) == FILES


def test_an_endless_manifest_is_rejected(published: Published) -> None:
    store = fakes.FaultyStore(published.store, fakes.endless, times=99, after=0)
    with pytest.raises(ManifestError, match="longer than"):
        fetch(published, store)


def test_an_altered_manifest_is_rejected(published: Published) -> None:
    store = fakes.FaultyStore(published.store, fakes.flipped, times=99, after=0)
    with pytest.raises(DigestMismatchError, match="manifest of small@1"):
        fetch(published, store)


def test_a_manifest_of_another_dataset_is_rejected(published: Published) -> None:
    wrong = published.dataset.model_copy(update={"files": 5})
    with pytest.raises(ManifestError, match="expected 5 files"):
        fetch_dataset(wrong, cache=published.cache, open_store=lambda: published.store)


def test_a_dataset_that_the_store_lacks_is_named(published: Published) -> None:
    wrong = published.dataset.model_copy(update={"manifest": digest_of_bytes(b"other")})
    with pytest.raises(ObjectMissingError, match="dataset small@1 is not in store memory:") as caught:
        fetch_dataset(wrong, cache=published.cache, open_store=lambda: published.store)
    assert str(caught.value.hint).startswith("publish it: reprise data publish small DIR;")
    upstream = Upstream(source="https://host.example/a.zip?x=1&y=2", listing=wrong.manifest)
    with pytest.raises(ObjectMissingError) as caught:
        fetch_dataset(
            wrong.model_copy(update={"upstream": upstream}), cache=published.cache, open_store=lambda: published.store
        )
    assert "reprise data import small 'https://host.example/a.zip?x=1&y=2';" in str(caught.value.hint)


def test_a_malicious_manifest_creates_nothing(published: Published) -> None:
    raw = b'{"bytes":0,"content":"%s","files":1,"format":"reprise.manifest/1","packs":[]}\n["../../../outside",0,"%s",[]]\n'
    body = raw % ((digest_of_bytes(b"").encode(),) * 2)
    published.store.write(object_key(digest_of_bytes(body)), body, sha256=digest_of_bytes(body))
    hostile = published.dataset.model_copy(update={"manifest": digest_of_bytes(body), "files": 1, "bytes": 0})
    with pytest.raises(ManifestError, match=r"\.\./"):
        fetch_dataset(hostile, cache=published.cache, open_store=lambda: published.store)
    assert not list(published.cache.root.parent.rglob("outside*"))


def test_a_full_disk_is_one_clear_line_and_leaves_no_temporary_file(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(DiskFullError, match="no space left"):
            fetch(published)
    assert not leftovers(published.cache)
    assert read(fetch(published)) == FILES


def test_a_disk_that_is_too_small_is_rejected_before_fetching(published: Published) -> None:
    fetch(published)
    with pytest.raises(DiskFullError, match="MB more"):
        published.cache.require_space(published.dataset, 1 << 60)


@pytest.mark.parametrize("rounds", [1, pytest.param(200, marks=pytest.mark.long)])
def test_concurrent_fetches_succeed_with_faulty_locks(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(locks, "_may_fetch", lambda _: True)
    for number in range(rounds):
        cache = Cache(root=tmp_path / str(number))
        assert fetch_concurrently(published, cache, published.store) == [FILES] * 8
        assert not leftovers(cache)


def fetch_concurrently(published: Published, cache: Cache, store: Store) -> list[dict[str, bytes]]:
    with ThreadPoolExecutor(8) as threads:
        jobs = [
            threads.submit(fetch_dataset, published.dataset, cache=cache, open_store=lambda: store) for _ in range(8)
        ]
        return [read(job.result()) for job in jobs]


def test_only_one_of_many_concurrent_fetches_downloads(published: Published) -> None:
    store = fakes.FaultyStore(published.store, iter, times=0)
    assert fetch_concurrently(published, published.cache, store) == [FILES] * 8
    assert len(store.reads) == 2, "one manifest, one pack"


def test_a_damaged_cache_is_detected_before_use_and_repaired_at_the_next_start(published: Published) -> None:
    fetch(published)
    (pack,) = objects(published.cache)
    damage(pack, at=7)
    with pytest.raises(DigestMismatchError, match=r"small@1 is damaged in the cache: images/0001\.png") as caught:
        fetch(published).read("images/0001.png")
    assert "run the same command again" in str(caught.value.hint)
    assert (
        bytes(
            fetch_dataset(
                published.dataset, cache=Cache(root=published.cache.root), open_store=lambda: published.store
            ).read("a.txt")
        )
        == b"first"
    )
    assert read(fetch(published)) == FILES


def test_a_missing_or_truncated_object_is_fetched_again(published: Published) -> None:
    fetch(published)
    (pack,) = objects(published.cache)
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-1])
    assert read(fetch(published)) == FILES
    pack.unlink()
    assert read(fetch(published)) == FILES


def test_an_object_is_flushed_before_it_is_renamed(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    flush, marker = os.fsync, published.cache.place(published.dataset) / "complete.json"

    def noted(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_relative_to(published.cache.root / "objects"):
            flushed.append("folder" if path.is_dir() else path.name[:1])
            assert not marker.exists()
        flush(handle)

    monkeypatch.setattr(os, "fsync", noted)
    fetch(published)
    assert flushed == [".", "folder"], "bytes that have no name yet, then the name"
    assert marker.exists()


@pytest.mark.parametrize("name", ["complete.json", "manifest.jsonl"])
def test_a_damaged_marker_or_manifest_is_written_again(published: Published, name: str) -> None:
    fetch(published)
    damage(published.cache.place(published.dataset) / name, at=20)
    assert published.cache.find(published.dataset) is None
    store = fakes.FaultyStore(published.store, iter, times=0)
    assert read(fetch(published, store)) == FILES
    assert len(store.reads) == 1, "the manifest"


def test_os_errors_of_a_fetch_become_named_errors(published: Published) -> None:
    published.cache.root.write_text("not a folder")
    with pytest.raises(RepriseError, match="could not be written"):
        fetch(published)


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o2775])
def test_new_cache_files_have_the_permissions_of_the_cache(published: Published, mode: int) -> None:
    published.cache.root.mkdir()
    published.cache.root.chmod(mode)
    fetch(published)
    modes = {path.stat().st_mode & 0o7777 for path in published.cache.root.rglob("*") if path.is_dir()}
    assert modes == {mode}
