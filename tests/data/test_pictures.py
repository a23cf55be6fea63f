"""Which files are pictures, and of which class."""

from __future__ import annotations

import pytest

from trainer.data.pictures import SUFFIXES, has_picture_suffix, sorted_out
from trainer.data.reader import Images
from trainer.errors import DatasetError

PATHS = ["LICENCE", "a/x/1.png", "a/x/2.JPG", "a/y/1.jpeg", "b/3.png"]
TABLE = "file,class\na/x/1.png,new\na/x/2.JPG,old\na/y/1.jpeg,new\nb/3.png,old\n"


def found(
    table: str | None = None, *, paths: list[str] = PATHS, **said: object
) -> tuple[list[str], list[int], list[str]]:
    """Files, numbers of classes, names of classes."""
    pictures = sorted_out(Images.model_validate({"kind": "images", **said}), paths, table, dataset="small")
    return list(pictures.files), list(pictures.labels), list(pictures.classes)


def test_folders_name_classes() -> None:
    """The whole way below the folder that was named; what is no picture is left out."""
    assert found() == (PATHS[1:], [0, 0, 1, 2], ["a/x", "a/y", "b"])
    assert found(folder="a/") == (PATHS[1:4], [0, 0, 1], ["x", "y"])


def test_declared_classes_give_the_numbers() -> None:
    """And may hold one that no picture has."""
    assert found(folder="a/", classes=["none", "y", "x"])[1] == [2, 2, 1]


def test_a_table_names_classes() -> None:
    """Whatever folders say."""
    assert found(TABLE, labels="labels.csv") == (PATHS[1:], [0, 1, 0, 1], ["new", "old"])


def test_pictures_of_one_folder_have_one_class_without_a_name() -> None:
    """There need be no classes at all."""
    assert found(paths=["1.png", "2.png"]) == (["1.png", "2.png"], [0, 0], [""])


def test_a_picture_beside_the_classes_is_refused() -> None:
    """It was misplaced."""
    with pytest.raises(DatasetError, match=r"top\.png lies in no folder that names its class"):
        found(paths=["a/1.png", "top.png"])


def test_pictures_are_known_by_their_suffix_in_any_case_of_letters() -> None:
    assert all(has_picture_suffix(f"a/1{suffix}") and has_picture_suffix(f"a/1{suffix.upper()}") for suffix in SUFFIXES)
    assert not any(map(has_picture_suffix, ("png", "a/jpg", "1.png.txt", "1.eps", "1.pdf", "1.svg", "1.psd", "1.npy")))
