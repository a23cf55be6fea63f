"""Parses the options of `reprise data publish` that select and configure a reader or a split, and other NAME=VALUE options."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from trainer.base.errors import DatasetError, DocumentError, UsageError
from trainer.base.paths import path_fault
from trainer.base.plain_text import read_text
from trainer.base.suggestions import short
from trainer.data.files import FolderFiles, SourceFolder
from trainer.data.format_guess import table_command
from trainer.data.reader import MOST_PIXELS
from trainer.data.tokenizer_file import parse_tokenizer

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable


T = TypeVar("T")

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_SPELLING: Final = "1 to 63 of a-z, A-Z, 0-9, -, _ and ., starting with a letter or a digit"
_NUMBER: Final = r"[0-9]{1,15}"
_PERCENT: Final = r"[0-9]{1,3}(?:\.[0-9]{1,9})?"
_FRACTION: Final = r"0?\.[0-9]{1,9}"
_HINTS: Final = (
    (r".*[*?\[].*", "list the files: (cd DIR && ls {word}) > {name}.txt, then --split {name}=@{name}.txt"),
    (rf"{_NUMBER}(-|\.\.\.?){_NUMBER}", "use --split {name}={first}:{last}"),
    (rf"{_PERCENT}:{_PERCENT}%|{_PERCENT}%:{_PERCENT}", "use --split {name}={first}%:{last}%"),
    (rf"{_PERCENT}%", "use --split {name}=0%:{word}"),
    (rf"({_FRACTION}|0):{_FRACTION}|{_FRACTION}", "use percent, for example --split {name}=0%:80%"),
    (rf":{_NUMBER}", "use --split {name}=0{word}"),
    (rf"{_NUMBER}:", "use --split {name}={first}:END"),
    (r"@", "use --split {name}=@FILE, with one path on each line of FILE"),
    (
        r"[^:%@\s]*[^\W\d][^:%@\s]*",
        "for a folder: --split {name}={word}/; for a list of files: --split {name}=@{word}",
    ),
)
"""Patterns of common mistakes in --split, and a hint for each."""
_FORMS: Final = "rows as 0:800, a range as 0%:80%, a folder as train/, or a list of files as @FILE"

_IMAGE_OPTIONS: Final = ("size", "resize", "fill", "mode", "pixels", "white", "alpha", "frames", "classes", "labels")
_TOKEN_OPTIONS: Final = ("end_token", "pad_token", "long_lines")
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(_IMAGE_OPTIONS, ("images",)),
    "stride": ("text",),
    "window": ("text", "tokenizer"),
    **dict.fromkeys(_TOKEN_OPTIONS, ("tokenizer",)),
    "pad_token": ("lines",),
    "long_lines": ("lines",),
    "tokenizer": ("text", "lines"),
}
"""For each option, the options that select readers: at least one of them is required."""


def parse_reader(args: Namespace) -> dict[str, Any] | None:
    """Return the reader in the form of a declaration, or `None` if no option selects a reader.

    Raise `UsageError` for options that do not fit together, `DatasetError` for missing Parquet files and an invalid tokenizer.
    """
    match _reader_options(args):
        case ["array"]:
            return {"kind": "arrays", "fields": parse_distinct(args.array, partial(_array, folder=args.folder))}
        case ["images"]:
            return _images(args)
        case ["column"]:
            return {"kind": "table", "files": _tables(args), "fields": parse_distinct(args.column, _column)}
        case ["lines"]:
            return {"kind": "lines", "file": _one_or_more(args, "lines")} | _tokens(args)
        case ["text"]:
            if args.window is None:
                unit = "tokens" if args.tokenizer else "bytes"
                raise UsageError(f"--text needs --window, the {unit} of a sample", hint="for example --window 128")
            return {
                "kind": "text",
                "file": _one_or_more(args, "text"),
                "window": args.window,
                "stride": args.stride,
                **_tokens(args),
            }
        case _ if args.table:
            raise UsageError(
                f"--table {args.table[0]} needs --column, the columns of a sample", hint="for example --column y=price"
            )
        case _:
            return None


def require_readers(args: Namespace) -> None:
    """Raise `UsageError` for an option that has no effect without an option that selects a reader."""
    for option, needed in _NEEDED.items():
        if getattr(args, option) not in {None, False} and not any(getattr(args, each) for each in needed):
            word = option.replace("_", "-")
            either = " or ".join(f"--{each}" for each in needed)
            raise UsageError(f"--{word} has no effect without {either}", hint=f"add --{needed[0]}")


def _reader_options(args: Namespace) -> list[str]:
    """Return the option that selects the reader, or an empty list. Raise `UsageError` for options that do not fit together."""
    require_readers(args)
    options = [option for option in ("array", "images", "column", "lines", "text") if getattr(args, option)]
    if len(options) > 1:
        raise UsageError(
            f"--{options[0]} and --{options[1]} select two readers; expected one",
            hint="remove one of them, or publish two datasets",
        )
    return options


def _images(args: Namespace) -> dict[str, Any]:
    _check_image_options(args)
    values = {"dtype" if name == "pixels" else name: getattr(args, name) for name in _IMAGE_OPTIONS}
    values["size"] = _size(args.size)
    classes = [] if args.classes is None else [name.strip() for name in args.classes.split(",")]
    if "" in classes:
        raise UsageError(f"--classes {short(args.classes)!r}: a name is empty", hint="for example --classes cat,dog")
    folder = ""
    if args.images.rstrip("/") not in {"", "."}:
        folder = f"{_path_inside(args.images, folder=args.folder, prefix='--images ')}/"
    if args.labels is not None:
        values["labels"] = _path_inside(args.labels, folder=args.folder, prefix="--labels ")
    return {
        "kind": "images",
        "folder": folder,
        **{key: value for key, value in values.items() if value is not None},
        "classes": classes,
    }


def _check_image_options(args: Namespace) -> None:
    """Raise `UsageError` for an option that has no effect with the other options."""
    if args.resize and not args.size:
        raise UsageError(
            f"--resize {args.resize} has no effect without --size", hint="for example --size 64x64, height and width"
        )
    if args.fill is not None and args.resize != "pad":
        raise UsageError(f"--fill {args.fill:g} has no effect without --resize pad", hint="remove --fill")
    if args.alpha and args.mode == "RGBA":
        message = f"--alpha {args.alpha} has no effect with --mode RGBA, whose fourth channel is transparency"
        raise UsageError(message, hint="remove --alpha, or use --mode RGB")


def _size(word: str | None) -> list[str] | None:
    """Return height and width, or `None` without `--size`. Raise `UsageError` for another form and for too many pixels."""
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


def _array(word: str, *, folder: Path) -> tuple[str, str]:
    field, file = parse_pair(word, "FIELD=FILE")
    return field, _path_inside(file, folder=folder, prefix=f"--array {field}=")


def _tables(args: Namespace) -> list[str]:
    """Return the Parquet files of `--table`, or else all Parquet files in the folder. Raise `DatasetError` if there is no such file."""
    if args.table:
        return _distinct_files(args, "table")
    paths = SourceFolder(root=args.folder, has_hidden=args.include_hidden).paths()
    if tables := [path for path in paths if path.endswith(".parquet")]:
        return tables
    hint = table_command(args.name, args.folder, paths) or None
    raise DatasetError(f"--column needs a .parquet file; {args.folder} has none", hint=hint)


def _column(word: str) -> tuple[str, dict[str, Any]]:
    field, value = parse_pair(word, "FIELD=COLUMN")
    columns, _, dtype = value.partition(":")
    names = columns.split(",")
    return field, {"column": names[0] if len(names) == 1 else names, **({"dtype": dtype} if dtype else {})}


def _tokens(args: Namespace) -> dict[str, Any]:
    """Return the key `tokens` of a text reader, or an empty mapping without `--tokenizer`.

    Raise `DatasetError` if the file is not a tokenizer, or if a special token is not found.
    """
    if args.tokenizer is None:
        return {}
    path = _path_inside(args.tokenizer, folder=args.folder, prefix="--tokenizer ")
    found = parse_tokenizer(FolderFiles(args.folder).read(path), where=path)
    end = args.end_token or found.end(where=path)
    found.id_of(end, where=path, option="--end-token")
    values: dict[str, Any] = {"tokenizer": path, "vocabulary": found.vocabulary, "end": end}
    if args.text:
        return {"tokens": values}
    pad = args.pad_token or found.pad(where=path)
    found.id_of(pad, where=path, option="--pad-token")
    if args.long_lines and args.window is None:
        raise UsageError(
            f"--long-lines {args.long_lines} has no effect without --window", hint="for example --window 128"
        )
    long_lines = {"long_lines": args.long_lines} if args.long_lines else {}
    return {"tokens": {**values, "pad": pad, "window": args.window, **long_lines}}


def _one_or_more(args: Namespace, option: str) -> str | list[str]:
    files = _distinct_files(args, option)
    return files[0] if len(files) == 1 else files


def _distinct_files(args: Namespace, option: str) -> list[str]:
    """Return the files of an option. Raise `UsageError` for a repeated file, whose samples would count twice."""
    files = [_path_inside(word, folder=args.folder, prefix=f"--{option} ") for word in getattr(args, option)]
    if repeated := next((file for index, file in enumerate(files) if file in files[:index]), None):
        raise UsageError(f"--{option} {short(repeated)} is given twice", hint="remove one of them")
    return files


def _path_inside(word: str, *, folder: Path, prefix: str) -> str:
    """Return the path of a file or folder relative to `folder`. Raise `UsageError` for any other path.

    `prefix` is the text before the path on the command line: an option and a space, or `--array FIELD=`.
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


