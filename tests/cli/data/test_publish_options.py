"""The option `--split`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import UsageError
from trainer.cli.data.publish_options import parse_split, read_file_list

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("word", "declared"),
    [
        ("train=0:800", [0, 800]),
        ("train=0%:80%", {"percent": ["0", "80"], "seed": 3}),
        ("train=0%:12.5%", {"percent": ["0", "12.5"], "seed": 3}),
        ("train=train/", {"prefix": "train/"}),
        ("train=./a/b/", {"prefix": "a/b/"}),
    ],
)
def test_every_form_is_parsed(word: str, declared: object) -> None:
    assert parse_split(word, seed=3) == ("train", declared)


@pytest.mark.parametrize(
    ("samples", "message", "hint"),
    [
        ("30:10", "expected FIRST:END with FIRST below END, found 30:10", "train=10:30"),
        ("0:0", "found 0:0", "train=0:800"),
        ("5:5", "found 5:5", "train=5:6"),
        ("10%:5%", "expected FROM%:TO% with FROM below TO", "0%:80%"),
        ("0%:150%", "from 0% to 100%", "0%:80%"),
        ("0:80%", "expected rows as 0:800, a range as 0%:80%", "train=0%:80%"),
        ("150%", "expected rows as 0:800", "0%:150%"),
        (":80", "expected rows as 0:800", "train=0:80"),
        ("train", "expected rows as 0:800", "--split train=train/"),
        ("a/*.png", "expected rows as 0:800", "(cd DIR && ls a/*.png) > train.txt, then --split train=@train.txt"),
        ("0-10", "expected rows as 0:800", "use --split train=0:10"),
        ("5..10", "expected rows as 0:800", "use --split train=5:10"),
        ("10:", "expected rows as 0:800", "--split train=10:END"),
        ("0.8", "expected rows as 0:800", "use percent, for example --split train=0%:80%"),
        ("0:0.8", "expected rows as 0:800", "use percent, for example --split train=0%:80%"),
        ("80:100%", "expected rows as 0:800", "use --split train=80%:100%"),
        ("@", "expected rows as 0:800", "use --split train=@FILE"),
        (
            "/home/d/a/",
            "expected a folder inside the published folder (an absolute path)",
            "for example --split train=train/",
        ),
        ("../a/", "expected a folder inside the published folder (a part is '..')", "for example --split train=train/"),
        ("./", "expected a folder", "for all samples: --split train=0%:100%"),
        *((word, "expected rows as 0:800, a range as 0%:80%, a folder as train/", "") for word in ("-10:", "0%:", ":")),
        *(
            (word, "expected rows as 0:800", "")
            for word in ("10:20:30", "1e3:2e3", "0.5:0.8", "nan%:80%", "-1:3", "1_0:20")
        ),
        *((word, "expected rows as 0:800", "") for word in ("\u0663:\u0664", "0 : 8", "0%:80%:1%", "x" * 300)),
    ],
)
def test_an_invalid_split_is_an_error_with_the_valid_forms(samples: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_split(f"train={samples}", seed=0)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("word", ["train", "=0:8", "train=", " train=0:8", ""])
def test_an_option_without_a_name_or_samples_is_an_error(word: str) -> None:
    with pytest.raises(UsageError, match="--split: expected NAME=SAMPLES"):
        parse_split(word, seed=0)


@pytest.mark.parametrize(
    "raw",
    [
        b"a/0.png\nb.png\n",
        b"\xef\xbb\xbfa/0.png\nb.png",
        "a/0.png\nb.png\n".encode("utf-16"),
        b"a/0.png\r\n\r\nb.png\r\n",
        b"./a/0.png\rb.png \r",
    ],
)
def test_lists_in_the_encodings_of_editors_are_read(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "l").write_bytes(raw)
    assert read_file_list(tmp_path / "l") == ["a/0.png", "b.png"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a\n\nb\na\n", "line 4: 'a' is already listed in line 1"),
        (b"a\n./a\n", "line 2: 'a' is already listed in line 1"),
        (b"caf\xe9\n", "line 1: expected UTF-8 text, found the byte 0xe9"),
        (b"a\\b.png\n", "contains a backslash"),
        (b"\n\n", "lists no files"),
        (b"a.png\n/home/d/b.png\n", "line 2: '/home/d/b.png' is not a path inside the dataset (an absolute path)"),
        (b"../b.png\n", "line 1: '../b.png' is not a path inside the dataset (a part is '..')"),
        (b"a.png\x1b[31m\n", r"line 1: 'a.png\x1b[31m' is not a path inside the dataset (a control character)"),
        (b"a/\n", "line 1: 'a/' is a folder; expected a file"),
    ],
)
def test_an_invalid_list_of_files_is_an_error(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "l").write_bytes(raw)
    with pytest.raises(UsageError) as caught:
        read_file_list(tmp_path / "l")
    assert message in caught.value.message
