"""The options of `reprise data publish` that select and configure a reader."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError, UsageError
from trainer.base.paths import path_fault
from trainer.base.suggestions import short
from trainer.cli.data.split_option import parse_distinct, parse_pair
from trainer.data.files import SourceFolder
from trainer.data.reader import MOST_PIXELS

if TYPE_CHECKING:
    from argparse import Namespace

_IMAGE_OPTIONS: Final = ("size", "resize", "fill", "mode", "pixels", "white", "alpha", "frames", "classes", "labels")
_REQUIRED_READER: Final = {**dict.fromkeys(_IMAGE_OPTIONS, "images"), **dict.fromkeys(("window", "stride"), "text")}
"""Options, and the reader option that each requires."""


def parse_reader(args: Namespace) -> dict[str, Any] | None:
    """Return the reader in the form of a declaration, or `None` if no option selects one. Raises `UsageError`."""
    match _reader_options(args):
        case ["array"]:
            return {"kind": "arrays", "fields": parse_distinct(args.array, partial(_array, folder=args.folder))}
        case ["images"]:
            return _images(args)
        case ["column"]:
            return {"kind": "table", "files": _tables(args), "fields": parse_distinct(args.column, _column)}
        case ["lines"]:
            return {"kind": "lines", "file": _one_or_more(args, "lines")}
        case ["text"]:
            if args.window is None:
                raise UsageError("--text needs --window, the bytes of a sample", hint="for example --window 128")
            return {
                "kind": "text",
                "file": _one_or_more(args, "text"),
                "window": args.window,
                "stride": args.stride,
            }
        case _ if args.table:
            raise UsageError(
                f"--table {args.table[0]} needs --column, the columns of a sample", hint="for example --column y=price"
            )
        case _:
            return None


def _reader_options(args: Namespace) -> list[str]:
    """Return the option that selects the reader, if any. Raises `UsageError` for options that do not fit together."""
    for option, reader in _REQUIRED_READER.items():
        if getattr(args, option) not in {None, False} and not getattr(args, reader):
            raise UsageError(f"--{option} has no effect without --{reader}", hint=f"give --{reader} as well")
    options = [option for option in ("array", "images", "column", "lines", "text") if getattr(args, option)]
    if len(options) > 1:
        raise UsageError(
            f"--{options[0]} and --{options[1]} are two readers; a dataset has one", hint="publish two datasets"
        )
    return options


def _images(args: Namespace) -> dict[str, Any]:
    _check_image_options(args)
    values = {"dtype" if name == "pixels" else name: getattr(args, name) for name in _IMAGE_OPTIONS}
    values["size"] = _size(args.size)
    if args.labels is not None:
        values["labels"] = _path_inside(args.labels, folder=args.folder, prefix="--labels ")
    return {
        "kind": "images",
        "folder": _images_folder(args),
        **{key: value for key, value in values.items() if value is not None},
        "classes": [] if args.classes is None else _class_names(args.classes),
    }


def _check_image_options(args: Namespace) -> None:
    """Raise `UsageError` for an option that has no effect with the others."""
    if args.resize and not args.size:
        raise UsageError(
            f"--resize {args.resize} has no effect without --size", hint="for example --size 64x64, height and width"
        )
    if args.fill is not None and args.resize != "pad":
        raise UsageError(f"--fill {args.fill:g} has no effect without --resize pad", hint="remove --fill")
    if args.alpha and args.mode == "RGBA":
        message = f"--alpha {args.alpha} has no effect with --mode RGBA, whose fourth channel is transparency"
        raise UsageError(message, hint="remove --alpha, or use --mode RGB")


def _images_folder(args: Namespace) -> str:
    if args.images.rstrip("/") in {"", "."}:
        return ""
    return f"{_path_inside(args.images, folder=args.folder, prefix='--images ')}/"


def _size(word: str | None) -> list[str] | None:
    """Return height and width."""
    if word is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}[xX][1-9]\d{0,8}", word):
        raise UsageError(
            f"--size: expected HEIGHTxWIDTH in pixels, found {short(word)!r}", hint="for example --size 48x64"
        )
    height, width = word.lower().split("x")
    if int(height) * int(width) > MOST_PIXELS:
        raise UsageError(f"--size {word}: expected at most {MOST_PIXELS:,} pixels", hint="for example --size 48x64")
    return [height, width]


def _class_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise UsageError(f"--classes {short(text)!r}: a name is empty", hint="for example --classes cat,dog")
    return names


def _array(word: str, *, folder: Path) -> tuple[str, str]:
    field, file = parse_pair(word, "FIELD=FILE")
    return field, _path_inside(file, folder=folder, prefix=f"--array {field}=")


def _tables(args: Namespace) -> list[str]:
    """Return the Parquet files of `--table`, or all Parquet files of the folder."""
    if args.table:
        return _distinct_files(args, "table")
    paths = SourceFolder(root=args.folder, has_hidden=args.include_hidden).paths()
    if tables := [path for path in paths if path.endswith(".parquet")]:
        return tables
    text = next((path for path in paths if path.endswith((".csv", ".tsv"))), None)
    hint = f"convert {text} to Parquet, for example with pandas.read_csv(..).to_parquet(..)" if text else None
    raise DatasetError(f"--column needs a .parquet file; {args.folder} has none", hint=hint)


def _column(word: str) -> tuple[str, dict[str, Any]]:
    field, value = parse_pair(word, "FIELD=COLUMN")
    columns, _, dtype = value.partition(":")
    names = columns.split(",")
    return field, {"column": names[0] if len(names) == 1 else names, **({"dtype": dtype} if dtype else {})}


def _one_or_more(args: Namespace, option: str) -> str | list[str]:
    files = _distinct_files(args, option)
    return files[0] if len(files) == 1 else files


def _distinct_files(args: Namespace, option: str) -> list[str]:
    """Return the files of an option. Raises `UsageError` for a repeated file, whose samples would count twice."""
    files = [_path_inside(word, folder=args.folder, prefix=f"--{option} ") for word in getattr(args, option)]
    if repeated := next((file for at, file in enumerate(files) if file in files[:at]), None):
        raise UsageError(f"--{option} {short(repeated)} is given twice", hint="remove one of them")
    return files


def _path_inside(word: str, *, folder: Path, prefix: str) -> str:
    """Return the path of a file or folder relative to `folder`. Raises `UsageError` for any other path.

    `prefix` is the text before the path on the command line: an option and a blank, or `--array FIELD=`.
    """
    path = word.removeprefix("./").rstrip("/")
    fault = path_fault(path)
    if fault is None:
        return path
    raise UsageError(
        f"{prefix}{short(word)}: expected a path inside {folder} ({fault})", hint=_path_hint(word, folder, prefix)
    )


def _path_hint(word: str, folder: Path, prefix: str) -> str:
    try:
        inside = Path(word).resolve().relative_to(folder.resolve()).as_posix()
    except (ValueError, OSError, RuntimeError):
        return f"copy it into {folder}: a version contains every file that its reader needs"
    return f"use {prefix}{inside}"