def parse_split(word: str, *, seed: int) -> tuple[str, Any]:
    """Return the name of a split, and its samples in the form of a declaration. Raise `UsageError` for another form."""
    name, samples = parse_pair(word, "NAME=SAMPLES, for example train=0:800", option="--split")
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            f"--split {short(name)!r}: expected a name of {_SPELLING}", hint="for example --split train=0:800"
        )
    if samples.startswith("@") and len(samples) > 1:
        return name, {"files": read_file_list(Path(samples[1:]))}
    if samples.endswith("/"):
        return name, {"prefix": _prefix(name, samples)}
    if rows := re.fullmatch(f"({_NUMBER}):({_NUMBER})", samples):
        first, last = int(rows[1]), int(rows[2])
        if first < last:
            return name, [first, last]
        end = max(first, last) if first != last else first + 1 if first else 800
        raise UsageError(
            f"--split {short(word)}: expected FIRST:END with FIRST below END, found {first}:{last}",
            hint=f"for example --split {name}={min(first, last)}:{end}",
        )
    if percent := re.fullmatch(f"({_PERCENT})%:({_PERCENT})%", samples):
        if 0 <= float(percent[1]) < float(percent[2]) <= 100:  # noqa: PLR2004 - the bounds of a percentage
            return name, {"percent": [percent[1], percent[2]], "seed": seed}
        raise UsageError(
            f"--split {short(word)}: expected FROM%:TO% with FROM below TO, from 0% to 100%",
            hint=f"for example --split {name}=0%:80%",
        )
    raise UsageError(f"--split {short(word)}: expected {_FORMS}", hint=_hint(name, samples))


