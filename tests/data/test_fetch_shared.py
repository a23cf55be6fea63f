"""A cache shared by two users with real processes, user IDs and modes; the locks of one user do not work."""

from __future__ import annotations

import codecs
import fcntl
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.data.conftest import contents, damage, fill, objects
from trainer.base.errors import RepriseError
from trainer.data.cache.collect import YOUNG_S, collect_cache
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.data.declaration import Dataset
    from trainer.stores.contract import Store

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="becomes other users, which root alone can")
HONEST: Final = 1000
LYING: Final = 4321
EACH: Final = 8
FILES: Final = {f"images/{number:03d}.png": os.urandom(4096) for number in range(400)} | {"large": os.urandom(1 << 20)}


class CountingStore:
    def __init__(self, inner: Store) -> None:
        self.inner, self.bytes = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, key: str, **where: Any) -> Iterator[bytes]:
        for block in self.inner.read(key, **where):
            self.bytes += len(block)
            yield block


@pytest.fixture
def shared() -> Iterator[Path]:
    """A world-readable store and a world-writable cache; pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for folder, mode in (("store", 0o755), ("cache", 0o1777)):
            (root / folder).mkdir()
            (root / folder).chmod(mode)
        yield root


@pytest.fixture
def dataset(shared: Path) -> Dataset:
    source = SourceFolder(root=fill(shared / "source", FILES), part_bytes=256 << 10)
    return publish_dataset(Draft(name="small"), source=source, store=open_store(str(shared / "store"))).dataset


def as_user(uid: int, work: Callable[[], Any]) -> Callable[[], Any]:
    """Start `work` in another user's process; return a function that waits for its result."""
    fork = multiprocessing.get_context("fork")
    reading, writing = fork.Pipe(duplex=False)

    def go() -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            document = work()
        except RepriseError as fault:
            document = {"error": fault.message, "hint": fault.hint}
        writing.send(json.dumps(document))

    codecs.lookup("ascii")  # import now, because the other user may have no access to this Python
    process = fork.Process(target=go)
    process.start()
    writing.close()

    def wait() -> Any:
        document = json.loads(reading.recv())
        process.join()
        return document

    return wait


def fetch_and_verify(shared: Path, dataset: Dataset, *, start: Any = None, lying: bool = False) -> dict[str, Any]:
    """Fetch and read every file; return the number of bytes read from the store, and whether all files are correct."""
    if lying:
        fcntl.flock = lambda *_: None  # in this process, every lock succeeds at once
    store = CountingStore(open_store(str(shared / "store")))
    if start is not None:
        start.wait(timeout=30)
    cached = fetch_dataset(dataset, cache=Cache(root=shared / "cache"), open_store=lambda: store)
    right = {path: bytes(cached.read(path)) for path in cached.paths} == FILES
    return {"bytes": store.bytes, "right": right}


def test_sixteen_concurrent_fetches_of_two_users_succeed_with_a_faulty_lock(shared: Path, dataset: Dataset) -> None:
    start = multiprocessing.get_context("fork").Barrier(2 * EACH)
    jobs = [
        (uid, as_user(uid, lambda uid=uid: fetch_and_verify(shared, dataset, start=start, lying=uid == LYING)))  # type: ignore[misc]
        for _ in range(EACH)
        for uid in (HONEST, LYING)
    ]
    results = [(uid, wait()) for uid, wait in jobs]
    assert all(each.get("right") for _, each in results), results
    whole = sum(path.stat().st_size for path in (shared / "store/objects").rglob("*") if path.is_file())
    honest, lying = (sum(each["bytes"] for uid, each in results if uid == who) for who in (HONEST, LYING))
    sys.stdout.write(f"\none download {whole:,} bytes: {EACH} with locks moved {honest:,}, {EACH} without {lying:,}\n")
    assert honest <= 1.5 * whole
    assert not [path for path in (shared / "cache").rglob(".*") if path.is_file()]
    assert as_user(HONEST, lambda: fetch_and_verify(shared, dataset))() == {"bytes": 0, "right": True}


def test_an_object_damaged_by_another_user_is_stored_beside_it(shared: Path, dataset: Dataset) -> None:
    assert as_user(LYING, lambda: fetch_and_verify(shared, dataset))()["right"]
    cache = Cache(root=shared / "cache")
    theirs = max(objects(cache), key=lambda path: path.stat().st_size)
    damage(theirs)
    output = as_user(HONEST, lambda: fetch_and_verify(shared, dataset))()
    assert output["error"].startswith("small@1 is damaged in the cache: ")
    assert output["hint"] == "run the same command again: it verifies the dataset and fetches damaged files again"
    again = as_user(HONEST, lambda: fetch_and_verify(shared, dataset))()
    assert again["right"]
    assert again["bytes"] < dataset.bytes
    assert theirs.with_name(f"{theirs.name}.u{HONEST}").stat().st_uid == HONEST
    assert as_user(HONEST, lambda: fetch_and_verify(shared, dataset))() == {"bytes": 0, "right": True}


def test_a_damaged_read_only_cache_is_an_error_with_hints(shared: Path, dataset: Dataset) -> None:
    assert as_user(LYING, lambda: fetch_and_verify(shared, dataset))()["right"]
    for folder in [shared / "cache", *(path for path in (shared / "cache").rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    damage(max(objects(Cache(root=shared / "cache")), key=lambda path: path.stat().st_size))
    output = as_user(HONEST, lambda: fetch_and_verify(shared, dataset))()
    assert output["hint"].startswith(f"this user cannot write to {shared}/cache: set REPRISE_CACHE to another folder")


def test_a_files_folder_is_readable_by_every_user(shared: Path, dataset: Dataset) -> None:
    cache, store = Cache(root=shared / "cache"), open_store(str(shared / "store"))

    def folder() -> str:
        return str(fetch_dataset(dataset, cache=cache, open_store=lambda: store).folder())

    theirs = as_user(LYING, folder)()
    assert as_user(HONEST, folder)() == theirs
    assert contents(Path(theirs)) == FILES


@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_a_dry_run_of_gc_counts_what_another_user_may_not_remove(shared: Path, dataset: Dataset, mode: int) -> None:
    assert as_user(LYING, lambda: fetch_and_verify(shared, dataset))()["right"]
    for folder in [shared / "cache", *(path for path in (shared / "cache").rglob("*") if path.is_dir())]:
        folder.chmod(mode)

    def collected(uid: int, *, dry_run: bool) -> Any:
        later, cache = time() + 2 * YOUNG_S, Cache(root=shared / "cache")
        return as_user(uid, lambda: asdict(collect_cache(cache, [], now=later, dry_run=dry_run)))()

    dry, real = (collected(HONEST, dry_run=each) for each in (True, False))
    assert dry == real
    assert (dry["of_others"] > 0, dry["versions"], dry["objects"]) == (True, [], 0)
    dry, real = (collected(LYING, dry_run=each) for each in (True, False))
    assert dry == real
    assert (dry["of_others"], len(dry["versions"]), dry["objects"] > 0) == (0, 1, True)
