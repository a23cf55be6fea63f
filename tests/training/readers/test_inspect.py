"""An inspection reads every sample of every split, and records bounds, NaN, infinities, shapes, counted values and unreadable samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.training.readers.test_readers import KINDS, folder, read_samples
from trainer.base.errors import DatasetError
from trainer.data.inspection import require_readable
from trainer.training.readers.arrays import ArrayRows
from trainer.training.readers.inspect import inspect_samples

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.inspection import FieldValues

pytestmark = pytest.mark.torch
__all__ = ["folder"]


def inspect_array(array: Any, folder: Path, **splits: Any) -> dict[str, FieldValues]:
    np.save(folder / "x.npy", array)
    reader = read_samples(folder, {"kind": "arrays", "fields": {"x": "x.npy"}})
    return inspect_samples(reader, splits or {"": range(len(reader))}).field("x")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "int64", "uint8", "uint64", "bool"])
def test_minimum_and_maximum_equal_numpys(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(0).integers(0, 100, (50, 3)).astype(kind)
    found = inspect_array(array, tmp_path)[""]
    assert found.low
    assert found.high
    assert (found.dtype, found.low.value, found.high.value) == (kind, array.min(), array.max())
    assert found.low.row == int((array == array.min()).any(axis=1).argmax())
    assert found.high.name == f"row {(array == array.max()).any(axis=1).argmax()}"


def test_the_extremes_of_integers_are_exact(tmp_path: Path) -> None:
    for kind in ("int8", "int64", "uint64"):
        bounds = np.iinfo(kind)
        found = inspect_array(np.array([bounds.max, bounds.min, bounds.max], dtype=kind), tmp_path)[""]
        assert [(each.value, each.count, each.row) for each in found.values or ()] == [
            (bounds.min, 1, 1),
            (bounds.max, 2, 0),
        ]


def test_nan_and_infinities_are_counted_by_split_with_their_first_sample(tmp_path: Path) -> None:
    array = np.zeros((5, 1 << 20), dtype=np.float32)  # a block holds two rows
    array[3, 7], array[4, [1, 2]], array[1, 0] = np.nan, np.nan, -np.inf
    found = inspect_array(array, tmp_path, train=range(2), val=[2, 3, 4])
    assert found["train"].nan is None
    assert (found["train"].infinite.count, found["train"].infinite.row) == (1, 1)  # type: ignore[union-attr]
    nan = found["val"].nan
    assert nan
    assert (nan.count, nan.row, nan.name, nan.places) == (3, 3, "row 3", (1, 2, 7))
    assert found["val"].low
    assert found["val"].low.value == 0


def test_a_field_without_a_finite_value_has_no_bounds(tmp_path: Path) -> None:
    found = inspect_array(np.full((3, 2), np.nan), tmp_path)[""]
    assert (found.low, found.high, found.nan and found.nan.count) == (None, None, 6)


def test_up_to_1000_distinct_labels_are_counted(tmp_path: Path) -> None:
    assert [each.count for each in inspect_array(np.arange(3000) % 1000, tmp_path)[""].values or ()] == [3] * 1000
    assert inspect_array(np.arange(1001), tmp_path)[""].values is None
    assert inspect_array(np.arange(1001) * 2**40, tmp_path)[""].values is None


def test_a_sample_in_two_splits_is_read_once_and_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    blocks = ArrayRows.blocks

    def noted(self: ArrayRows, rows: Any) -> Any:
        read.extend(int(row) for row in rows)
        return blocks(self, rows)

    monkeypatch.setattr(ArrayRows, "blocks", noted)
    found = inspect_array(np.arange(10), tmp_path, train=[0, 2, 4, 6], val=[9, 4])
    assert read == [0, 2, 4, 6, 9]
    assert [each.value for each in found["val"].values or ()] == [4, 9]


def test_a_table_is_read_by_row_group_and_named_by_file_and_row(folder: Path) -> None:
    reader = read_samples(folder, KINDS["table"])
    found = inspect_samples(reader, {"train": range(3, 13), "val": [19]})
    y = found.field("y")
    assert y["train"].low
    assert y["train"].high
    assert (y["train"].low.name, y["train"].high.name) == ("row 3 of t/0.parquet", "row 2 of t/1.parquet")
    assert found.splits["val"].fields["x"].shapes[0].shape == (2,)


def test_a_row_group_that_cannot_be_decoded_is_one_error_for_all_its_samples(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3, 4, 5, 6, 7, 8]}), tmp_path / "t.parquet", row_group_size=4)
    group = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(1).column(0)
    body = bytearray((tmp_path / "t.parquet").read_bytes())
    body[group.data_page_offset : group.data_page_offset + 8] = b"\xff" * 8
    (tmp_path / "t.parquet").write_bytes(body)
    reader = {"kind": "table", "files": ["t.parquet"], "fields": {"x": {"column": "a"}}}
    found = inspect_samples(read_samples(tmp_path, reader), {"train": range(5), "val": range(5, 8)})
    assert [(values.samples, values.unread) for values in found.splits.values()] == [(5, 1), (3, 3)]
    with pytest.raises(
        DatasetError, match=r"^4 samples of d cannot be read: t.parquet cannot be .* \(splits train and val\)$"
    ):
        require_readable(found, dataset="d")


def test_pictures_are_decoded_and_their_shapes_are_collected(tmp_path: Path) -> None:
    for number in range(70):
        Image.new("L", (4 + (number == 66), 4), color=number).save(tmp_path / f"{number:02}.png")
    (tmp_path / "69.png").write_bytes(b"")
    reader = read_samples(tmp_path, {"kind": "images", "mode": "L", "dtype": "uint8"})
    found = inspect_samples(reader, {"train": range(60), "test": range(60, 70)})
    image = found.field("image")["test"]
    assert image.high
    assert (image.high.value, image.high.name) == (68, "68.png")
    assert [(each.shape, each.count, each.name) for each in image.shapes] == [
        ((1, 4, 4), 8, "60.png"),
        ((1, 4, 5), 1, "66.png"),
    ]
    assert (found.splits["test"].unread, found.splits["test"].faults[0].name) == (1, "69.png")


@pytest.mark.parametrize("kind", ["lines", "text", "files"])
def test_text_and_whole_files_are_only_counted(folder: Path, kind: str) -> None:
    reader = read_samples(folder, KINDS[kind])
    found = inspect_samples(reader, {"train": range(2)})
    assert (found.splits["train"].samples, found.splits["train"].fields) == (2, {})
