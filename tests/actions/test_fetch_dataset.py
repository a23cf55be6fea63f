"""Fetching: what appears is whole and verified, whatever the store, the disk and other processes do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.actions import fakes
from tests.actions.conftest import FILES, Published, contents
from trainer.actions import parallel
from trainer.actions.fetch_dataset import fetch_dataset
from trainer.digest import digest_of_bytes
from trainer.errors import (
    AlteredError,
    DiskFullError,
    ManifestError,
    ObjectMissingError,
    RepriseError,
    StoreUnreachableError,
)
from trainer.store import turn
from trainer.store.cache import Cache
from trainer.store.contract import object_key

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.store.contract import Store


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(parallel, "PAUSES_S", (0.0, 0.0))


def away() -> Store:
    """A store that must not be needed."""
    raise StoreUnreachableError("the store is away")


def temporary_files(published: Published) -> list[Path]:
    """What a fetch left behind that is not a verified file."""
    return [path for path in published.cache.root.rglob("new/*") if path.is_file()]


def test_what_was_published_is_fetched(published: Published) -> None:
    """Every file comes back under its name, read-only."""
    folder = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    assert contents(folder) == FILES
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o444}
    assert not list(published.cache.root.rglob("new"))


def test_with_the_dataset_in_the_cache_the_store_may_be_away(published: Published) -> None:
    """The second fetch opens no store."""
    first = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    assert fetch_dataset(published.dataset, cache=published.cache, open_store=away) == first
    assert published.cache.find(published.dataset) == first


def test_without_it_the_store_is_asked_once(published: Published) -> None:
    """A store that is away is said to be away, and the cache holds nothing."""
    with pytest.raises(StoreUnreachableError):
        fetch_dataset(published.dataset, cache=published.cache, open_store=away)
    assert published.cache.find(published.dataset) is None


ONCE = [fakes.flipped, fakes.cut, fakes.silently_cut, fakes.reset]


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_happens_once_is_survived(published: Published, fault: Any) -> None:
    """A piece whose bytes came wrong is fetched again."""
    store = fakes.FaultyStore(published.store, fault, times=1)
    folder = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)
    assert contents(folder) == FILES
    assert len(store.reads) == 3


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_stays_is_named_and_the_same_command_goes_on_later(published: Published, fault: Any) -> None:
    """No unverified byte gets a name, no temporary file stays, and the next fetch succeeds."""
    store = fakes.FaultyStore(published.store, fault, times=99)
    with pytest.raises((AlteredError, StoreUnreachableError)):
        fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)
    assert published.cache.find(published.dataset) is None
    assert not temporary_files(published)
    assert (
        contents(fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)) == FILES
    )


def test_an_endless_body_ends(published: Published) -> None:
    """No more is read of a body than was asked for; of a manifest, no more than one of its size can have."""
    store = fakes.FaultyStore(published.store, fakes.endless, times=99)
    assert contents(fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)) == FILES


def test_an_endless_manifest_is_refused(published: Published) -> None:
    """A body that does not end does not fill the memory."""
    store = fakes.FaultyStore(published.store, fakes.endless, times=99, after=0)
    with pytest.raises(ManifestError, match="longer than"):
        fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)


def test_an_altered_manifest_is_refused(published: Published) -> None:
    """The manifest is held against the digest that git has."""
    store = fakes.FaultyStore(published.store, fakes.flipped, times=99, after=0)
    with pytest.raises(AlteredError, match="manifest of small@1"):
        fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)


def test_a_manifest_of_another_dataset_is_refused(published: Published) -> None:
    """A declaration whose manifest holds other files is named, with both."""
    wrong = published.dataset.model_copy(update={"files": 5})
    with pytest.raises(ManifestError, match="declared are 5"):
        fetch_dataset(wrong, cache=published.cache, open_store=lambda: published.store)


def test_a_dataset_that_the_store_lacks_is_named(published: Published) -> None:
    """The message names the dataset and the store, not a digest."""
    wrong = published.dataset.model_copy(update={"manifest": digest_of_bytes(b"other")})
    with pytest.raises(ObjectMissingError, match="dataset small@1 is not in store memory:"):
        fetch_dataset(wrong, cache=published.cache, open_store=lambda: published.store)


def test_a_hostile_manifest_creates_nothing(published: Published) -> None:
    """A path that leads out of the cache is refused before any file is made."""
    raw = b'{"bytes":0,"content":"%s","files":1,"format":"reprise.manifest/1","packs":[]}\n["../../../outside",0,"%s",[]]\n'
    body = raw % ((digest_of_bytes(b"").encode(),) * 2)
    published.store.write(object_key(digest_of_bytes(body)), body, sha256=digest_of_bytes(body))
    hostile = published.dataset.model_copy(update={"manifest": digest_of_bytes(body), "files": 1, "bytes": 0})
    with pytest.raises(ManifestError, match=r"\.\./"):
        fetch_dataset(hostile, cache=published.cache, open_store=lambda: published.store)
    assert not list(published.cache.root.parent.rglob("outside*"))


def test_a_full_disk_is_one_clear_line_and_leaves_no_temporary_file(published: Published) -> None:
    """ENOSPC while a file is written becomes `DiskFullError`, naming the file."""
    store = fakes.FaultyStore(published.store, fakes.full, times=99)
    with pytest.raises(DiskFullError, match="no space left"):
        fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)
    assert not temporary_files(published)


def test_a_disk_that_is_too_small_is_known_before(published: Published) -> None:
    """What cannot fit is said before it is fetched."""
    staging = published.cache.staging(published.dataset)
    with pytest.raises(DiskFullError, match="MB more"):
        staging.require(1 << 60)


def test_a_damaged_file_of_an_unfinished_fetch_is_replaced(published: Published) -> None:
    """What a killed fetch left is hashed, kept where it is right, and fetched where it is not."""
    staging = published.cache.staging(published.dataset)
    (staging.folder / "files/a.txt").write_bytes(b"wrong")
    (staging.folder / "files/images").mkdir()
    (staging.folder / "files/images/0001.png").write_bytes(FILES["images/0001.png"])
    (staging.folder / "new/leftover").write_bytes(b"half a fi")
    store = fakes.FaultyStore(published.store, iter, times=0)
    assert contents(fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: store)) == FILES
    assert not temporary_files(published)


@pytest.mark.parametrize("rounds", [1, pytest.param(200, marks=pytest.mark.long)])
def test_many_at_once_are_all_right_where_locks_lie(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """Eight fetches of one dataset into one cache, none waiting for another, all end with it."""
    monkeypatch.setattr(turn, "_taken", lambda _: True)
    for number in range(rounds):
        cache = Cache(root=tmp_path / str(number))
        with ThreadPoolExecutor(8) as threads:
            jobs = [
                threads.submit(fetch_dataset, published.dataset, cache=cache, open_store=lambda: published.store)
                for _ in range(8)
            ]
            folders = {job.result() for job in jobs}
        assert [contents(folder) for folder in folders] == [FILES]


def test_of_many_at_once_one_downloads(published: Published) -> None:
    """Those who come later wait for the first and find the dataset in the cache."""
    store = fakes.FaultyStore(published.store, iter, times=0)
    with ThreadPoolExecutor(8) as threads:
        jobs = [
            threads.submit(fetch_dataset, published.dataset, cache=published.cache, open_store=lambda: store)
            for _ in range(8)
        ]
        assert {contents(job.result())["a.txt"] for job in jobs} == {b"first"}
    assert len(store.reads) == 2, "one manifest, one pack"


def test_a_dataset_found_damaged_is_made_right_by_fetching(published: Published) -> None:
    """After `reopen` the next fetch keeps what is right and replaces the rest."""
    folder = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    (folder / "a.txt").chmod(0o644)
    (folder / "a.txt").write_bytes(b"wrong")
    published.cache.reopen(published.dataset)
    assert published.cache.find(published.dataset) is None
    assert (
        contents(fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)) == FILES
    )


def test_a_cache_folder_that_lost_its_marker_is_taken_up_again(published: Published) -> None:
    """Without its marker a folder is believed in nothing, and not in the way."""
    folder = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    folder.parent.chmod(0o755)
    (folder.parent / "complete.json").chmod(0o644)
    (folder.parent / "complete.json").write_text("{}")
    assert (
        contents(fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)) == FILES
    )


def test_errors_of_a_fetch_are_errors_with_a_name(published: Published) -> None:
    """A cache below a file is refused in words."""
    published.cache.root.write_text("not a folder")
    with pytest.raises(RepriseError, match="could not be written"):
        fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o2775])
def test_what_is_made_in_a_cache_is_as_open_as_the_cache(published: Published, mode: int) -> None:
    """A folder made for sharing stays one whatever the umask; one's own stays one's own; files are for every reader."""
    published.cache.root.mkdir()
    published.cache.root.chmod(mode)
    folder = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    above = [published.cache.root / "datasets", folder.parent.parent]
    assert [path.stat().st_mode & 0o7777 for path in above] == [mode] * 2
