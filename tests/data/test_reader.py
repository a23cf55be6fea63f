"""Declarations of readers: round trips, and errors that name the invalid key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trainer.base.digest import digest_of_bytes
from trainer.base.document import typed
from trainer.base.errors import DatasetError, DocumentError
from trainer.data.declaration import Dataset, declared, load_dataset
from trainer.data.reader import ImagesReader, TextReader, Typed, check_sample

if TYPE_CHECKING:
    from pathlib import Path

READERS: list[dict[str, Any]] = [
    {"kind": "arrays", "fields": {"x": "x.npy"}},
    {"kind": "images"},
    {
        "kind": "images",
        "folder": "a/",
        "classes": ["x"],
        "labels": "l.csv",
        "size": [2, 3],
        "resize": "pad",
        "fill": 0.5,
        "mode": "L",
        "white": 4095,
        "alpha": "drop",
        "frames": "first",
    },
    {
        "kind": "table",
        "files": ["t.parquet"],
        "fields": {"x": {"column": ["a", "b"]}, "y": {"column": "y", "dtype": "int64"}},
    },
    {"kind": "lines", "file": "a.txt"},
    {"kind": "lines", "file": ["a.txt", "b.txt"]},
    {"kind": "text", "file": "a.txt", "window": 8},
    {"kind": "text", "file": ["a.txt"], "window": 8, "stride": 2},
    {"kind": "text", "file": "a.txt", "window": 8, "tokens": {"tokenizer": "t.json", "vocabulary": 9, "end": "</s>"}},
    {
        "kind": "lines",
        "file": "a.txt",
        "tokens": {
            "tokenizer": "t.json",
            "vocabulary": 9,
            "end": "</s>",
            "pad": "<pad>",
            "window": 8,
            "long_lines": "truncate",
        },
    },
    {"kind": "files"},
]
PADDED: dict[str, Any] = {"tokenizer": "t.json", "vocabulary": 9, "end": "</s>", "pad": "<pad>"}
SPLITS: dict[str, Any] = {
    "rows": [0, 8],
    "part": {"percent": [0, 92.5], "seed": 3},
    "below": {"prefix": "train/"},
    "listed": {"files": ["a", "b"]},
}


def dataset(**options: Any) -> Dataset:
    digest = digest_of_bytes(b"")
    usual = {"name": "small", "version": 1, "manifest": digest, "content": digest, "files": 1, "bytes": 1}
    return typed(usual | options, Dataset, where="small.toml")


@pytest.mark.parametrize("reader", READERS)
def test_every_declaration_round_trips(tmp_path: Path, reader: dict[str, Any]) -> None:
    (tmp_path / "datasets").mkdir()
    before = dataset(reader=reader, splits=SPLITS, sample={"x": {"dtype": "float32", "shape": [3, "any"]}})
    (tmp_path / "datasets/small.toml").write_text(declared(before), encoding="utf-8")
    assert load_dataset("small", root=tmp_path) == before


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"reader": {"kind": "images", "resize": "crop"}}, "resize requires size"),
        ({"reader": {"kind": "images", "size": [8, 8], "resize": "squeeze"}}, "'stretch', 'crop', 'pad' or 'fit'"),
        ({"reader": {"kind": "images", "size": [8, 8], "resize": "crop", "fill": 1}}, "fill requires resize"),
        ({"reader": {"kind": "images", "alpha": "drop", "mode": "RGBA"}}, "mode RGBA keeps transparency"),
        ({"reader": {"kind": "images", "white": 0}}, "white"),
        ({"reader": {"kind": "images", "white": "inf"}}, "white"),
        ({"reader": {"kind": "images", "labels": "../l.csv"}}, "not a path inside a dataset"),
        ({"reader": {"kind": "text", "file": "a", "window": 0}}, "window"),
        (
            {"reader": {"kind": "lines", "file": "a", "tokens": PADDED | {"long_lines": "truncate"}}},
            "long_lines requires window",
        ),
        ({"reader": {"kind": "lines", "file": "a", "tokens": PADDED | {"vocabulary": 2**31}}}, "vocabulary"),
        ({"reader": {"kind": "table", "files": ["t"], "fields": {}}}, "fields"),
        ({"splits": {"train": {"percent": [80, 20]}}}, r"expected \[from, to\], from 0 to 100"),
        ({"splits": {"train": {"percnt": [0, 20]}}}, "splits.train"),
        ({"splits": {"train": {"prefix": "../x/"}}}, "not the beginning of a path"),
        ({"sample": {"x": {"dtype": "float31"}}}, "float31"),
    ],
)
def test_an_invalid_value_is_rejected_by_its_key(options: dict[str, Any], line: str) -> None:
    with pytest.raises(DocumentError, match=line) as caught:
        dataset(**options)
    assert "\n" not in caught.value.message


@given(some.integers(0, 60), some.integers(1, 9), some.integers(1, 9))
def test_as_many_windows_as_fit_are_counted(size: int, window: int, stride: int) -> None:
    reader = TextReader(kind="text", file="a", window=window, stride=stride)
    assert reader.count(size) == sum(start + window < size for start in range(0, size, stride))


def test_a_sample_is_compared_with_its_declaration() -> None:
    expected = {"x": Typed(dtype="float32", shape=(3, "any"))}
    check_sample(expected, {"x": ("float32", (3, 7)), "more": ("int64", ())}, dataset="small")
    for found in (("float64", (3, 7)), ("float32", (4, 7)), ("float32", (3,))):
        with pytest.raises(DatasetError, match=r"expected float32\[3,any\]"):
            check_sample(expected, {"x": found}, dataset="small")


def test_earlier_forms_of_resize_are_read() -> None:
    readers = [
        ImagesReader.model_validate({"kind": "images", "size": [8, 8], "resize": message}) for message in (True, False)
    ]
    assert [reader.resize for reader in readers] == ["stretch", None]


def test_undeclared_picture_options_are_not_written() -> None:
    written = ImagesReader(kind="images").model_dump(mode="json")
    assert written["orientation"] == "apply"
    assert not written.keys() & {"white", "alpha", "frames", "fill"}
