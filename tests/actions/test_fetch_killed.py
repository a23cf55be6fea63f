"""A fetch that is killed at any step: what has a name is right, and the same command again ends with the whole dataset."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.actions.conftest import FILES, contents, fill, leftovers, objects
from trainer.actions.fetch_dataset import fetch_dataset
from trainer.actions.publish_dataset import publish_dataset, version_document
from trainer.dataset import Draft
from trainer.digest import digest_of_file
from trainer.store import open_store
from trainer.store.cache import Cache
from trainer.store.folder import SourceFolder

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A dataset in a directory store, `tmp_path/store`."""
    (tmp_path / "store").mkdir()
    source = SourceFolder(root=fill(tmp_path / "source", FILES))
    return publish_dataset(Draft(name="small"), source=source, store=open_store(str(tmp_path / "store"))).dataset


def fetch(tmp_path: Path, dataset: Dataset, *, last: int) -> subprocess.CompletedProcess[str]:
    """Fetch in a process of its own, which dies at step `last`."""
    words = [str(tmp_path / "store"), str(tmp_path / "cache"), version_document(dataset).decode(), str(last)]
    return subprocess.run(
        [sys.executable, "-m", "tests.actions.killed", *words], capture_output=True, text=True, check=False
    )


def check(tmp_path: Path, dataset: Dataset) -> None:
    """All names are those of right objects; the next fetch is whole and leaves nothing temporary."""
    cache = Cache(root=tmp_path / "cache")
    for path in objects(cache):
        assert digest_of_file(path) == f"sha256:{path.parent.name}{path.name}"
    cached = fetch_dataset(dataset, cache=cache, open_store=lambda: open_store(str(tmp_path / "store")))
    assert {path: bytes(cached.read(path)) for path in cached.paths} == FILES
    assert contents(cached.folder()) == FILES
    assert not leftovers(cache)
    assert not list(cache.root.rglob(".files*"))


@pytest.mark.parametrize("last", [4, 9, 15, 33])
def test_killed_at_some_steps(tmp_path: Path, dataset: Dataset, last: int) -> None:
    """A sample of the campaign below."""
    killed = fetch(tmp_path, dataset, last=last)
    assert killed.returncode == -9, killed.stderr
    check(tmp_path, dataset)


@pytest.mark.long
def test_killed_at_every_step(tmp_path: Path, dataset: Dataset) -> None:
    """For every N: killed at the N-th change of the disk, again at its third, then left to end."""
    whole = fetch(tmp_path, dataset, last=10_000)
    steps = json.loads(whole.stdout)["steps"]
    for last in range(1, steps + 1):
        place = tmp_path / str(last)
        place.mkdir()
        (place / "store").symlink_to(tmp_path / "store")
        assert fetch(place, dataset, last=last).returncode == -9
        fetch(place, dataset, last=3)
        check(place, dataset)


def test_several_processes_at_once(tmp_path: Path, dataset: Dataset) -> None:
    """Four processes, cold: all end with the same folder."""
    words = [str(tmp_path / "store"), str(tmp_path / "cache"), version_document(dataset).decode(), "0"]
    jobs = [
        subprocess.Popen([sys.executable, "-m", "tests.actions.killed", *words], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    folders = {json.loads(job.communicate()[0])["folder"] for job in jobs}
    assert len(folders) == 1
    check(tmp_path, dataset)
