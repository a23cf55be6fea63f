"""Publishing uploads only the data that the store lacks, and the version's document last."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES, Published, contents, fill
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DatasetError, ManifestError
from trainer.data import check as check_dataset
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset, read_manifest
from trainer.data.files import SourceFolder
from trainer.data.packing import PACK_BYTES
from trainer.data.publish import publish_dataset, publish_declared
from trainer.data.reader import ArraysReader, TableField, TableReader
from trainer.data.upstream.listing import Upstream
from trainer.data.versions import newest_version, version_document
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.packing import Slice

DRAFT = Draft(name="small")


def test_publishing_twice_changes_nothing(published: Published) -> None:
    before = list(published.store.keys(""))
    again = publish_dataset(DRAFT, source=published.source, store=published.store, declared=published.dataset)
    assert (again.dataset, again.is_new, again.uploaded) == (published.dataset, False, 0)
    assert list(published.store.keys("")) == before


def test_a_version_document_is_written_last(published: Published) -> None:
    key = "datasets/small/1.json"
    assert b"".join(published.store.read(key)) == version_document(published.dataset)
    assert published.store.size(object_key(published.dataset.manifest))


def test_a_new_version_uploads_only_new_files(published: Published) -> None:
    shutil.move(published.source.root / "a.txt", published.source.root / "renamed.txt")
    (published.source.root / "new.txt").write_bytes(b"new bytes")
    new = publish_dataset(DRAFT, source=published.source, store=published.store, declared=published.dataset)
    assert (new.dataset.title, new.is_new, new.uploaded) == ("small@2", True, len(b"new bytes"))
    folder = fetch_dataset(new.dataset, cache=published.cache, open_store=lambda: published.store).folder()
    assert contents(folder) == contents(published.source.root)


def test_other_splits_of_the_same_files_are_a_new_version(published: Published) -> None:
    draft = DRAFT.model_copy(update={"splits": {"train": (0, 3)}})
    new = publish_dataset(draft, source=published.source, store=published.store, declared=published.dataset)
    assert (new.dataset.title, new.uploaded, new.dataset.content) == ("small@2", 0, published.dataset.content)


def test_a_declared_version_is_published_unchanged_to_an_empty_store(published: Published) -> None:
    declared = published.dataset.model_copy(update={"version": 7})
    again = publish_dataset(DRAFT, source=published.source, store=MemoryStore(), declared=declared)
    assert again.dataset == declared


def test_a_colleagues_version_is_not_overwritten(published: Published) -> None:
    (published.source.root / "theirs").write_bytes(b"theirs")
    publish_dataset(DRAFT, source=published.source, store=published.store, declared=published.dataset)
    (published.source.root / "theirs").write_bytes(b"mine")
    mine = publish_dataset(DRAFT, source=published.source, store=published.store, declared=published.dataset)
    assert mine.dataset.title == "small@3"
    assert newest_version(published.store, "small") == mine.dataset


class EditedFolder(SourceFolder):
    """A folder in which a file changes between hashing and upload."""

    def read(self, piece: Slice) -> bytes:
        return bytes(len(super().read(piece)))


def test_a_file_edited_during_publishing_is_detected(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(DatasetError, match="edited during publication"):
        publish_dataset(DRAFT, source=EditedFolder(root=fill(tmp_path, FILES)), store=store)
    assert not list(store.keys("datasets/"))


def test_a_file_removed_during_publishing_is_named(published: Published) -> None:
    (published.source.root / "dangling").symlink_to("nowhere")
    with pytest.raises(DatasetError, match="dangling cannot be read"):
        publish_dataset(DRAFT, source=published.source, store=published.store)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"README": b"1", "readme": b"2"}, "one file on some file systems"),
        ({"a\\b": b"1"}, "backslash"),
        ({"a\nb": b"1"}, "control"),
    ],
)
def test_files_with_unportable_names_are_rejected_before_anything_is_read(
    tmp_path: Path, files: dict[str, bytes], why: str
) -> None:
    with pytest.raises(ManifestError, match=why):
        publish_dataset(DRAFT, source=SourceFolder(root=fill(tmp_path, files)), store=MemoryStore())


def test_a_name_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9").write_bytes(b"1")
    with pytest.raises(ManifestError, match="UTF-8"):
        publish_dataset(DRAFT, source=SourceFolder(root=tmp_path), store=MemoryStore())


def test_a_linked_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match="link to a folder"):
        publish_dataset(DRAFT, source=SourceFolder(root=tmp_path), store=MemoryStore())


def test_a_path_that_is_not_a_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the folder .*nowhere does not exist"):
        publish_dataset(DRAFT, source=SourceFolder(root=tmp_path / "nowhere"), store=MemoryStore())


def test_a_reader_that_needs_a_missing_file_is_rejected(published: Published) -> None:
    draft = DRAFT.model_copy(update={"reader": ArraysReader(kind="arrays", fields={"x": "a.text"})})
    with pytest.raises(DatasetError, match=r"a\.text") as caught:
        publish_dataset(draft, source=published.source, store=published.store)
    assert caught.value.hint == "did you mean a.txt?"


def test_a_large_file_is_published_in_parts(tmp_path: Path) -> None:
    store, body = MemoryStore(), bytes(range(251)) * (2 * PACK_BYTES // 251 + 9)
    source = SourceFolder(root=fill(tmp_path / "source", {"big": body, "small": b"1"}))
    first = publish_dataset(DRAFT, source=source, store=store).dataset
    (source.root / "big").write_bytes(body + b"!")
    second = publish_dataset(DRAFT, source=source, store=store, declared=first)
    assert second.uploaded == len(body) + 1 - 2 * PACK_BYTES
    assert read_manifest(store, second.dataset)[0].sha256 == digest_of_bytes(body + b"!")


def test_a_declared_version_is_published_as_declared_or_not_at_all(published: Published) -> None:
    store = MemoryStore()
    assert publish_declared(published.dataset, source=published.source, store=store).is_new
    assert not publish_declared(published.dataset, source=published.source, store=store).is_new
    (published.source.root / "a.txt").write_bytes(b"other")
    with pytest.raises(DatasetError, match=f"expected {published.dataset.content}"):
        publish_declared(published.dataset, source=published.source, store=MemoryStore())


def test_a_declared_version_that_differs_in_the_store_is_rejected(published: Published) -> None:
    other = published.dataset.model_copy(update={"license": "other"})
    with pytest.raises(DatasetError, match="is another version"):
        publish_declared(other, source=published.source, store=published.store)


@pytest.mark.parametrize(("is_read", "notes"), [(True, 0), (False, 1)])
def test_unchecked_columns_are_a_note_only_if_no_inspection_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_read: bool, notes: int
) -> None:
    monkeypatch.setattr(check_dataset, "find_spec", lambda _: None)
    fill(tmp_path, {"t.parquet": b"PAR1....\x04\0\0\0PAR1"})
    table = TableReader(kind="table", files=("t.parquet",), fields={"x": TableField(column="a")})
    draft = Draft(name="small", reader=table, splits={"train": (0, 1)})
    source = SourceFolder(root=tmp_path, inspect=lambda *_: is_read)
    found = publish_dataset(draft, source=source, store=MemoryStore()).notes
    assert sum(check_dataset.TABLE_UNCHECKED in note for note in found) == notes


SECRET = "postgres://reader:" + "hunter2hunter@db.lab/x"


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("source", SECRET, "remove the secret from `source` in datasets/small.toml, or pass --source without it"),
        ("license", SECRET, "remove the secret from `license` in datasets/small.toml, or pass --license without it"),
        (
            "upstream",
            Upstream(source=SECRET, listing=digest_of_bytes(b"")),
            "import it from an address without the secret: reprise data import small ADDRESS",
        ),
    ],
)
def test_a_secret_in_a_description_is_rejected_with_the_way_to_remove_it(
    tmp_path: Path, key: str, value: object, hint: str
) -> None:
    draft, store = DRAFT.model_copy(update={key: value}), MemoryStore()
    with pytest.raises(DatasetError, match=f"the {key} of dataset small would be published, but it contains") as caught:
        publish_dataset(draft, source=SourceFolder(root=fill(tmp_path / "x", FILES)), store=store)
    assert caught.value.hint == hint
    assert list(store.keys("")) == []
