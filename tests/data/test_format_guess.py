"""The reader and splits of a folder are guessed from its file names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.data.format_guess import SPLITS, guess_reader, split_options, table_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("paths", "found", "options"),
    [
        (
            ["cats/1.png", "cats/2.PNG", "dogs/1.png"],
            "3 pictures, 3 .png, in 2 folders (cats, dogs): it looks",
            "--images .",
        ),
        (
            ["1.jpg", "2.png", "3.jpg"],
            "3 pictures, 2 .jpg, 1 .png: no folders name",
            "--images . --labels FILE.csv",
        ),
        (["x.npy", "y.npy"], "2 NumPy files (x.npy, y.npy)", "--array FIELD=x.npy"),
        (["a/t.parquet"], "1 Parquet file (a/t.parquet)", "--column FIELD=COLUMN"),
        (["t.csv"], "1 CSV file (t.csv)", ""),
        (["a/t.jsonl"], "1 JSON lines file (a/t.jsonl)", ""),
        (["t.txt"], "1 text file (t.txt)", "--lines t.txt"),
    ],
)
def test_names_suggest_options(paths: list[str], found: str, options: str) -> None:
    guess = guess_reader(paths)
    assert guess is not None
    assert guess[0].startswith(found)
    assert options in guess[1]


def test_a_table_among_the_files_is_published_as_one_file(tmp_path: Path) -> None:
    paths = ["a.parquet", "notes.txt", "my table.CSV"]
    assert table_command("t", tmp_path, paths) == f"reprise data publish t '{tmp_path}/my table.CSV'"
    assert not table_command("t", tmp_path, paths[:2])


def test_other_names_suggest_nothing() -> None:
    assert guess_reader(["model.bin", "README", ".hidden"]) is None


def test_folders_named_after_splits_suggest_these_splits() -> None:
    assert (
        split_options(["Train/1", "dev/1", "test/1", "x"]) == "--split train=Train/ --split val=dev/ --split test=test/"
    )
    assert split_options(["train/1", "val/1", "valid/1", "test/1"]) == SPLITS
    assert split_options(["a/1", "b/1"]) == SPLITS
