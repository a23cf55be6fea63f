"""The difference between two versions, computed from their manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.data.conftest import Published, fill
from tests.data.manifests import manifest_of
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError
from trainer.data.declaration import Dataset, Draft
from trainer.data.files import SourceFolder
from trainer.data.manifest_lines import ManifestEntry, ManifestFiles
from trainer.data.publish import publish_dataset
from trainer.data.versions import Change, diff_datasets
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


NAMES = some.sampled_from(["a", "a/b", "a b", 'a"', "ä", "b", "b.txt", "b-", "c/d/e"])


def publish_named(files: dict[str, int], template: Dataset, store: MemoryStore) -> Dataset:
    """Write the manifest of a version with distinct files to the store, without packs."""
    entries = [
        ManifestEntry(path=path, size=0, sha256=digest_of_bytes(b"%d" % number)) for path, number in files.items()
    ]
    raw = manifest_of(sorted(entries, key=lambda entry: entry.path.encode()))
    store.write(object_key(digest_of_bytes(raw)), raw, sha256=digest_of_bytes(raw))
    new = {"manifest": digest_of_bytes(raw), "content": ManifestFiles(raw).content(), "files": len(entries), "bytes": 0}
    return template.model_copy(update=new)


@given(some.dictionaries(NAMES, some.integers(0, 1)), some.dictionaries(NAMES, some.integers(0, 1)))
def test_a_diff_lists_the_differences_of_two_folders(before: dict[str, int], after: dict[str, int]) -> None:
    digest = digest_of_bytes(b"")
    store = MemoryStore()
    template = Draft(name="small")
    from_template = {
        **template.model_dump(),
        "version": 1,
        "manifest": digest,
        "content": digest,
        "files": 0,
        "bytes": 0,
    }

    base = Dataset.model_validate(from_template)
    if "a" in before or "a" in after:
        before.pop("a/b", None)
        after.pop("a/b", None)
    found = list(diff_datasets(publish_named(before, base, store), publish_named(after, base, store), store=store))
    expected = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert [change.path for change in found] == sorted(expected, key=str.encode)
    kinds = {change.path: change.kind for change in found}
    assert all((kinds[path] == "added") == (path not in before) for path in expected)
    assert all((kinds[path] == "removed") == (path not in after) for path in expected)


def test_sizes_are_reported(published: Published, tmp_path: Path) -> None:
    other = SourceFolder(root=fill(tmp_path / "other", {"a.txt": b"longer than first"}))
    new = publish_dataset(Draft(name="small"), source=other, store=published.store).dataset
    found = list(diff_datasets(published.dataset, new, store=published.store))
    assert found[0] == Change(path="a.txt", before=5, after=17)
    assert {change.kind for change in found[1:]} == {"removed"}


def test_an_altered_manifest_is_detected(published: Published) -> None:
    store = published.store
    key = object_key(published.dataset.manifest)
    raw = store._objects[key]
    store._objects[key] = raw.replace(b'"a.txt",5', b'"a.txt",6')
    other = published.dataset.model_copy(update={"content": digest_of_bytes(b"")})
    with pytest.raises(DigestMismatchError, match="manifest of small@1 has been altered"):
        list(diff_datasets(published.dataset, other, store=store))
