"""Publishing a folder of pictures: the declared classes, and the notes about other files in the folder."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.data.conftest import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    Type = Callable[..., tuple[int, str, str]]

OPTIONS = ("--license", "x", "--source", "y", "--images", ".")
FOLDERS = ("--split", "train=train/", "--split", "val=val/", "--split", "test=test/")
PARTS = ("--split", "train=0%:50%", "--split", "val=50%:75%", "--split", "test=75%:100%")


def publish(typed: Type, files: dict[str, bytes] | list[str], *words: str) -> tuple[int, str, str]:
    """Publish files, or pictures of one pixel with the names in a list, as the dataset `small`."""
    if isinstance(files, list):
        files = {name: make_picture(name) for name in files}
    fill(Path("d"), files)
    return typed("publish", "small", "d", *OPTIONS, *words)


def make_picture(comment: str) -> bytes:
    """Return a PGM picture of one pixel; its bytes are unique if `comment` is."""
    return f"P5\n# {comment}\n1 1\n255\n".encode() + b"\x80"


def read_declaration() -> dict[str, Any]:
    return tomllib.loads(Path("datasets/small.toml").read_text())


def picture_names(*folders: str, count: int = 8) -> list[str]:
    return [f"{folder}/{number:03}.png" for folder in folders for number in range(count)]


def test_split_folders_share_their_classes(typed: Type) -> None:
    files = picture_names("train/a", "train/b", "val/a", "val/b", "test/a", "test/b", count=2)
    code, out, _ = publish(typed, files, *FOLDERS)
    assert code == 0
    assert read_declaration()["reader"]["classes"] == ["a", "b"]
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["class", "name", "train", "val", "test", "all"],
        ["0", "a", "2", "2", "2", "6"],
        ["1", "b", "2", "2", "2", "6"],
    ]
    assert "  classes   2: 0 a, 1 b\n" in typed("show", "small")[1]
    typed("fetch", "small")
    assert "\n".join(out.splitlines()[1:]) in typed("show", "small")[1]
    assert json.loads(typed("show", "small", "--json")[1])["classes"][1]["splits"] == {"train": 2, "val": 2, "test": 2}


def test_checkpoint_folders_and_system_files_are_not_classes(typed: Type) -> None:
    litter = ["a/._000.png", ".ipynb_checkpoints/a.png", "a/.ipynb_checkpoints/a.png", ".DS_Store", ".keep"]
    code, _, err = publish(typed, [*picture_names("a", "b"), *litter], *PARTS)
    assert (code, read_declaration()["files"], read_declaration()["reader"]["classes"]) == (0, 16, ["a", "b"])
    assert "small: left out: 1 hidden, for example '.keep'; --include-hidden publishes hidden files\n" in err
    assert "small: left out: 4 of the system, for example '.DS_Store'\n" in err
    code, out, _ = publish(typed, picture_names("a"), *PARTS, "--include-hidden", "--json")
    found = json.loads(out)
    assert (code, found["files"], [each["name"] for each in found["classes"]]) == (0, 17, ["a", "b"])
    assert found["left_out"] == [{"reason": "of the system", "count": 4, "example": ".DS_Store"}]
    assert any(
        "not read, because they are not pictures: 1 without suffix, for example .keep" in note
        for note in found["notes"]
    )


def test_a_class_whose_files_cannot_be_read_is_an_error(typed: Type) -> None:
    code, out, err = publish(typed, [*picture_names("a", "b"), "c/1.heic", "c/2.heic"], *PARTS)
    assert (code, out) == (44, "")
    assert "folder 'c' of small has no readable picture: 2 .heic, for example c/1.heic" in err


def test_unread_files_are_counted_by_suffix(typed: Type) -> None:
    code, _, err = publish(typed, [*picture_names("a", "b"), "a/1.psd", "a/2.PSD", "README"], *PARTS)
    assert code == 0
    assert "not read, because they are not pictures: 2 .psd, 1 without suffix, for example README" in err


def test_numbered_folders_are_numbered_by_value(typed: Type) -> None:
    code, out, _ = publish(typed, picture_names(*map(str, range(12)), count=3), "--split", "train=0%:100%")
    assert (code, read_declaration()["reader"]["classes"]) == (0, [str(number) for number in range(12)])
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [[str(number)] * 2 for number in range(12)]


def test_a_new_class_never_renumbers_the_others_silently(typed: Type) -> None:
    publish(typed, picture_names("b", "c"), *PARTS)
    fill(Path("d"), {"a/1.png": make_picture("new")})
    code, _, err = typed("publish", "small", "d")
    assert (code, "a/1.png of dataset small is of class 'a', which is not one of its 2 classes" in err) == (44, True)
    assert "datasets/small.toml" in err
    code, _, err = typed("publish", "small", "d", "--images", ".")
    assert "WARNING: the numbers of classes change: b 0 -> 1, c 1 -> 2; to keep the numbers: --classes b,c,a" in err
    code, _, err = typed("publish", "small", "d", "--images", ".", "--classes", "b,c,a")
    assert (code, read_declaration()["reader"]["classes"]) == (0, ["b", "c", "a"])


def test_removing_an_unnamed_class_is_reported(typed: Type) -> None:
    publish(typed, ["1.png", "2.png"], "--split", "train=0%:100%")
    for name in ("1.png", "2.png"):
        Path("d", name).unlink()
    _, _, err = publish(typed, picture_names("a", "b"), *PARTS)
    assert "WARNING: the numbers of classes change: (no name) 0 -> none\n" in err


@pytest.mark.parametrize(
    ("folders", "words", "message"),
    [
        (("Cat", "cat"), (), "classes 'Cat' and 'cat' of small differ only by upper and lower case"),
        (
            ("caf\u00e9", "cafe\u0301"),
            (),
            r"classes 'cafe\u0301' and 'caf\xe9' of small are the same name in two Unicode forms",
        ),
        (("a", "a\u200b"), (), r"classes 'a' and 'a\u200b' of small differ only by whitespace or invisible characters"),
        (
            ("a b", "a\u00a0b"),
            (),
            r"classes 'a b' and 'a\xa0b' of small differ only by whitespace or invisible characters",
        ),
        (("\u2764", "\u2764\ufe0f"), (), "differ only by whitespace or invisible characters"),
        (("a", "b"), ("--classes", "a,b,a"), "the class 'a' of small is named twice"),
        (("a", "b"), ("--classes", "a,,b"), "a name is empty"),
        (("a", "b"), ("--classes", ""), "--classes: found an empty argument"),
        (("a", "b"), ("--classes", "a"), "is of class 'b', which is not one of its 1 classes"),
    ],
)
def test_class_names_that_normalize_to_one_name_are_an_error(
    typed: Type, folders: tuple[str, ...], words: tuple[str, ...], message: str
) -> None:
    files = [f"{folder}/{number}.png" for number, folder in enumerate(folders)]
    code, out, err = publish(typed, files, "--split", "train=0%:100%", *words)
    assert (code in {2, 44}, out) == (True, "")
    assert message in err


def test_class_names_that_differ_by_case_can_be_declared(typed: Type) -> None:
    code, _, _ = publish(typed, picture_names("A", "b"), *PARTS, "--classes", "A, a,b")
    assert (code, read_declaration()["reader"]["classes"]) == (0, ["A", "a", "b"])


def test_a_class_of_a_table_with_a_control_character_is_rejected(typed: Type) -> None:
    for name in (b'"a\nb"', b"a\x1b[31m", "a\u2028".encode()):
        files = {"1.png": b"1", "l.csv": b"file,class\n1.png," + name + b"\n"}
        code, out, err = publish(typed, files, "--labels", "l.csv", "--split", "train=0%:100%")
        assert (code, out, "\x1b" in err) == (44, "", False)
        assert "of small contains a control character" in err or "begins or ends with whitespace" in err


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("a",), "small: its pictures have one class, a\n"),
        (("",), "small: its pictures have one class without a name; folders or --labels FILE.csv name classes\n"),
        (
            ("train", "Validation", "test"),
            "small: its classes are Validation, test, train; if these are its splits, use --split train=train/",
        ),
    ],
)
def test_suspicious_classes_are_reported(typed: Type, folders: tuple[str, ...], message: str) -> None:
    files = [f"{folder}/{number}.png".lstrip("/") for folder in folders for number in range(3)]
    code, _, err = publish(typed, files, "--split", "train=0%:100%")
    assert (code, message in err) == (0, True)


def test_a_label_table_in_another_encoding_merges_no_classes(typed: Type) -> None:
    files = {"1.png": b"1", "2.png": b"2", "l.csv": b"file,class\n1.png,caf\xe9\n2.png,caf\xe8\n"}
    code, out, err = publish(typed, files, "--labels", "l.csv", "--split", "train=0%:100%")
    assert (code, out) == (40, "")
    assert "l.csv, line 2: expected UTF-8 text, found the byte 0xe9" in err


def test_a_misspelled_picture_in_the_table_is_reported_before_the_unlisted_picture(typed: Type) -> None:
    files = {"a.png": b"1", "b.png": b"2", "l.csv": b"file,class\n./a.png,x\nb.png,y\n"}
    code, _, err = publish(typed, files, "--labels", "l.csv", "--split", "train=0%:100%")
    assert (code, "l.csv, line 2: './a.png' is not in the folder\n  -> write a.png\n" in err) == (44, True)
    code, _, err = publish(typed, {"l.csv": b"file,class\nb.png,y\n"}, "--labels", "l.csv", "--split", "train=0%:100%")
    assert (code, "l.csv has no line for a.png\n" in err) == (44, True)
    code, _, err = publish(typed, [], "--labels", "labels.csv", "--split", "train=0%:100%")
    assert "needs 'labels.csv', which is not in the folder\n  -> did you mean l.csv?\n" in err


def test_a_missing_table_among_many_files_gives_a_short_hint(typed: Type) -> None:
    code, _, err = publish(typed, [f"{number:05}/{'x' * 40}.png" for number in range(3000)], "--labels", "nope.csv")
    assert (code, "needs 'nope.csv', which is not in the folder" in err) == (44, True)
    assert len(err) < 600


def test_equal_files_in_two_splits_are_reported(typed: Type) -> None:
    same = make_picture("same")
    files = {
        "train/a/1.png": same,
        "train/a/2.png": make_picture("2"),
        "val/a/1.png": same,
        "test/a/1.png": make_picture("3"),
    }
    code, _, err = publish(typed, files, *FOLDERS)
    assert code == 0
    assert "small: 1 file is in both splits train and val, by content: val/a/1.png and train/a/1.png" in err
    assert "val and test" not in err


def test_a_class_without_samples_in_a_split_is_reported(typed: Type) -> None:
    code, _, err = publish(typed, [*picture_names("train/a", "train/b", "val/a", "test/a"), "extra/z/1.png"], *FOLDERS)
    assert code == 0
    assert "small: split val has no sample of class b\n" in err
    assert "not read: 1 picture in no split's folder, for example extra/z/1.png" in err


@pytest.mark.torch
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("image=float32[3,1,1]", ""),
        ("image=float32[3,any,any]", ""),
        ("label=int64", ""),
        ("image=float32[1,1,1]", "'image' of a sample of small is float32[3,1,1]; expected float32[1,1,1]"),
        ("image=uint8[3,1,1]", "'image' of a sample of small is float32[3,1,1]; expected uint8[3,1,1]"),
        ("imag=float32[3,1,1]", "a sample of small has no field 'imag'"),
    ],
)
def test_a_declared_sample_is_compared_with_the_pictures(typed: Type, word: str, message: str) -> None:
    code, _, err = publish(typed, picture_names("a", "b"), *PARTS, "--sample", word)
    assert (code, message in err) == (44 if message else 0, True)
