"""The differences between the samples of two dataset versions, matched by a key or by their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as some

from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset
from trainer.data.files import FolderFiles
from trainer.training.readers.overview import make_overview
from trainer.training.readers.row_changes import Version, compare_values

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.overview import ValueChanges

pytestmark = pytest.mark.torch
NOTHING = "sha256:" + "0" * 64
Row = tuple[str, int, str]


def version(folder: Path, train: list[Row], val: list[Row], *, has_identifier: bool = True) -> Version:
    """Return a dataset version whose rows have an identifier, which is left out, a number and a text."""
    folder.mkdir(parents=True)
    rows = [*train, *val]
    columns = {name: [row[at] for row in rows] for at, name in enumerate(("id", "a", "b"))}
    read = {"id": {"type": "text", "read": "left out"}, "a": {"type": "whole", "read": "number"}}
    if not has_identifier:
        columns.pop("id")
        read.pop("id")
    read["b"] = {"type": "text", "read": "category"}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    treatment = {"b": {"values": sorted({row[2] for row in rows})}}
    fields = {"x": {"column": "a"}, "c": {"column": ["b"], "dtype": "int64"}}
    dataset = Dataset.model_validate(
        {
            "name": "t",
            "reader": {"kind": "table", "files": ["t.parquet"], "fields": fields, "columns": treatment},
            "source_table": {"file": "t.csv", "format": "csv", "columns": read},
            "splits": {"train": [0, len(train)], "val": [len(train), len(rows)]},
            "version": 1,
            "manifest": NOTHING,
            "content": NOTHING,
            "files": 1,
            "bytes": 0,
        }
    )
    files = FolderFiles(folder)
    return Version(dataset=dataset, files=files, overview=make_overview(dataset, files))


def counts(changes: ValueChanges, split: str) -> dict[str, Any]:
    found = changes.rows[split].model_dump(exclude_defaults=True)
    return {name: count for name, count in found.items() if name not in {"before", "after"}}


def test_rows_are_matched_by_an_identifier(tmp_path: Path) -> None:
    before = version(tmp_path / "1", [("p", 1, "x"), ("q", 2, "x"), ("r", 3, "y")], [("s", 4, "x")])
    after = version(tmp_path / "2", [("p", 1, "x"), ("q", 9, "z"), ("t", 3, "y")], [("r", 3, "y"), ("s", 5, "x")])
    changes = compare_values(before, after)
    assert changes.key == "id"
    differ = {"changed": 1, "changed_columns": {"a": 1, "b": 1}}
    assert counts(changes, "train") == {"added": 1, "moved_out": 1, **differ}
    assert counts(changes, "val") == {"moved_in": 1, "changed": 1, "changed_columns": {"a": 1}}
    assert changes.categories == {"b": ("z",)}
    found = {(each.column, each.split): each for each in changes.columns}
    assert found["b", "train"].added == ["z"]
    before_a, after_a = found["a", "train"].before, found["a", "train"].after
    assert before_a is not None
    assert after_a is not None
    assert ((before_a.low, before_a.high), (after_a.low, after_a.high)) == ((1, 3), (1, 9))


def test_without_a_key_a_changed_row_is_removed_and_added(tmp_path: Path) -> None:
    before = version(tmp_path / "1", [("p", 1, "x"), ("p", 1, "x"), ("p", 2, "y")], [("p", 4, "x")])
    after = version(tmp_path / "2", [("p", 1, "x"), ("p", 2, "z")], [("p", 4, "x"), ("p", 1, "x")])
    changes = compare_values(before, after)
    assert changes.key is None
    assert counts(changes, "train") == {"added": 1, "removed": 1, "moved_out": 1}
    assert counts(changes, "val") == {"moved_in": 1}
    assert "a changed sample counts as one removed and one added" in changes.compared[1]


ROWS = some.lists(some.tuples(some.just("p"), some.integers(0, 2), some.sampled_from("xy")), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(train=ROWS, val=ROWS, new_train=ROWS, new_val=ROWS)
def test_every_row_is_counted_once(
    train: list[Row], val: list[Row], new_train: list[Row], new_val: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    one, other = version(folder / "1", train, val), version(folder / "2", new_train, new_val)
    for split, was, is_ in (("train", train, new_train), ("val", val, new_val)):
        found = compare_values(one, other).rows[split]
        stayed = sum(min(was.count(row), is_.count(row)) for row in {*was})
        assert (found.before, found.after) == (len(was), len(is_))
        assert found.removed + found.moved_out == len(was) - stayed
        assert found.added + found.moved_in == len(is_) - stayed
    removed = sum(each.removed for each in compare_values(one, other).rows.values())
    every, new = [*train, *val], [*new_train, *new_val]
    assert removed == sum(max(0, every.count(row) - new.count(row)) for row in {*every})


def test_a_key_that_does_not_identify_rows_is_an_error(tmp_path: Path) -> None:
    one = version(tmp_path / "1", [("p", 1, "x"), ("q", 1, "x")], [("r", 4, "x")])
    with pytest.raises(DatasetError, match="column 'a' does not identify the samples"):
        compare_values(one, one, key="a")
    with pytest.raises(DatasetError, match="t@1 has no column 'ID'") as caught:
        compare_values(one, one, key="ID")
    assert "id" in str(caught.value.hint)


def test_columns_that_one_version_lacks_are_named_and_not_compared(tmp_path: Path) -> None:
    one = version(tmp_path / "1", [("p", 1, "x")], [("r", 4, "x")])
    other = version(tmp_path / "2", [("p", 1, "x")], [("r", 4, "x")], has_identifier=False)
    changes = compare_values(one, other)
    assert (changes.columns_removed, changes.columns_added, counts(changes, "train")) == (("id",), (), {})


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    one = version(tmp_path / "1", [("p", 1, "x"), ("q", 2, "y")], [("r", 4, "x")])
    other = version(tmp_path / "2", [("p", 1, "x"), ("q", 2, "y")], [("r", 4, "x")])
    table = pq.read_table(tmp_path / "2" / "t.parquet")
    pq.write_table(table.select(["b", "a", "id"]), tmp_path / "2" / "t.parquet")
    assert counts(compare_values(one, other), "train") == {}


def test_files_are_matched_by_name_and_windows_are_not_compared(tmp_path: Path) -> None:
    from tests.data.conftest import fill
    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Draft
    from trainer.data.fetch import fetch_dataset
    from trainer.data.files import SourceFolder
    from trainer.data.publish import publish_dataset
    from trainer.stores.memory import MemoryStore

    store, versions = MemoryStore(), []
    for number, bodies in enumerate(({"a": b"1", "b": b"2", "c": b"3"}, {"a": b"1", "b": b"9", "d": b"3"})):
        source = SourceFolder(root=fill(tmp_path / str(number), bodies))
        dataset = publish_dataset(Draft(name="t"), source=source, store=store).dataset
        files = fetch_dataset(dataset, cache=Cache(root=tmp_path / "cache"), open_store=lambda: store)
        versions.append(Version(dataset=dataset, files=files, overview=make_overview(dataset, files)))
    changes = compare_values(versions[0], versions[1])
    assert (changes.key, counts(changes, "")) == ("file", {"added": 1, "removed": 1, "changed": 1})
