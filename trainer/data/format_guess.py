"""Guess the reader and the splits of a folder from its file names, for advice to the user.

The guess is never applied, because a wrong guess would train on the wrong data.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted, listed
from trainer.data.pictures import by_suffix, has_picture_suffix, suffix_of
from trainer.data.tables.source_table import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LONGEST_LIST: Final = 60
SPLITS: Final = "--split train=0%:80% --split val=80%:90% --split test=90%:100%"


def guess_reader(paths: Sequence[str]) -> tuple[str, str] | None:
    """Return a description of the files and the options that read them; `None` if no reader is likely.

    The options are empty for a table, which is published as one file.
    """
    if pictures := [path for path in paths if has_picture_suffix(path)]:
        folders = sorted({path.rpartition("/")[0] for path in pictures} - {""})
        inside = f", in {counted(len(folders), 'folder')} ({listed(folders, longest=_LONGEST_LIST)})" if folders else ""
        like = "it looks like an image folder" if len(folders) > 1 else "no folders name classes"
        more = "" if len(folders) > 1 else " --labels FILE.csv"
        return f"{counted(len(pictures), 'picture')}, {by_suffix(pictures)}{inside}: {like}", f"--images .{more}"
    by_ending: dict[str, list[str]] = {}
    for path in paths:
        by_ending.setdefault(suffix_of(path), []).append(path)
    for suffix, name, options in _OTHERS:
        if files := by_ending.get(suffix):
            return f"{counted(len(files), f'{name} file')} ({listed(files, longest=_LONGEST_LIST)})", options.replace(
                "FILE", files[0]
            )
    return None


def table_command(name: str, root: Path, paths: Sequence[str]) -> str:
    """Return the command that publishes the first table among the files of a folder; empty if there is no table."""
    table = next((path for path in paths if suffix_of(path) in FORMATS and suffix_of(path) != ".parquet"), None)
    return "" if table is None else f"reprise data publish {name} {shlex.quote(str(root / table))}"


def split_options(paths: Sequence[str]) -> str:
    """Return options that declare splits: by folder if exactly one top-level folder has a name of each split, else by percentage.

    >>> split_options(["train/a/1.png", "valid/a/1.png", "test/a/1.png"])
    '--split train=train/ --split val=valid/ --split test=test/'
    """
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    folders_of = {
        split: sorted(folder for folder in folders if folder.lower() in names) for split, names in SPLIT_NAMES.items()
    }
    if any(len(names) != 1 for names in folders_of.values()):
        return SPLITS
    return " ".join(f"--split {split}={names[0]}/" for split, names in folders_of.items())


SPLIT_NAMES: Final = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "validate", "dev", "develop", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout", "held-out"),
}
"""The splits that training needs, and their other common names."""
_OTHERS: Final = (
    (".npy", "NumPy", "--array FIELD=FILE, once for each field"),
    (".parquet", "Parquet", "--column FIELD=COLUMN, once for each field"),
    (".csv", "CSV", ""),
    (".tsv", "TSV", ""),
    (".jsonl", "JSON lines", ""),
    (".ndjson", "JSON lines", ""),
    (".arrow", "Arrow", ""),
    (".feather", "Arrow", ""),
    (".txt", "text", "--lines FILE"),
)