def _prefix(name: str, samples: str) -> str:
    folder = samples.removeprefix("./")
    if folder and (fault := path_fault(folder[:-1])):
        message = f"--split {name}={short(samples)}: expected a folder inside the published folder ({fault})"
        raise UsageError(message, hint=f"for example --split {name}=train/")
    if not folder:
        raise UsageError(
            f"--split {name}={samples}: expected a folder", hint=f"for all samples: --split {name}=0%:100%"
        )
    return folder


def _hint(name: str, samples: str) -> str:
    template = next((hint for form, hint in _HINTS if re.fullmatch(form, samples)), None)
    if template is None:
        return f"for example --split {name}=0:800"
    first, last = (*re.split(r":|-|\.\.+", samples.replace("%", ""), maxsplit=1), "")[:2]
    return template.format(name=name, word=short(samples), first=first, last=last)


def read_file_list(path: Path) -> list[str]:
    """Return the paths in a text file, one on each line; blank lines are ignored. Raise `UsageError` that names an invalid line."""
    lines: dict[str, int] = {}
    try:
        text = read_text(path)
    except DocumentError as fault:
        message = f"--split: {path} cannot be read as a list of files: {fault.message}"
        raise UsageError(message, hint=f"{fault.hint}; write one path on each line") from fault
    for number, line in enumerate(text.split("\n"), start=1):
        file = line.strip().removeprefix("./")
        if not file:
            continue
        location = f"{path}, line {number}: {short(file)!r}"
        if "\\" in file:
            raise UsageError(f"{location} contains a backslash", hint=f"use /: {short(file.replace(chr(92), '/'))}")
        if problem := path_fault(file.removesuffix("/")):
            hint = "write paths relative to the published folder, for example train/0001.png"
            raise UsageError(f"{location} is not a path inside the dataset ({problem})", hint=hint)
        if file.endswith("/"):
            hint = f"to use a folder as a split: --split NAME={short(file)}"
            raise UsageError(f"{location} is a folder; expected a file", hint=hint)
        if file in lines:
            raise UsageError(f"{location} is already listed in line {lines[file]}", hint="remove one of the lines")
        lines[file] = number
    if not lines:
        raise UsageError(f"{path} lists no files", hint="write one path on each line, for example train/0001.png")
    return list(lines)


def parse_pair(word: str, form: str, *, option: str = "") -> tuple[str, str]:
    """Return the two sides of `NAME=VALUE`. Raise `UsageError` for another word, with the expected form `form`."""
    name, equals, value = word.partition("=")
    if not (name.strip() == name and name and equals and value):
        found = f"expected {form}; found {short(word)!r}"
        raise UsageError(f"{option}: {found}" if option else found, hint="write it in this form, without spaces")
    return name, value


def parse_distinct(words: list[str], parse: Callable[[str], tuple[str, T]]) -> dict[str, T]:
    """Parse `NAME=VALUE` words into a mapping. Raise `UsageError` if a name is repeated."""
    values: dict[str, T] = {}
    for word in words:
        name, value = parse(word)
        if name in values:
            raise UsageError(
                f"{short(name)!r} is given twice: {short(word)!r} is the second", hint="remove one of them"
            )
        values[name] = value
    return values
