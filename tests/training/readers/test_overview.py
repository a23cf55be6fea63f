"""The overview of a dataset: statistics of each column in each split, and hints at duplicates and leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.declaration import Dataset
from trainer.data.files import FolderFiles
from trainer.training.readers.overview import make_overview

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.data.overview import ColumnValues, Overview

pytestmark = pytest.mark.torch
NOTHING = "sha256:" + "0" * 64
READER = {"kind": "table", "files": ["t.parquet"]}


def declared(reader: dict[str, Any], splits: dict[str, Any]) -> Dataset:
    facts = {"version": 1, "manifest": NOTHING, "content": NOTHING, "files": 1, "bytes": 0}
    return Dataset.model_validate({"name": "t", "reader": reader, "splits": splits, **facts})


@pytest.fixture
def of_table(tmp_path: Path) -> Callable[..., Overview]:
    """Return a function that returns the overview of a table; train is the first half of its rows, val the second."""

    def overview(columns: dict[str, Any], treatment: Any = None, **fields: Any) -> Overview:
        pq.write_table(
            pa.table(columns), tmp_path / "t.parquet", row_group_size=max(7, len(next(iter(columns.values()))) // 9)
        )
        count = len(next(iter(columns.values())))
        splits = {"train": [0, count // 2], "val": [count // 2, count]}
        reader = {**READER, "fields": fields, "columns": treatment or {}}
        return make_overview(declared(reader, splits), FolderFiles(tmp_path))

    return overview


def of_split(overview: Overview, name: str, split: str) -> ColumnValues:
    column = overview.column(name)
    assert column is not None
    return column.splits[split]


def test_ranges_missing_and_different_values_of_each_split(of_table: Callable[..., Overview]) -> None:
    columns = {"a": [1, None, 3, 9], "b": ["x", "x", "y", None], "y": [0, 1, 1, 1]}
    found = of_table(columns, x={"column": "a"}, label={"column": "y", "dtype": "int64"})
    train, val = of_split(found, "a", "train"), of_split(found, "a", "val")
    assert (train.low, train.high, train.missing, val.low, val.high) == (1, 1, 1, 3, 9)
    assert (of_split(found, "b", "train").values, of_split(found, "b", "val").missing) == ({"x": 2}, 1)
    assert found.classes == {"0": {"train": 1, "val": 0}, "1": {"train": 1, "val": 2}}
    assert [(each.name, each.read_as) for each in found.columns] == [("a", "x"), ("b", "left out"), ("y", "label")]


def test_infinities_are_counted_as_missing_and_are_outside_of_the_range(
    tmp_path: Path, of_table: Callable[..., Overview]
) -> None:
    inf, nan = float("inf"), float("nan")
    found = of_table({"a": [inf, 1.0, -inf, nan, 2.0, 3.0, 4.0, 5.0]}, x={"column": "a"})
    train = of_split(found, "a", "train")
    assert (train.present, train.missing, train.low, train.high, train.different) == (1, 3, 1.0, 1.0, 1)
    np.save(tmp_path / "s.npy", np.array([1, inf, nan, 3, 4, 5, 6, 7], np.float32))
    reader = {"kind": "arrays", "fields": {"s": "s.npy"}}
    overview = make_overview(declared(reader, {"train": [0, 4], "val": [4, 8]}), FolderFiles(tmp_path, ["s.npy"]))
    scalar = of_split(overview, "s", "train")
    assert (scalar.present, scalar.missing, scalar.low, scalar.high) == (2, 2, 1.0, 3.0)


def test_whole_numbers_above_2_to_the_53_stay_different(of_table: Callable[..., Overview]) -> None:
    found = of_table({"a": [2**60, 2**60 + 1, 2**60, 2**60 + 1]}, x={"column": "a", "dtype": "int64"})
    assert (of_split(found, "a", "train").different, of_split(found, "a", "train").high) == (2, 2**60 + 1)


def test_equal_samples_are_reported_with_their_labels(of_table: Callable[..., Overview]) -> None:
    columns = {"a": [1.0, 2.0, 2.0, 4.0, 1.0, 7.0, 8.0, 2.0], "id": [*"abcdefgh"], "y": [0, 1, 1, 0, 1, 0, 1, 1]}
    hints = of_table(columns, x={"column": "a"}, label={"column": "y", "dtype": "int64"}).hints
    assert hints == (
        "2 of 4 samples of val are also in train, for example row 4 of t.parquet and row 0 of t.parquet; 1 of them with another label",
        "1 of 4 samples of train is equal to an earlier sample, for example row 2 of t.parquet to row 1 of t.parquet",
        "1 input occurs with several labels, for example row 0 of t.parquet and row 4 of t.parquet",
    )


def test_a_missing_value_is_no_zero_and_negative_zero_is_zero(of_table: Callable[..., Overview]) -> None:
    assert of_table({"a": [0.0, 1.0, None, 2.0]}, x={"column": "a"}).hints == ()
    assert (
        "1 of 2 samples of val is also in train" in of_table({"a": [0.0, 1.0, -0.0, 2.0]}, x={"column": "a"}).hints[0]
    )


@pytest.mark.parametrize("kind", ["text", "whole", "number", "missing", "range"])
def test_a_column_that_gives_the_label_is_reported(kind: str, of_table: Callable[..., Overview]) -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 2000)
    leaks = {
        "text": ["no" if each else "yes" for each in label],
        "whole": label * 3 + 1,
        "number": [0.25 if each else 0.5 for each in label],
        "missing": [None if each else 1.5 for each in label],
        "range": random.random(2000) + 2 * label,
    }
    columns = {"fair": random.random(2000), "few": random.integers(0, 50, 2000), "leak": leaks[kind], "y": label}
    treatment = {"leak": {"values": ["no", "yes"]}} if kind == "text" else {}
    leak = {"column": "leak", "dtype": "int64" if treatment else "float32"}
    hints = of_table(
        columns, treatment, x={"column": ["fair", "few"]}, z=leak, label={"column": "y", "dtype": "int64"}
    ).hints
    (hint,) = (each for each in hints if each.startswith("column "))
    assert hint.startswith("column 'leak' alone determines the label of ")


def test_values_are_named_as_long_as_they_are_counted(of_table: Callable[..., Overview]) -> None:
    found = of_table(
        {"a": [f"u{n}" for n in range(40_000)] + ["same"] * 40_000, "b": [*range(80_000)]}, x={"column": "b"}
    )
    train, val = of_split(found, "a", "train"), of_split(found, "a", "val")
    assert (train.different, train.values, val.values) == (None, None, {"same": 40_000})


def test_a_column_that_gives_a_number_to_predict_is_reported(of_table: Callable[..., Overview]) -> None:
    price = np.random.default_rng(0).random(100)
    columns = {"cents": 100 * price + 3, "noise": np.random.default_rng(1).random(100), "price": price}
    hints = of_table(columns, x={"column": ["cents", "noise"]}, target={"column": "price"}).hints
    assert hints == ("column 'cents' alone determines the target: their correlation is 1.000000",)


def test_categories_that_train_lacks_are_reported(of_table: Callable[..., Overview]) -> None:
    columns = {"a": [*range(8)], "y": [0, 1, 0, 1, 0, 1, 2, 2]}
    hints = of_table(columns, x={"column": "a"}, label={"column": "y", "dtype": "int64"}).hints
    assert hints == ("column 'y': train has no '2'; val has 2 such samples",)


def test_arrays_pictures_lines_files_and_windows_have_an_overview(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 2], [3, 4], [1, 2], [5, np.nan]], dtype=np.float32))
    np.save(tmp_path / "p.npy", np.zeros((4, 1, 9, 9), dtype=np.float32))
    np.save(tmp_path / "y.npy", np.array([0, 1, 1, 1]))
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\none\nfour")
    splits = {"train": [0, 2], "val": [2, 4]}
    files = {"x": "x.npy", "picture": "p.npy", "label": "y.npy"}
    arrays = make_overview(declared({"kind": "arrays", "fields": files}, splits), FolderFiles(tmp_path))
    assert [(each.name, each.type) for each in arrays.columns] == [
        ("x[0]", "float32"), ("x[1]", "float32"), ("label", "int64"), ("picture", "float32[1,9,9]"),
    ]  # fmt: skip
    assert (of_split(arrays, "x[1]", "val").missing, arrays.label) == (1, "label")
    assert (
        "1 of 2 samples of val is also in train, for example row 2 and row 0; 1 of them with another label"
        in arrays.hints
    )
    lines = make_overview(declared({"kind": "lines", "file": "a.txt"}, splits), FolderFiles(tmp_path))
    assert lines.hints == ("1 of 2 samples of val is also in train, for example row 2 of a.txt and row 0 of a.txt",)
    assert (of_split(lines, "length", "val").low, of_split(lines, "length", "val").high) == (3, 4)
    reader = {"kind": "text", "file": "a.txt", "window": 3}
    windows = make_overview(declared(reader, {"train": [0, 2], "val": [2, 4]}), FolderFiles(tmp_path))
    assert (windows.samples, windows.columns) == ({"train": 2, "val": 2}, ())
