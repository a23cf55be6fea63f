"""A draft is compared with its folder before publication."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tests.data.conftest import fill
from trainer.base.document import typed
from trainer.base.errors import DatasetError
from trainer.data import check as check_dataset_module
from trainer.data.check import check_dataset
from trainer.data.declaration import Draft
from trainer.data.files import SourceFolder

np = pytest.importorskip("numpy", reason="needs NumPy, of the lock's extra `cpu`")

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.check import CheckResult


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


FILES = {
    "x.npy": npy(np.zeros((10, 1, 4, 4), dtype=np.float32)),
    "y.npy": npy(np.zeros(10, dtype=np.int64)),
    "short.npy": npy(np.zeros(9)),
    "text.txt": b"eins\nzwei\ndrei",
    "latin.txt": b"\xff\n",
    "cats/1.png": b"",
    "cats/2.png": b"",
    "dogs/1.png": b"",
    "labels.csv": b"file,class\ncats/1.png,old\ncats/2.png,young\ndogs/1.png,old\n",
    "half.csv": b"file,class\ncats/1.png,old\n",
}
ARRAYS = {"kind": "arrays", "fields": {"image": "x.npy", "label": "y.npy"}}
REQUIRED = {"license": "CC0-1.0", "source": "made here"}


def check(folder: Path, **options: Any) -> CheckResult:
    draft = typed({"name": "small", **REQUIRED, **options}, Draft, where="test")
    source = SourceFolder(root=fill(folder, FILES))
    return check_dataset(draft, source, source.paths())


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ({"reader": ARRAYS}, 10),
        ({"reader": ARRAYS, "sample": {"image": {"dtype": "float32", "shape": [1, 4, "any"]}}}, 10),
        ({"reader": {"kind": "lines", "file": "text.txt"}}, 3),
        ({"reader": {"kind": "lines", "file": ["text.txt", "labels.csv"]}}, 7),
        ({"reader": {"kind": "text", "file": "text.txt", "window": 4}}, 3),
        ({"reader": {"kind": "text", "file": "text.txt", "window": 4, "stride": 1}}, 10),
        ({"reader": {"kind": "text", "file": "text.txt", "window": 14}}, 0),
        ({"reader": {"kind": "images"}}, 3),
        ({"reader": {"kind": "images", "folder": "cats/", "labels": "labels.csv"}}, 2),
        ({"reader": {"kind": "images", "folder": "cats/"}}, 2),
        ({}, 10),
    ],
)
def test_the_readers_samples_are_counted(tmp_path: Path, options: dict[str, Any], samples: int) -> None:
    assert check(tmp_path, **options).samples == samples


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"reader": ARRAYS, "splits": {"train": [0, 11]}}, "ends at row 11; its reader finds 10 samples"),
        (
            {"reader": {"kind": "arrays", "fields": {"a": "x.npy", "b": "short.npy"}}},
            "different numbers of rows: a 10, b 9",
        ),
        ({"reader": {"kind": "arrays", "fields": {"a": "text.txt"}}}, "text.txt is not a plain array"),
        ({"reader": {"kind": "arrays", "fields": {"a": "z.npy"}}}, "needs 'z.npy', which is not in the folder"),
        (
            {"reader": ARRAYS, "sample": {"image": {"dtype": "uint8", "shape": [1, 4, 4]}}},
            r"'image' of a sample of small is float32\[1,4,4\]; expected uint8\[1,4,4\]",
        ),
        ({"reader": ARRAYS, "sample": {"imag": {"dtype": "uint8"}}}, "no field 'imag'"),
        (
            {"reader": {"kind": "lines", "file": "text.txt"}, "sample": {"text": {"dtype": "int64", "shape": ["any"]}}},
            r"'text' of a sample of small is uint8\[any\]; expected int64\[any\]",
        ),
        (
            {
                "reader": {"kind": "text", "file": "text.txt", "window": 4},
                "sample": {"text": {"dtype": "int64", "shape": [5]}},
            },
            r"'text' of a sample of small is int64\[4\]; expected int64\[5\]",
        ),
        ({"reader": {"kind": "lines", "file": "latin.txt"}}, "latin.txt is not UTF-8 text"),
        ({"reader": {"kind": "images", "folder": "birds/"}}, "no pictures below 'birds/'"),
        ({"reader": {"kind": "images", "classes": ["cats"]}}, "dogs/1.png of dataset small is of class 'dogs'"),
        ({"reader": {"kind": "images", "labels": "half.csv"}}, "half.csv has no line for cats/2.png"),
        ({"reader": {"kind": "images", "labels": "text.txt"}}, "expected the columns file and class"),
        ({"reader": {"kind": "table", "files": ["x.npy"], "fields": {"a": {"column": "a"}}}}, "not a Parquet file"),
        ({"splits": {"train": {"prefix": "bats/"}}}, "selects no sample; the dataset has 10 samples"),
        ({"splits": {"val": {"files": ["x.npy", "x.npy"]}}}, "split 'val' lists 'x.npy' twice"),
        ({"reader": {"kind": "lines", "file": ["text.txt", "text.txt"]}}, "its reader lists 'text.txt' twice"),
        ({"reader": {"kind": "text", "file": "latin.txt", "window": 1}}, "latin.txt is not UTF-8 text"),
    ],
)
def test_a_declaration_that_does_not_match_the_files_is_rejected(
    tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(DatasetError, match=line):
        check(tmp_path, **options)


def test_a_table_is_checked_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_dataset_module, "find_spec", lambda _: None)
    reader = {"kind": "table", "files": ["t.parquet"], "fields": {"x": {"column": "age"}}}
    fill(tmp_path, {"t.parquet": b"PAR1....\x04\0\0\0PAR1", "u.csv": b"age,sex\n1,2\n"})
    assert check(tmp_path, reader=reader).unchecked
    with pytest.raises(DatasetError, match=r"u\.csv is text; expected a Parquet file"):
        check(tmp_path, reader=reader | {"files": ["u.csv"]})
    with pytest.raises(DatasetError, match="expected int64"):
        check(tmp_path, reader=reader, sample={"x": {"dtype": "int64"}})


def test_columns_of_a_table_are_checked(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the lock's extra `cpu`")
    tmp_path.mkdir(exist_ok=True)
    pq.write_table(pa.table({"age": [1.0, 2.0], "sex": [0, 1]}), tmp_path / "t.parquet")
    reader = {"kind": "table", "files": ["t.parquet"], "fields": {"x": {"column": ["age", "sex"]}}}
    assert check(tmp_path, reader=reader, sample={"x": {"dtype": "float32", "shape": [2]}}).samples == 2
    with pytest.raises(DatasetError, match=r"t\.parquet has no column 'agee'") as caught:
        check(tmp_path, reader=reader | {"fields": {"x": {"column": "agee"}}})
    assert caught.value.hint == "did you mean age?"


def test_a_missing_license_or_source_is_reported_with_its_option(tmp_path: Path) -> None:
    splits = {"splits": {"train": [0, 8], "val": [8, 9], "test": [9, 10]}}
    notes = check(tmp_path, license="unknown", **splits).notes
    assert len(notes) == 1
    assert notes[0].endswith("add --license TEXT")
    assert "no license and no source" in check(tmp_path, license="unknown", source="unknown").notes[0]
    assert check(tmp_path, **splits).notes == ()
    (looks_like,) = check(tmp_path).notes
    assert looks_like.startswith("small: 3 pictures, 3 .png, in 2 folders (cats, dogs): it looks like an image folder")
    (without,) = check(tmp_path, reader=ARRAYS).notes
    assert without.startswith("small: no split is declared, so nothing can be trained on it")


def test_splits_that_share_samples_are_reported(tmp_path: Path) -> None:
    found = check(tmp_path, splits={"train": [0, 8], "val": [6, 10], "test": [8, 10]})
    assert found.notes == (
        "splits train and val have 2 samples in common",
        "splits val and test have 2 samples in common",
    )
    assert found.splits == {"train": 8, "val": 4, "test": 2}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0, 4], "val": [3, 5], "test": [8, 9]}, ["small: 4 samples of 10 are in no split"]),
        ({"train": [0, 4], "val": [1, 3], "test": [4, 9]}, ["small: 1 sample of 10 is in no split"]),
        ({"train": {"prefix": "cats/"}, "val": [3, 9], "test": [9, 10]}, ["small: 1 sample of 10 is in no split"]),
        ({"train": {"percent": [0, 100]}}, []),
        ({}, []),
    ],
)
def test_samples_in_no_split_are_counted(tmp_path: Path, splits: dict[str, Any], message: list[str]) -> None:
    assert [note for note in check(tmp_path, splits=splits).notes if "in no split" in note] == message


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"training": [0, 8], "valid": [8, 10]}, "did you mean train for training and val for valid?"),
        ({"train": [0, 8], "dev": [8, 10]}, "missing: val, test; it has dev; did you mean val for dev?"),
        ({"tran": [0, 8]}, "missing: train, val, test; it has tran; did you mean train for tran?"),
        (
            {"training": [0, 6], "validation": [6, 8], "eval": [8, 10]},
            "did you mean train for training and val for validation?",
        ),
        ({"train": [0, 10]}, "training needs the splits train, val and test; missing: val, test"),
        ({"train": [0, 8], "val": [8, 9], "test": [9, 10], "extra": [0, 1]}, ""),
    ],
)
def test_missing_splits_for_training_are_reported(tmp_path: Path, splits: dict[str, Any], message: str) -> None:
    notes = [note for note in check(tmp_path, splits=splits).notes if "training needs" in note]
    assert notes[0].endswith(message) if message else not notes
