"""Links and pipes that another user creates in a shared cache are not followed by a fetch, read, verification or collection."""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES, Published, contents
from trainer.base.errors import UnsafePathError
from trainer.data.cache.collect import YOUNG_S, collect_cache
from trainer.data.cache.folder import Cache
from trainer.data.cache.inspections import cached_inspection
from trainer.data.cache.objects import own_name
from trainer.data.fetch import fetch_dataset, verify_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.version import CachedDataset

LATER = time() + 2 * YOUNG_S
PLANTED = (
    "objects",
    "objects/{object}",
    "versions",
    "versions/small",
    "versions/small/{content}",
    "leases",
    ".new-objects",
)
"""The folders of a cache that are replaced with a link."""


def fetch(published: Published) -> CachedDataset:
    return fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)


def version(published: Published) -> Path:
    """Create the folder of the dataset's version, as another user could, and return it."""
    place = published.cache.place(published.dataset)
    place.mkdir(parents=True, exist_ok=True)
    return place


def name_of_an_object(published: Published) -> str:
    aside = Published(
        store=published.store,
        dataset=published.dataset,
        source=published.source,
        cache=Cache(root=published.cache.root.parent / "aside"),
    )
    fetch(aside)
    return next((aside.cache.root / "objects").iterdir()).name


@pytest.mark.parametrize("planted", PLANTED)
def test_a_cache_folder_that_is_a_link_is_not_entered(published: Published, home: Path, planted: str) -> None:
    content = published.dataset.content.removeprefix("sha256:")
    link = published.cache.root / planted.format(object=name_of_an_object(published), content=content)
    link.parent.mkdir(parents=True)
    link.symlink_to(home)
    with pytest.raises(UnsafePathError, match=f"{link.name} is a symbolic link to '.*home', of uid .*; expected"):
        fetch(published)
    collect_cache_anyway(published)
    assert link.is_symlink()


def collect_cache_anyway(published: Published) -> None:
    try:
        collect_cache(published.cache, [], now=LATER, dry_run=False)
    except UnsafePathError as fault:
        assert "is a symbolic link" in fault.message  # noqa: PT017 - the collection may succeed or raise this error


@pytest.mark.parametrize("planted", ["versions/small", "versions/other", "objects/84", "versions/small/some"])
def test_a_collection_removes_nothing_through_a_link(published: Published, home: Path, planted: str) -> None:
    fetch(published).lease.end()  # type: ignore[union-attr]
    link = published.cache.root / planted
    if link.exists():
        link.rename(link.with_name("moved"))
    link.symlink_to(home)
    collect_cache(published.cache, [], now=LATER, dry_run=False)
    assert link.is_symlink()


def test_a_fetch_lock_that_is_a_link_is_not_followed(published: Published, home: Path) -> None:
    (version(published) / "fetch.lock").symlink_to(home / ".ssh" / "authorized_keys")
    with pytest.raises(UnsafePathError, match=r"fetch\.lock is a symbolic link to '.*authorized_keys'"):
        fetch(published)


def test_a_fetch_lock_that_is_a_hard_link_is_not_written_to(published: Published, home: Path) -> None:
    lock = version(published) / "fetch.lock"
    os.link(home / ".ssh" / "authorized_keys", lock)
    try:
        with pytest.raises(UnsafePathError, match=r"fetch\.lock has 2 hard links"):
            fetch(published)
    finally:
        lock.unlink()


@pytest.mark.parametrize("name", ["complete.json", "wanted.json", "manifest.jsonl"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_marker_that_is_not_a_file_is_replaced(published: Published, home: Path, name: str, kind: str) -> None:
    plant(version(published) / name, kind, home)
    cached = fetch(published)
    assert {path: bytes(cached.read(path)) for path in cached.paths} == FILES


def plant(path: Path, kind: str, home: Path) -> None:
    """Create a link to the victim's file, or a pipe without a writer, in place of a file."""
    if kind == "link":
        path.symlink_to(home / ".ssh" / "authorized_keys")
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_an_object_that_is_not_a_file_is_fetched_again(published: Published, home: Path, kind: str) -> None:
    fetch(published)
    for path in (published.cache.root / "objects").glob("*/*"):
        path.unlink()
        plant(path, kind, home)
    cached = fetch(published)
    assert {path: bytes(cached.read(path)) for path in cached.paths} == FILES
    assert verify_dataset(published.dataset, cache=published.cache) == len(FILES)


def test_a_marker_that_names_an_object_outside_the_cache_is_rejected(published: Published) -> None:
    fetch(published)
    marker = version(published) / "complete.json"
    marker.chmod(0o644)
    marker.write_text(marker.read_text().replace('"objects":{"', '"objects":{"../../x":1,"'))
    assert not published.cache.has(published.dataset)
    fetch(published)
    assert published.cache.has(published.dataset)


@pytest.mark.parametrize("target", [".ssh", "nowhere"])
def test_a_files_folder_that_is_a_link_is_not_changed(published: Published, home: Path, target: str) -> None:
    (version(published) / "files").symlink_to(home / target)
    folder = fetch(published).folder()
    assert (folder.name, contents(folder)) == (own_name("files"), FILES)


@pytest.mark.parametrize("name", [".files.{uid}-zz", "suspect.u{uid}", "inspected-0.json"])
def test_cleaning_up_removes_the_link_only(published: Published, home: Path, name: str) -> None:
    link = version(published) / name.format(uid=os.getuid())
    link.symlink_to(home / ".ssh")
    assert contents(fetch(published).folder()) == FILES


def test_remains_of_an_interrupted_fetch_are_not_read_through_a_link_or_pipe(published: Published, home: Path) -> None:
    shelf = published.cache.root / "objects" / name_of_an_object(published)
    aside = next((published.cache.root.parent / "aside" / "objects").glob("*/*"))
    shelf.mkdir(parents=True)
    (shelf / f".{aside.name}.{os.getuid()}-a").symlink_to(home / "thesis.txt")
    os.mkfifo(shelf / f".{aside.name}.{os.getuid()}-b")
    fetch(published)
    assert [path.name for path in shelf.iterdir()] == [aside.name]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lease_that_is_not_a_file_is_ignored(published: Published, home: Path, kind: str) -> None:
    fetch(published).lease.end()  # type: ignore[union-attr]
    plant(published.cache.root / "leases" / "x.json", kind, home)
    assert len(collect_cache(published.cache, [], now=LATER, dry_run=False).versions) == 1


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_an_inspection_that_is_not_a_file_is_repeated(published: Published, home: Path, kind: str) -> None:
    fetch(published)
    kept = cached_inspection(published.dataset, published.cache)
    plant(kept.path, kind, home)
    assert kept.read() is None


def test_reporting_a_wrong_byte_writes_through_no_link(published: Published, home: Path) -> None:
    fetch(published)
    (version(published) / own_name("suspect")).symlink_to(home / "new")
    assert published.cache.mark_suspect(published.dataset)
    assert published.cache.is_suspect(published.dataset)
    assert not (home / "new").exists()
