"""Pictures are found by their file names, and classes by folders or a label table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.document import typed
from trainer.base.errors import DatasetError
from trainer.data.declaration import Draft
from trainer.data.pictures import SUFFIXES, find_pictures, has_picture_suffix, sort_classes
from trainer.data.reader import ImagesReader

if TYPE_CHECKING:
    from collections.abc import Sequence

PATHS = ["LICENSE", "a/x/1.png", "a/x/2.JPG", "a/y/1.jpeg", "b/3.png"]
TABLE = b"file,class\na/x/1.png,new\na/x/2.JPG,old\na/y/1.jpeg,new\nb/3.png,old\n"
DIVIDED = {"train": {"prefix": "train/"}, "val": {"prefix": "val/"}, "test": {"prefix": "test/"}}


def classify(
    table: bytes | None = None,
    *,
    paths: Sequence[str] = PATHS,
    splits: dict[str, Any] | None = None,
    **options: object,
) -> tuple[list[str], list[int], list[str]]:
    reader = ImagesReader.model_validate({"kind": "images", **options})
    declared = typed({"name": "small", "splits": splits or {}}, Draft, where="test")
    pictures = find_pictures(reader, paths, table, declared=declared)
    return list(pictures.files), list(pictures.labels), list(pictures.classes)


def test_the_first_folder_names_the_class() -> None:
    assert classify() == (PATHS[1:], [0, 0, 0, 1], ["a", "b"])
    assert classify(folder="a/") == (PATHS[1:4], [0, 0, 1], ["x", "y"])


def test_split_folders_share_one_class_list() -> None:
    paths = ["test/b/1.png", "train/a/1.png", "train/b/1.png", "val/a/1.png"]
    assert classify(paths=paths, splits=DIVIDED) == (paths, [1, 0, 1, 0], ["a", "b"])
    below = [f"data/{path}" for path in paths]
    splits = {name: {"prefix": f"data/{name}/"} for name in DIVIDED}
    assert classify(paths=below, splits=splits, folder="data/")[1:] == ([1, 0, 1, 0], ["a", "b"])
    assert classify(paths=paths, splits=DIVIDED, classes=["b", "a"])[1] == [0, 1, 0, 1]


def test_pictures_in_subfolders_belong_to_their_class_in_every_split() -> None:
    paths = ["train/a/deep/er/1.png", "val/a/1.png", "val/b/1.png"]
    assert classify(paths=paths, splits=DIVIDED)[1:] == ([0, 0, 1], ["a", "b"])


def test_pictures_outside_the_split_folders_define_no_class() -> None:
    paths = ["extra/a/1.png", "train/a/1.png", "val/b/1.png"]
    assert classify(paths=paths, splits=DIVIDED) == (paths[1:], [0, 1], ["a", "b"])


def test_split_folders_without_class_folders_have_one_unnamed_class() -> None:
    assert classify(paths=["train/1.png", "val/1.png"], splits=DIVIDED)[1:] == ([0, 0], [""])


def test_integer_class_names_are_sorted_by_value() -> None:
    assert sort_classes(map(str, range(12))) == tuple(map(str, range(12)))
    assert sort_classes(["03", "3", "2", "1" * 5000]) == ("2", "03", "3", "1" * 5000)
    assert sort_classes(["10", "9", "x"]) == ("10", "9", "x")


def test_decimal_class_names_are_sorted_by_value() -> None:
    assert sort_classes(["1", "-1", "-10", "0", "10", "2"]) == ("-10", "-1", "0", "1", "2", "10")
    assert sort_classes(["10.0", "2.0", "-0.5", "1.25"]) == ("-0.5", "1.25", "2.0", "10.0")
    assert sort_classes(["1", "01", "001", "0"]) == ("0", "001", "01", "1")
    for names in (["1e3", "9"], ["+2", "10"], ["1_0", "9"], ["\u0661\u0660", "9"], ["1.", "10"], ["nan", "1"]):
        assert sort_classes(names) == tuple(sorted(names))


def test_declared_classes_may_be_nested_folders() -> None:
    assert classify(classes=["a/x", "a/y", "b"])[1] == [0, 0, 1, 2]
    assert classify(folder="a/", classes=["none", "y", "x"])[1] == [2, 2, 1]


def test_a_table_assigns_classes() -> None:
    assert classify(TABLE, labels="labels.csv") == (PATHS[1:], [0, 1, 0, 1], ["new", "old"])
    assert classify(b"\xef\xbb\xbf" + TABLE, labels="labels.csv")[1] == [0, 1, 0, 1]
    numbered = b"file,class\n" + b"".join(b"%d.png,%d\n" % (number, number) for number in range(12))
    names = [f"{number}.png" for number in range(12)]
    assert classify(numbered, paths=names, labels="l.csv")[1] == list(range(12))


def test_pictures_of_one_folder_have_one_unnamed_class() -> None:
    assert classify(paths=["1.png", "2.png"]) == (["1.png", "2.png"], [0, 0], [""])
    assert classify(paths=["1.png"], classes=[""])[2] == [""]


def test_a_picture_beside_the_class_folders_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"top\.png lies in no folder that names its class"):
        classify(paths=["a/1.png", "top.png"])
    with pytest.raises(DatasetError, match=r"train/top\.png lies in no folder"):
        classify(paths=["train/a/1.png", "train/top.png"], splits=DIVIDED)


@pytest.mark.parametrize(
    ("paths", "options", "line", "hint"),
    [
        (
            ["1.png", "2.png"],
            {"classes": ["a", "b"]},
            "1.png and 1 other picture lie in no folder that names its class; the classes are a, b",
            "for example a/1.png",
        ),
        (
            ["a/1.png", "2.png"],
            {},
            "2.png lies in no folder that names its class, as others do",
            "for example a/2.png; or --labels",
        ),
        (
            ["x/1.png", "x/a/1.png"],
            {"folder": "x/"},
            "x/1.png lies in no folder below 'x/' that names its class, as",
            "for example x/a/1.png",
        ),
        (
            ["a/1.png"],
            {"folder": "b/"},
            "has no pictures below 'b/': it has no such folder",
            "--images . reads all folders; known: a/",
        ),
        (["a/1.heic", "b/1.png"], {"folder": "a/"}, "has no pictures below 'a/': 1 .heic", "pictures end in .png"),
        (["1.heic", "README"], {}, "dataset small has no pictures: 1 .heic, 1 without suffix", "pictures end in .png"),
        (
            ["Train/a/1.png"],
            {"splits": DIVIDED},
            "no pictures in the folders of its splits, train/, val/, test/",
            "did you mean Train/",
        ),
    ],
)
def test_missing_files_are_named(paths: list[str], options: dict[str, Any], line: str, hint: str) -> None:
    with pytest.raises(DatasetError) as caught:
        classify(paths=paths, **options)
    assert line in caught.value.message
    assert hint in str(caught.value.hint)


def test_an_undeclared_class_folder_is_an_error_with_a_hint() -> None:
    with pytest.raises(DatasetError, match=r"c/1\.png of dataset small is of class 'c'") as caught:
        classify(paths=["a/1.png", "c/1.png"], classes=["a"])
    assert "datasets/small.toml" in str(caught.value.hint)
    with pytest.raises(DatasetError, match="lies in no folder"):
        classify(paths=["1.png", "c/1.png"], classes=[""])


def test_a_picture_without_a_line_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"l\.csv has no line for b/3\.png"):
        classify(TABLE.replace(b"b/3.png,old\n", b""), labels="l.csv")


def test_a_split_folder_is_never_treated_as_a_recorded_class() -> None:
    with pytest.raises(DatasetError, match="is of class 'a', which is not one of its 2 classes"):
        classify(paths=["train/a/1.png", "val/a/1.png"], splits=DIVIDED, classes=["train", "val"])


def test_picture_suffixes_are_case_insensitive() -> None:
    assert all(has_picture_suffix(f"a/1{suffix}") and has_picture_suffix(f"a/1{suffix.upper()}") for suffix in SUFFIXES)
    assert not any(map(has_picture_suffix, ("png", "a/jpg", "1.png.txt", "1.eps", "1.pdf", "1.svg", "1.psd", "1.npy")))
