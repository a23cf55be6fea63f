"""`reprise data publish` and `publish-samples`: what a person types about a dataset, and what came of it."""

from __future__ import annotations

import json
import os
import re
import tempfile
from argparse import ArgumentTypeError
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from trainer.base.atomic_file import write_whole
from trainer.base.document import typed
from trainer.base.errors import DatasetError, MachineError, UsageError
from trainer.base.suggestions import counted, short
from trainer.cli.data.class_table import class_table
from trainer.cli.data.image_words import OPTIONS as OF_IMAGES
from trainer.cli.data.image_words import parse_images
from trainer.cli.data.inner_paths import inner_path
from trainer.cli.data.inspect import inspector
from trainer.cli.data.split_words import pair as _pair
from trainer.cli.data.split_words import parse_split
from trainer.cli.progress import readable, transfer_progress
from trainer.data.declaration import Dataset, Draft, declaration, declared, is_declared, load_dataset, require_name
from trainer.data.publish import Published, publish_dataset, publish_declared
from trainer.data.source_folder import SourceFolder

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from trainer.cli.arguments import Verb
    from trainer.cli.data.places import Places

T = TypeVar("T")

_OF_READER: Final = {**dict.fromkeys(OF_IMAGES, "images"), **dict.fromkeys(("window", "stride"), "text")}
"""Options, and the option without which each has no effect."""
_SAID: Final = ("license", "source", "splits", "reader", "sample", "allow_nan", "twin")


def describe(publish: Verb) -> None:
    """Declare the options of `publish`."""
    publish.add_argument("name", metavar="NAME")
    publish.add_argument("folder", metavar="DIR", type=_folder)
    add = publish.add_argument
    add("--license", metavar="TEXT", help="the license; what was declared stays where nothing is given, here and below")
    add("--source", metavar="TEXT", help="where the data is from")
    add(
        "--split",
        metavar="NAME=SAMPLES",
        action="append",
        help="samples of the split NAME: rows as 0:800; a lasting part as 0%%:80%%; a folder's files as train/; the files that a "
        "text file lists, as @FILE; repeat it",
    )
    add("--split-seed", metavar="N", type=_seed, help="another lasting choice for parts given in %%")
    add("--array", metavar="FIELD=FILE", action="append", help="a sample's FIELD is a row of FILE (.npy); repeat it")
    add(
        "--images",
        metavar="FOLDER",
        help="a sample is a picture below FOLDER (. for all); its class is the first folder below that, or below its split's",
    )
    add("--size", metavar="HxW", help="what size all pictures have, or with --resize shall have")
    add(
        "--resize",
        choices=("stretch", "crop", "pad", "fit"),
        help="bring pictures to --size: stretch changes their shape, crop fills it and cuts the rest, pad fits inside and fills the rest, "
        "fit only fits inside",
    )
    add(
        "--fill",
        metavar="VALUE",
        type=float,
        help="what --resize pad adds, from 0 for black to 1 for white; otherwise 0",
    )
    add("--mode", choices=("L", "RGB", "RGBA"), help="channels of pictures; otherwise RGB")
    add("--pixels", choices=("float32", "uint8"), help="the pixels' type; otherwise float32 from 0 to 1")
    add("--white", metavar="VALUE", type=float, help="the value that is read as 1.0, of pictures with more than 8 bits")
    add("--alpha", choices=("drop", "white", "black"), help="what --mode L and RGB do with transparent pixels")
    add("--frames", choices=("first",), help="read the first frame of animations and the first page of documents")
    add("--classes", metavar="A,B", help="the pictures' classes by number; otherwise the folders, in order")
    add(
        "--labels",
        metavar="FILE",
        help="a CSV file with the columns file and class; otherwise folders name the classes",
    )
    add(
        "--column",
        metavar="FIELD=COLUMN[,COLUMN..][:TYPE]",
        action="append",
        help="a sample is a row of Parquet files, its FIELD one column or several; TYPE is float32 otherwise; repeat it",
    )
    add(
        "--table",
        metavar="FILE",
        action="append",
        help="a Parquet file; otherwise all of DIR, in the order of their paths",
    )
    add("--lines", metavar="FILE", action="append", help="a sample is a line of the text FILE; repeat it")
    add("--text", metavar="FILE", action="append", help="a sample is a window of the text FILE's bytes; repeat it")
    add("--window", metavar="N", type=int, help="bytes of a window of --text")
    add("--stride", metavar="N", type=int, help="bytes from one window to the next; otherwise --window")
    add(
        "--sample",
        metavar="FIELD=TYPE[SHAPE]",
        action="append",
        help="what a sample's FIELD is, as image=float32[1,8,8]; repeat it",
    )
    add(
        "--allow-nan",
        metavar="FIELD",
        action="append",
        help="FIELD may hold NaN and infinities, as missing values; otherwise they are rejected; repeat it",
    )
    add("--include-hidden", action="store_true", help="publish hidden files too: names that begin with a dot")


