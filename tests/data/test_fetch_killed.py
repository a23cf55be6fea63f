"""A fetch or publication is killed at each step: files with final names are correct, and the repeated command completes the dataset."""

from __future__ import annotations

import multiprocessing
import sys
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.data import killed
from tests.data.conftest import FILES, contents, fill, leftovers, objects
from trainer.base.digest import digest_of_file
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.versions import newest_version
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.declaration import Dataset

CUT = 8192
"""A pack size that is so small that one of the files is cut into parts."""


some_then_all = pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
"""The sample is every fifth step, so that it takes less time than all steps."""


def publish(tmp_path: Path) -> Dataset:
    """Publish a dataset to the directory store `tmp_path/store`, with two packs and a file in parts, and return it."""
    source = SourceFolder(root=tmp_path / "source", part_bytes=CUT)
    return publish_dataset(Draft(name="small"), source=source, store=open_store(str(tmp_path / "store"))).dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "store").mkdir()
    fill(tmp_path / "source", FILES)
    return publish(tmp_path)


def fetch(store: Path, cache: Path, dataset: Dataset, *, last: int) -> int | None:
    """Fetch in a process that is killed at step `last`; return the number of its steps, or `None` if it was killed."""
    return killed.run(lambda: fetch_folder(store, cache, dataset), below=cache, last=last)


def fetch_folder(store: Path, cache: Path, dataset: Dataset) -> None:
    fetch_dataset(dataset, cache=Cache(root=cache), open_store=lambda: open_store(str(store))).folder()


def check_complete(store: Path, root: Path, dataset: Dataset) -> None:
    """Assert that all objects with final names are valid, and that the next fetch completes without leftovers."""
    cache = Cache(root=root)
    for path in objects(cache):
        assert digest_of_file(path) == f"sha256:{path.parent.name}{path.name}"
    cached = fetch_dataset(dataset, cache=cache, open_store=lambda: open_store(str(store)))
    assert {path: bytes(cached.read(path)) for path in cached.paths} == FILES
    assert contents(cached.folder()) == FILES
    assert not leftovers(cache)
    assert not list(cache.root.rglob(".files*"))


@some_then_all
def test_a_fetch_killed_at_any_step_can_be_completed(tmp_path: Path, dataset: Dataset, every: int) -> None:
    steps = fetch(tmp_path / "store", tmp_path / "whole", dataset, last=0)
    assert steps
    points = range(1, steps + 1, every)
    for last in points:
        cache = tmp_path / f"cache-{last}"
        fetch(tmp_path / "store", cache, dataset, last=last)
        fetch(tmp_path / "store", cache, dataset, last=3)
        check_complete(tmp_path / "store", cache, dataset)
    sys.stdout.write(f"\n{len(points)} of {steps} points of a fetch\n")


@pytest.mark.long
def test_a_fetch_killed_at_any_two_steps_can_be_completed(tmp_path: Path, dataset: Dataset) -> None:
    steps = fetch(tmp_path / "store", tmp_path / "whole", dataset, last=0)
    assert steps
    pairs = [(first, second) for first in range(1, steps + 1, 3) for second in range(1, steps + 1, 3)]
    for first, second in pairs:
        cache = tmp_path / f"cache-{first}-{second}"
        fetch(tmp_path / "store", cache, dataset, last=first)
        fetch(tmp_path / "store", cache, dataset, last=second)
        check_complete(tmp_path / "store", cache, dataset)
    sys.stdout.write(f"\n{len(pairs)} pairs of {steps} points of a fetch\n")


@some_then_all
def test_a_publication_killed_at_any_step_can_be_completed(tmp_path: Path, every: int) -> None:
    fill(tmp_path / "source", FILES)
    killed_at, steps = 0, None
    for last in count(1, every):
        place = tmp_path / str(last)
        (place / "store").mkdir(parents=True)
        (place / "source").symlink_to(tmp_path / "source")
        steps = killed.run(lambda place=place: publish(place), below=place / "store", last=last)  # type: ignore[misc]
        named = newest_version(open_store(str(place / "store")), "small")
        if named:
            check_complete(place / "store", place / "cache", named)
        assert publish(place).title == "small@1"
        check_complete(place / "store", place / "cache", publish(place))
        if steps is not None:
            break
        killed_at += 1
    sys.stdout.write(f"\n{killed_at} of {steps} points of a publication\n")


def test_concurrent_processes_fetch_the_same_dataset(tmp_path: Path, dataset: Dataset) -> None:
    fork = multiprocessing.get_context("fork")
    store, cache = tmp_path / "store", tmp_path / "cache"
    jobs = [fork.Process(target=fetch_folder, args=(store, cache, dataset)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    check_complete(store, cache, dataset)
