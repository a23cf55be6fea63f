"""Inputs of a net from files and rows, read as a dataset is read."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from PIL import Image

from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset
from trainer.data.reader import TableReader, Treatment, Typed
from trainer.data.tables.source_table import Format, SourceColumn
from trainer.models.inputs import InputReader

pytestmark = pytest.mark.torch
DIGEST = "sha256:" + "1" * 64
FORM = "correct it: the file is read as flats.csv was: CSV, UTF-8, the delimiter ';', column names in line 1, a decimal comma"


@pytest.fixture
def reader() -> InputReader:
    """A table with a decimal comma, and categories that are whole numbers."""
    source = {
        "file": "flats.csv",
        "format": "csv",
        "delimiter": ";",
        "decimal": ",",
        "columns": {
            "area": {"type": "number", "read": "number"},
            "floor": {"type": "whole", "read": "category"},
            "rent": {"type": "number", "read": "target"},
        },
    }
    table = {
        "kind": "table",
        "files": ("rows.parquet",),
        "fields": {
            "features": {"column": ("area",)},
            "floor": {"column": "floor", "dtype": "int64"},
            "rent": {"column": "rent"},
        },
        "columns": {
            "area": {"missing": "mean", "fill": 50.0},
            "floor": {"values": ("1", "2"), "unknown": "category", "missing": "category"},
        },
    }
    about: dict[str, Any] = {
        "name": "flats",
        "version": 1,
        "manifest": DIGEST,
        "content": DIGEST,
        "files": 1,
        "bytes": 1,
    }
    dataset = Dataset.model_validate({**about, "reader": table, "source_table": source})
    return InputReader(dataset=dataset, fields=("features", "floor"))


def with_source(reader: InputReader, **changes: Any) -> InputReader:
    """Return a reader of a file with a changed description, to which `columns` are added."""
    assert reader.dataset
    assert reader.dataset.source_table
    columns = {**reader.dataset.source_table.columns, **changes.pop("columns", {})}
    source = reader.dataset.source_table.model_copy(update={**changes, "columns": columns})
    return replace(reader, dataset=reader.dataset.model_copy(update={"source_table": source}))


def with_treatments(reader: InputReader, treatments: dict[str, Treatment]) -> InputReader:
    """Return a reader with other treatments of some columns."""
    assert reader.dataset
    assert isinstance(reader.dataset.reader, TableReader)
    table = reader.dataset.reader
    table = table.model_copy(update={"columns": {**table.columns, **treatments}})
    return replace(reader, dataset=reader.dataset.model_copy(update={"reader": table}))


def read(reader: InputReader, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    (batch,) = reader.of_rows(rows)
    return {name: value.tolist() for name, value in batch.items()}


def test_a_whole_number_with_a_point_is_the_category_of_that_number(reader: InputReader) -> None:
    found = read(reader, *({"area": 40, "floor": floor} for floor in (1, 1.0, "1", 2.0, 7.0, None)))
    assert found["floor"] == [2, 2, 2, 3, 1, 0]


def test_a_number_of_json_is_itself_and_a_text_is_read_as_in_the_file(reader: InputReader) -> None:
    values = (40.5, "40,5", " 40,5 ", 1e-05, "1,5e-3", -0.0, 1.234, "1,234", 10**20, None)
    found = read(reader, *({"area": area, "floor": 1} for area in values))["features"]
    expected = [40.5, 40.5, 40.5, 1e-05, 0.0015, -0.0, 1.234, 1.234, 1e20, 50.0]
    assert [value for (value,) in found] == pytest.approx(expected)
    grouped = with_source(reader, thousands=".")
    found = read(grouped, *({"area": area, "floor": 1} for area in ("1.234", "1.234,5", 1.234, 1234.5)))["features"]
    assert [value for (value,) in found] == pytest.approx([1234, 1234.5, 1.234, 1234.5])


def test_a_whole_number_has_the_thousands_separator_of_the_published_file(reader: InputReader) -> None:
    whole = with_source(reader, thousands=".", columns={"area": SourceColumn(type="whole", read="number")})
    found = read(whole, *({"area": area, "floor": 1} for area in ("1.234", "-1.234.567", "1.234,0", "12")))["features"]
    assert [value for (value,) in found] == [1234, -1234567, 1234, 12]


@pytest.mark.parametrize(
    ("changes", "cell", "example"),
    [
        ({}, "40.5", "1234,5"),
        ({}, "1.234", "1234,5"),
        ({}, "1_000", "1234,5"),
        ({"thousands": "."}, "1.5", "1234,5 or 1.234,5"),
        ({"thousands": "."}, "1.23.456", "1234,5 or 1.234,5"),
        ({"decimal": ".", "thousands": ","}, "1,5", "1234.5 or 1,234.5"),
        ({"decimal": "."}, "1,5", "1234.5"),
        ({"thousands": " "}, "1 234.5", "1234,5 or 1 234,5"),
        ({"thousands": " "}, "1'234,5", "1234,5 or 1 234,5"),
        ({"decimal": ".", "thousands": "'"}, "1'234,5", "1234.5 or 1'234.5"),
    ],
)
def test_a_number_in_another_notation_is_an_error_in_a_file_and_in_json(
    reader: InputReader, tmp_path: Path, changes: dict[str, Any], cell: str, example: str
) -> None:
    other = with_source(reader, **changes)
    (tmp_path / "new.csv").write_text(f"floor;area\n1;2\n1;{cell}\n")
    expected = f"column 'area': expected a number such as {example}, found {cell!r}"
    with pytest.raises(DatasetError) as caught:
        list(other.of_file(tmp_path / "new.csv"))
    assert (caught.value.message, caught.value.hint) == (
        f"new.csv, line 3, {expected}",
        "write it as flats.csv has its numbers",
    )
    with pytest.raises(DatasetError) as caught:
        read(other, {"floor": 1, "area": 2}, {"floor": 1, "area": cell})
    assert caught.value.message == f"the request, row 2, {expected}"


ROWS = (
    (None, ""), ("", ""), (" ", ""), ("NA", "NA"), ("nan", "nan"), ("2", "2"), (2, "2"), (2.0, "2"), ("7", "7"), ("x", "x"), (True, "true"),
)  # fmt: skip
"""Values of a category in JSON and in a file."""


@pytest.mark.parametrize(("value", "cell"), ROWS)
@pytest.mark.parametrize("spelled", [(), ("",), ("-", "NA")])
def test_a_row_in_json_is_read_as_the_same_row_in_a_file(
    reader: InputReader, tmp_path: Path, value: Any, cell: str, spelled: tuple[str, ...]
) -> None:
    other = with_source(reader, missing=spelled)
    (tmp_path / "new.csv").write_text(f"floor;area\n{cell};40,5\n1;{cell if cell in {'', 'NA', 'nan'} else '2'}\n")
    (batch,) = other.of_file(tmp_path / "new.csv")
    area = value if cell in {"", "NA", "nan"} else 2
    found = read(other, {"floor": value, "area": 40.5}, {"floor": 1, "area": area})
    assert found == {name: each.tolist() for name, each in batch.items()}
    assert found["floor"][0] == {"": 0, "NA": 0, "nan": 0, "2": 3}.get(cell, 1)


def test_a_spelling_that_is_a_value_of_the_table_is_not_missing(reader: InputReader) -> None:
    names = {"floor": Treatment(values=("1", "NA"), unknown="category", missing="category")}
    other = with_source(with_treatments(reader, names), values=("NA",))
    assert read(other, {"floor": "NA", "area": 1}, {"floor": None, "area": 1})["floor"] == [3, 0]


@pytest.mark.parametrize(
    ("values", "value", "code"),
    [
        (("True", "False"), True, 2),
        (("no", "yes"), True, 1),
        (("1.50", "2.0"), 1.5, 2),
        (("1.50", "2.0"), 2, 3),
        (("1,5", "2,0"), 1.5, 2),
        (("0012", "7"), 12, 2),
        (("1.0", "1.00"), 1, 1),
        (("1", "1.0"), 1, 2),
        (("9007199254740993", "5"), 2.0**53, 1),
        (("9007199254740993", "5"), 2**53 + 1, 2),
    ],
)
def test_a_number_or_a_boolean_is_the_category_that_spells_it(
    reader: InputReader, values: tuple[str, ...], value: float, code: int
) -> None:
    other = with_treatments(reader, {"floor": Treatment(values=values, unknown="category", missing="category")})
    other = with_source(other, columns={"floor": SourceColumn(type="text", read="category")})
    assert read(other, {"floor": value, "area": 1})["floor"] == [code]


@pytest.mark.parametrize(
    ("column", "hint"),
    [("Area", "rename column 'Area'"), ("city", "add the column; the columns are city, floor")],
)
def test_a_column_that_is_absent_is_named_with_the_columns_of_the_file(
    reader: InputReader, tmp_path: Path, column: str, hint: str
) -> None:
    (tmp_path / "new.csv").write_text(f"{column};floor\n1;2\n")
    with pytest.raises(DatasetError, match="has no column 'area'; flats@1 has area, floor") as caught:
        list(reader.of_file(tmp_path / "new.csv"))
    assert caught.value.hint == hint


def test_a_missing_number_that_the_table_never_has_is_an_error(reader: InputReader, tmp_path: Path) -> None:
    strict = with_treatments(reader, {"area": Treatment()})
    (tmp_path / "new.csv").write_text("floor;area\n1;40,5\n2;\n")
    with pytest.raises(DatasetError, match=r"line 3 of .*new\.csv: column 'area' is missing, and flats@1 has no"):
        list(strict.of_file(tmp_path / "new.csv"))
    with pytest.raises(DatasetError, match="row 1 of the request: column 'area' is missing"):
        read(strict, {"floor": 1, "area": None})


def test_a_missing_value_that_the_table_rejects_is_named_as_missing(reader: InputReader, tmp_path: Path) -> None:
    strict = with_treatments(reader, {"floor": Treatment(values=("1", "2"))})
    (tmp_path / "new.csv").write_text("floor;area\n\n1;2\n;40,5\n")
    with pytest.raises(DatasetError, match=r"^line 4 of column 'floor' of .*new\.csv is missing") as caught:
        list(strict.of_file(tmp_path / "new.csv"))
    assert caught.value.hint == FORM
    with pytest.raises(DatasetError, match=r"^row 2 of column 'floor' of the request is missing"):
        read(strict, {"floor": 1, "area": 1}, {"floor": None, "area": 1})


def test_a_row_without_a_column_that_others_have_is_an_error(reader: InputReader) -> None:
    with pytest.raises(DatasetError, match="row 2 has no column 'floor'") as caught:
        read(reader, {"floor": 1, "area": 1}, {"area": 1})
    assert caught.value.hint == 'null is a missing value: {"floor": null}'


@pytest.mark.parametrize("unknown", ["reject", "category"])
def test_a_category_in_another_unicode_form_is_another_value_as_in_training(
    reader: InputReader, unknown: Literal["reject", "category"]
) -> None:
    other = with_treatments(reader, {"floor": Treatment(values=("caf\u00e9",), unknown=unknown)})
    assert read(other, {"area": 1, "floor": "caf\u00e9"})["floor"] == [2]
    if unknown == "category":
        assert read(other, {"area": 1, "floor": "cafe\u0301"})["floor"] == [1]
        return
    with pytest.raises(DatasetError) as caught:
        read(other, {"area": 1, "floor": "cafe\u0301"})
    assert "the same letters in another Unicode form, NFC" in str(caught.value.hint)


@pytest.mark.parametrize("area", [[], {}, "40.5", "wide"])
def test_other_values_are_errors_that_name_the_column(reader: InputReader, area: Any) -> None:
    with pytest.raises(DatasetError, match="'area'"):
        read(reader, {"area": area, "floor": 1})


WRONG = (
    ("floor;area\n2;1e999\n", "new.csv, line 2, column 'area': expected a number below 1.8e308, found '1e999'"),
    ("floor;area\n1;2\n2;1e39\n", "line 3 of column 'area' of {file} is 1e+39; float32 holds up to 3.4e+38"),
    ("floor;area\n9;2\n", "line 2 of column 'floor' of {file} is '9', which is not one of the 2 declared values"),
    ('floor;area\n1;"2\n', 'new.csv, line 2: a quote (") opens a value and is not closed until line 2'),
    ("floor;area\n1;2;3\n", "new.csv, line 2: 3 cells; expected 2, as in line 1; the first extra cell is '3'"),
    ("floor;area\n\xff;2\n", "new.csv, line 2: the byte 0xff is not UTF-8"),
)
"""Files that cannot be read, and the reason."""


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_an_error_in_a_file_has_its_line_and_no_option_of_publish(
    reader: InputReader, tmp_path: Path, text: str, message: str
) -> None:
    strict = with_source(with_treatments(reader, {"floor": Treatment(values=("1", "2"))}), quote='"')
    (file := tmp_path / "new.csv").write_bytes(text.encode("latin-1"))
    for name, batches in (
        (file, strict.of_file(file)),
        ("the request", strict.of_bytes(file.read_bytes(), name="the request")),
    ):
        with pytest.raises(DatasetError) as caught:
            list(batches)
        whole = message.format(file=name)
        assert caught.value.message == (whole.replace("new.csv", str(name)) if name != file else whole)
        assert caught.value.hint
        assert "--" not in caught.value.hint


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".jsonl"])
def test_a_row_of_a_file_without_lines_is_named_by_its_number(reader: InputReader, tmp_path: Path, suffix: str) -> None:
    kinds: dict[str, Format] = {".parquet": "parquet", ".feather": "arrow", ".jsonl": "json-lines"}
    strict = with_treatments(
        with_source(reader, format=kinds[suffix], decimal="."), {"floor": Treatment(values=("1", "2"))}
    )
    write_table(tmp_path / f"new{suffix}", [{"floor": 1, "area": 2.5}, {"floor": 3, "area": 2.5}])
    unit = "line" if suffix == ".jsonl" else "row"
    with pytest.raises(DatasetError, match=rf"^{unit} 2 of column 'floor' of .*new\{suffix} is '3'"):
        list(strict.of_file(tmp_path / f"new{suffix}"))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows in the format of the path's suffix."""
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".feather":
            pyarrow.feather.write_feather(pa.Table.from_pylist(rows), path)
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        case _:
            with path.open("w", newline="") as file:
                writer = csv.writer(file, delimiter=";")
                writer.writerow(rows[0])
                writer.writerows(row.values() for row in rows)


