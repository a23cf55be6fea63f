"""Inputs of a net from files and rows, read as a dataset is read."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

import numpy as np
from PIL import Image

from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset
from trainer.data.reader import Typed
from trainer.models.inputs import InputReader

pytestmark = pytest.mark.torch
DIGEST = "sha256:" + "1" * 64


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


def read(reader: InputReader, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    (batch,) = reader.of_rows(rows)
    return {name: value.tolist() for name, value in batch.items()}


def test_a_whole_number_with_a_point_is_the_category_of_that_number(reader: InputReader) -> None:
    found = read(reader, *({"area": 40, "floor": floor} for floor in (1, 1.0, "1", 2.0, 7.0, None)))
    assert found["floor"] == [2, 2, 2, 3, 1, 0]


def test_numbers_of_json_have_a_point_whatever_the_file_had(reader: InputReader) -> None:
    found = read(reader, *({"area": area, "floor": 1} for area in (40.5, "40.5", 1e-05, None)))
    assert found["features"] == [[40.5], [40.5], [pytest.approx(1e-05)], [50.0]]


@pytest.mark.parametrize("area", [[], {}, "40,5", "wide"])
def test_other_values_are_errors_that_name_the_column(reader: InputReader, area: Any) -> None:
    with pytest.raises(DatasetError, match="'area'"):
        read(reader, {"area": area, "floor": 1})


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