def _folder(word: str) -> Path:
    """The folder that is published: an empty word, as of a variable that is not set, is not the current one."""
    if not word:
        raise ArgumentTypeError("expected a folder, found an empty word")
    return Path(word)


def _seed(word: str) -> int:
    if not word.isascii() or not word.isdigit():
        raise ArgumentTypeError(f"expected a whole number from 0 on, found {word!r}")
    return int(word)


def publish(words: Namespace, places: Places) -> int:
    """Check, upload, name, declare."""
    require_name(words.name)
    _require_text(words)
    before = load_dataset(words.name, root=places.root) if is_declared(words.name, root=places.root) else None
    draft = _draft(words, before)
    if not os.access(places.root / "datasets", os.W_OK):
        raise MachineError(
            f"{places.root / 'datasets'} cannot be written",
            hint="publish from a checkout: scripts/reprise data publish",
        )
    progress = transfer_progress("publishing")
    source = SourceFolder(
        root=words.folder, has_hidden=words.include_hidden, inspect=inspector(words.folder, progress.note)
    )
    published = publish_dataset(draft, source=source, store=places.open(), declared=before, progress=progress)
    if published.dataset != before:
        write_whole(declaration(words.name, root=places.root), declared(published.dataset).encode())
    _tell(words, published)
    return 0


def _require_text(words: Namespace) -> None:
    """Raise `UsageError` for a word of bytes that are not UTF-8: a declaration is text."""
    for option, value in vars(words).items():
        for word in value if isinstance(value, list) else [value]:
            data = os.fsencode(word) if isinstance(word, str) else b""
            shown = data.decode(errors="backslashreplace")
            if data and shown != word:
                hint = "type it in a terminal with a UTF-8 locale, as LANG=C.UTF-8"
                raise UsageError(f"--{option.replace('_', '-')} '{short(shown)}' is not UTF-8", hint=hint)


def publish_samples(words: Namespace, places: Places) -> int:
    """Make the sample datasets, and publish them as they are declared."""
    try:
        from trainer.data.sample_datasets import SAMPLES, make_sample
    except ImportError as fault:
        hint = "docker compose run --rm samples, or install the lock's extra `samples`"
        raise MachineError(
            f"the sample datasets are made from packages that are not installed here: {fault.name}", hint=hint
        ) from fault
    if unknown := next((name for name in words.names if name not in SAMPLES), None):
        raise DatasetError(f"no sample dataset is called {unknown!r}", hint=f"known: {', '.join(SAMPLES)}")
    for name in words.names or SAMPLES:
        dataset = load_dataset(name, root=places.root)
        with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
            make_sample(name, Path(folder))
            _tell(words, publish_declared(dataset, source=SourceFolder(root=Path(folder)), store=places.open()))
    return 0


def _draft(words: Namespace, before: Dataset | None) -> Draft:
    said: dict[str, Any] = {} if before is None else before.model_dump(include=set(_SAID))
    said |= {key: getattr(words, key) for key in ("license", "source") if getattr(words, key)}
    if words.split:
        said["splits"] = _once(words.split, partial(parse_split, seed=words.split_seed or 0))
    if words.split_seed is not None and not any(word.endswith("%") for word in words.split or ()):
        raise UsageError("--split-seed has no effect without a part in %", hint="as --split train=0%:80%")
    if words.sample:
        said["sample"] = _once(words.sample, _typed)
    if words.allow_nan:
        said["allow_nan"] = words.allow_nan
    if reader := _reader(words):
        said["reader"] = reader
    return typed({"name": words.name, **said}, Draft, where="command line")


def _once(typed_words: list[str], parse: Callable[[str], tuple[str, T]]) -> dict[str, T]:
    """Parse words that name something each. Raises `UsageError` if one name is given twice."""
    found: dict[str, T] = {}
    for word in typed_words:
        name, value = parse(word)
        if name in found:
            raise UsageError(
                f"{short(name)!r} is given twice: {short(word)!r} is the second", hint="remove one of them"
            )
        found[name] = value
    return found