def test_a_file_is_read_by_its_own_dialect(reader: InputReader, tmp_path: Any) -> None:
    file = tmp_path / "new.csv"
    file.write_text("floor;area\n2;40,5\n")
    (batch,) = reader.of_file(file)
    assert {name: value.tolist() for name, value in batch.items()} == {"features": [[40.5]], "floor": [3]}


def test_a_picture_for_arrays_is_an_error_whose_hint_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).resize((40, 30)).save("my digit.png")
    about = {"name": "digits", "version": 1, "manifest": DIGEST, "content": DIGEST, "files": 1, "bytes": 1}
    arrays = {"kind": "arrays", "fields": {"image": "images.npy"}}
    sample = {"image": Typed(dtype="float32", shape=(1, 8, 8))}
    dataset = Dataset.model_validate({**about, "reader": arrays})
    reader = InputReader(dataset=dataset, fields=("image",), specs=sample)
    message = (
        r"is a picture \(PNG, 30x40, L\); digits@1 consists of arrays float32 \[1, 8, 8\], and how .* is not recorded"
    )
    with pytest.raises(DatasetError, match=message) as caught:
        list(reader.of_file(Path("my digit.png")))
    with pytest.raises(DatasetError, match="the request is a picture"):
        list(reader.of_bytes(Path("my digit.png").read_bytes(), name="the request"))
    command = shlex.split(str(caught.value.hint).partition("from 0 to 1: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    (batch,) = reader.of_file(Path("sample.npy"))
    assert batch["image"].shape == (1, 1, 8, 8)
    assert 0 < float(batch["image"].max()) <= 1


def tensors_reader(**shapes: tuple[Any, ...]) -> InputReader:
    specs = {name: Typed(dtype="float32", shape=shape) for name, shape in shapes.items()}
    return InputReader(dataset=None, fields=tuple(shapes), specs=specs)


def test_arrays_are_read_for_a_net_without_a_dataset(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((70, 3), dtype=np.float32)
    np.save(tmp_path / "one.npy", np.asfortranarray(values))
    batches = list(tensors_reader(x=(3,)).of_file(tmp_path / "one.npy"))
    assert [len(each["x"]) for each in batches] == [64, 6]
    assert np.array_equal(np.concatenate([each["x"] for each in batches]), values)
    np.savez(tmp_path / "two.npz", x=values, y=values[:, 0], more=values)
    (first, _) = tensors_reader(x=(3,), y=()).of_file(tmp_path / "two.npz")
    assert [*first] == ["x", "y"]
    assert np.array_equal(first["y"], values[:64, 0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one.npy", "the net takes the fields x, y; .*one.npy holds one array"),
        ("lacking.npz", "lacking.npz has no array 'y'"),
        ("uneven.npz", "have different numbers of samples: x 2, y 3"),
        ("typed.npz", r"expected samples of float32 \[3\]"),
        ("number.npz", r"expected samples of float32 \[3\]"),
        ("text.npz", r"text\.npz is not a .npy or .npz file"),
        ("none.npz", "is not a file"),
    ],
)
def test_arrays_that_do_not_fit_are_errors_that_name_the_file(tmp_path: Path, name: str, message: str) -> None:
    x, y = np.zeros((2, 3), dtype=np.float32), np.zeros(2, dtype=np.float32)
    np.save(tmp_path / "one.npy", x)
    np.savez(tmp_path / "lacking.npz", x=x)
    np.savez(tmp_path / "uneven.npz", x=x, y=np.zeros(3, dtype=np.float32))
    np.savez(tmp_path / "typed.npz", x=x.astype(np.float64), y=y)
    np.savez(tmp_path / "number.npz", x=np.float32(1), y=y)
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DatasetError, match=message) as caught:
        list(tensors_reader(x=(3,), y=()).of_file(tmp_path / name))
    assert caught.value.hint


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(b"")

    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    about: dict[str, Any] = {"name": "sky", "version": 1, "manifest": DIGEST, "content": DIGEST, "files": 1, "bytes": 1}
    dataset = Dataset.model_validate({**about, "reader": {"kind": "images", "classes": ("day",)}})
    with pytest.raises(DatasetError, match=r"photo\.png cannot be read: Permission denied"):
        list(InputReader(dataset=dataset, fields=("image",)).of_file(file))
