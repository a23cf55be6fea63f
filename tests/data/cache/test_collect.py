"""Collecting the cache keeps declared and leased versions, and removes the rest."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from time import time
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES, Published, objects
from trainer.data.cache import locks
from trainer.data.cache.collect import YOUNG_S, Collected, collect_cache
from trainer.data.cache.locks import LONGEST_S, lock_version
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.publish import publish_dataset

if TYPE_CHECKING:
    from trainer.data.cache.version import CachedDataset
    from trainer.data.declaration import Dataset

LATER = time() + 2 * YOUNG_S


def fetch(published: Published, dataset: Dataset | None = None) -> CachedDataset:
    return fetch_dataset(dataset or published.dataset, cache=published.cache, open_store=lambda: published.store)


def second(published: Published) -> Dataset:
    (published.source.root / "more").write_bytes(b"more")
    return publish_dataset(Draft(name="small"), source=published.source, store=published.store).dataset


def collect(published: Published, *declared: Dataset, now: float = LATER, dry_run: bool = False) -> Collected:
    return collect_cache(published.cache, declared, now=now, dry_run=dry_run)


def test_declared_versions_are_not_removed(published: Published) -> None:
    fetch(published)
    found = collect(published, published.dataset)
    assert (found.versions, found.objects) == ((), 0)
    assert published.cache.find(published.dataset)


def test_an_old_version_is_removed_without_shared_objects(published: Published) -> None:
    fetch(published)
    newer = second(published)
    fetch(published, newer)
    found = collect(published, newer)
    assert (len(found.versions), found.objects) == (1, 0)
    assert published.cache.find(published.dataset) is None
    cached = fetch(published, newer)
    assert bytes(cached.read("a.txt")) == FILES["a.txt"]


def test_a_dry_run_counts_and_changes_nothing(published: Published) -> None:
    fetch(published)
    before = objects(published.cache)
    found = collect(published, dry_run=True)
    assert (len(found.versions), found.objects, found.bytes > 0) == (1, 1, True)
    assert objects(published.cache) == before
    assert published.cache.find(published.dataset)


def test_unused_leftovers_are_removed(published: Published) -> None:
    fetch(published)
    assert collect(published).objects == 1
    assert objects(published.cache) == []
    assert not list((published.cache.root / "versions").glob("*/*"))


def test_recent_leftovers_stay(published: Published) -> None:
    fetch(published)
    assert collect(published, now=time()).objects == 0


def test_leased_objects_stay_until_the_process_ends(published: Published) -> None:
    data = fetch(published)
    assert (collect(published).versions, collect(published).leases) == ((), 1)
    assert bytes(data.read("a.txt")) == b"first"
    del data
    assert len(collect(published).versions) == 1


READ = """
import sys
from pathlib import Path
from trainer.cli.process.fetching import fetch_data
from trainer.base.document import parse_json
from trainer.data.declaration import Dataset
data = fetch_data(parse_json(sys.argv[1].encode(), Dataset, where="here"), say=print)
print("ready", flush=True)
sys.stdin.readline()
print(bytes(data.read("a.txt")).decode())
"""


def test_a_run_with_a_warm_cache_leases_what_it_reads(published: Published) -> None:
    fetch(published)
    environ = {**os.environ, "REPRISE_CACHE": str(published.cache.root)}
    words = [sys.executable, "-c", READ, published.dataset.model_dump_json()]
    with subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        assert "nothing fetched" in run.stdout.readline()
        assert run.stdout.readline() == "ready\n"
        assert (collect(published).versions, collect(published).objects) == ((), 0)
        assert run.communicate("\n")[0] == "first\n"
    assert len(collect(published).versions) == 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_reader_that_cannot_write_a_lease_keeps_its_data(published: Published, *, dry_run: bool) -> None:
    fetch(published)
    cache = published.cache
    lease = lock_version(cache.root, cache.place(published.dataset).relative_to(cache.root).as_posix())
    assert lease is not None
    found = collect(published, dry_run=dry_run)
    assert (found.versions, found.objects, found.leases) == ((), 0, 1)
    lease.end()
    assert len(collect(published, dry_run=dry_run).versions) == 1


@pytest.mark.parametrize("how", ["found", "reopened by a worker"])
def test_no_bytes_are_read_without_a_lease(published: Published, how: str) -> None:
    fetch(published)
    assert published.cache.has(published.dataset)
    assert collect(published, published.dataset).leases == 0, "a lookup takes no lease"
    data = published.cache.find(published.dataset)
    if how != "found":
        data = pickle.loads(pickle.dumps(data))  # noqa: S301 - pickled by this test
    assert data is not None
    assert collect(published).versions == ()
    del data
    assert len(collect(published).versions) == 1


def test_looking_up_an_absent_dataset_creates_no_cache(published: Published) -> None:
    assert published.cache.find(published.dataset) is None
    assert not published.cache.root.exists()


HOLD = """
import sys, time
from pathlib import Path
from trainer.data.cache.locks import take_lease
lease = take_lease(Path(sys.argv[1]), name=sys.argv[2], content=sys.argv[3], place=Path(sys.argv[1]))
print("leased", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(published: Published) -> subprocess.Popen[str]:
    fetch(published)
    words = [str(published.cache.root), published.dataset.name, published.dataset.content]
    process = subprocess.Popen([sys.executable, "-c", HOLD, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "leased\n"
    return process


def test_a_killed_process_holds_no_lease(published: Published, holder: subprocess.Popen[str]) -> None:
    assert collect(published).versions == ()
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert list(published.cache.root.glob("leases/*"))
    assert len(collect(published).versions) == 1


def test_with_faulty_locks_a_dead_process_counts_as_alive_for_a_month(
    published: Published, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_lock", lambda _: True)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert collect(published).versions == ()
    assert len(collect(published, now=time() + LONGEST_S + 1).versions) == 1


def test_a_lease_of_another_machine_lasts_a_month(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(published)
    with monkeypatch.context() as patched:
        patched.setattr(locks, "boot", lambda: "another machine")
        lease = published.cache.lease(published.dataset)
    assert lease
    lease.end.detach()
    assert collect(published).versions == ()
    assert len(collect(published, now=time() + LONGEST_S + 1).versions) == 1


def test_an_unreadable_lease_prevents_any_removal(published: Published) -> None:
    fetch(published)
    (published.cache.root / "leases" / "x.json").write_text("{")
    assert collect(published).versions == ()


def test_an_unfinished_fetch_keeps_its_objects(published: Published) -> None:
    fetch(published)
    place = published.cache.place(published.dataset)
    (place / "complete.json").rename(place / "wanted.json")
    lease = published.cache.lease(published.dataset)
    assert (collect(published).objects, lease is None) == (0, False)
    del lease
    assert collect(published).objects == 1