def _require_reader(words: Namespace) -> None:
    """Raise `UsageError` for an option of a reader that is not chosen: it would have no effect."""
    for option, reader in _OF_READER.items():
        if getattr(words, option) not in {None, False} and not getattr(words, reader):
            raise UsageError(f"--{option} has no effect without --{reader}", hint=f"give --{reader} as well")


def _reader(words: Namespace) -> dict[str, Any] | None:
    _require_reader(words)
    chosen = [kind for kind in ("array", "images", "column", "lines", "text") if getattr(words, kind)]
    if len(chosen) > 1:
        raise UsageError(
            f"--{chosen[0]} and --{chosen[1]} are two readers; a dataset has one", hint="publish two datasets"
        )
    match chosen:
        case ["array"]:
            return {"kind": "arrays", "fields": _once(words.array, partial(_array, folder=words.folder))}
        case ["images"]:
            return parse_images(words)
        case ["column"]:
            return {"kind": "table", "files": _tables(words), "fields": _once(words.column, _column)}
        case ["lines"]:
            return {"kind": "lines", "file": _one_or_more(words, "lines")}
        case ["text"]:
            if words.window is None:
                raise UsageError("--text needs --window", hint="how many bytes a sample has, as --window 128")
            return {
                "kind": "text",
                "file": _one_or_more(words, "text"),
                "window": words.window,
                "stride": words.stride,
            }
        case _ if words.table:
            raise UsageError(
                f"--table {words.table[0]} needs --column", hint="which columns a sample has, as --column y=price"
            )
        case _:
            return None


def _tables(words: Namespace) -> list[str]:
    """The Parquet files that are named, or all of the folder."""
    if words.table:
        return _distinct(words, "table")
    paths = SourceFolder(root=words.folder, has_hidden=words.include_hidden).paths()
    if found := [path for path in paths if path.endswith(".parquet")]:
        return found
    text = next((path for path in paths if path.endswith((".csv", ".tsv"))), None)
    hint = f"{text} is text: write it as Parquet, as pandas.read_csv(..).to_parquet(..) does" if text else None
    raise DatasetError(f"{words.folder} has no .parquet file, from which --column is read", hint=hint)


def _column(word: str) -> tuple[str, dict[str, Any]]:
    field, said = _pair(word, "FIELD=COLUMN")
    columns, _, dtype = said.partition(":")
    names = columns.split(",")
    return field, {"column": names[0] if len(names) == 1 else names, **({"dtype": dtype} if dtype else {})}


def _typed(word: str) -> tuple[str, dict[str, Any]]:
    field, said = _pair(word, "FIELD=TYPE[SHAPE]")
    found = re.fullmatch(r"(\w+)(?:\[((?:any|\d+)(?:,(?:any|\d+))*)?\])?", said)
    if found is None:
        raise UsageError(
            f"expected FIELD=TYPE[SHAPE], found {word!r}", hint="as image=float32[1,8,8] or text=uint8[any]"
        )
    shape = [part if part == "any" else int(part) for part in (found[2] or "").split(",") if part]
    return field, {"dtype": found[1], "shape": shape}


def _array(word: str, *, folder: Path) -> tuple[str, str]:
    field, file = _pair(word, "FIELD=FILE")
    return field, inner_path(file, folder=folder, before=f"--array {field}=")


def _one_or_more(words: Namespace, option: str) -> str | list[str]:
    files = _distinct(words, option)
    return files[0] if len(files) == 1 else files


def _distinct(words: Namespace, option: str) -> list[str]:
    """Files that are named once each: one that is named twice would count twice."""
    files = [inner_path(word, folder=words.folder, before=f"--{option} ") for word in getattr(words, option)]
    if twice := next((file for at, file in enumerate(files) if file in files[:at]), None):
        raise UsageError(f"--{option} {short(twice)} is given twice", hint="remove one of them")
    return files


def _tell(words: Namespace, published: Published) -> None:
    dataset = published.dataset
    if words.json:
        result = {**dataset.model_dump(mode="json"), "is_new": published.is_new, "uploaded": published.uploaded}
        print(json.dumps({**result, **asdict(published.findings)}))
        return
    what = "published" if published.is_new else "already published, nothing changed"
    whole = f"{counted(dataset.files, 'file')}, {readable(dataset.bytes)}"
    rest = dataset.bytes - published.uploaded
    kept = f"; {readable(rest)} are twice in it, or were in the store" if published.uploaded and rest else ""
    print(f"{dataset.title}: {what}; {whole}; {readable(published.uploaded)} uploaded{kept}")
    for line in class_table(published.findings.classes):
        print(line)
