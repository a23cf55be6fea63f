"""`reprise data publish NAME FILE`: publish a table in one file, after the user confirmed how its columns are read."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentTypeError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import typed
from trainer.base.errors import UsageError
from trainer.base.suggestions import counted, did_you_mean, short
from trainer.cli.data.prepare_table import prepare_table
from trainer.cli.data.publish_options import parse_distinct, parse_pair
from trainer.cli.formatting import columns as aligned
from trainer.data.declaration import Draft
from trainer.data.reader import TableReader
from trainer.data.tables.dialect import DialectOptions
from trainer.data.tables.plan import PlanOptions, TablePlan
from trainer.data.tables.source_table import FORMATS, SourceTable
from trainer.data.tables.table_file import TableOptions, plan_file
from trainer.data.tables.value_notes import (
    describe_padding,
    describe_rounding,
    describe_similar,
    describe_spellings,
    describe_years,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from trainer.cli.arguments import Verb
    from trainer.data.declaration import Dataset
    from trainer.data.reader import Reader

_READ: Final = ("number", "category", "date", "skip")
_MISSING: Final = ("reject", "mean", "median", "indicator", "category")
_DELIMITERS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", r"\t": "\t", "pipe": "|", "space": " "}
_TABLE_OPTIONS: Final = (
    "target",
    "read",
    "missing",
    "unknown",
    "delimiter",
    "quote",
    "encoding",
    "header",
    "decimal",
    "thousands",
    "null",
    "value",
)
_FOLDER_OPTIONS: Final = (
    *(
        "array",
        "images",
        "column",
        "table",
        "lines",
        "text",
        "sample",
        "size",
        "resize",
        "fill",
        "mode",
        "pixels",
        "white",
    ),
    *("alpha", "frames", "labels", "window", "stride", "include_hidden"),
    *("tokenizer", "end_token", "pad_token", "long_lines"),
)
DEFAULT_SPLITS: Final = {"train": (0, 80), "val": (80, 90), "test": (90, 100)}


def add_table_options(parser: Verb) -> None:
    """Declare the options of a table that is one file."""
    add = parser.add_argument_group(
        "options for a table in one file (CSV, TSV, JSON lines, Parquet, Arrow)"
    ).add_argument
    add(
        "--target",
        metavar="COLUMN",
        help="the column to predict: a class if its values are text, dates or at most 20 distinct integers, else a number",
    )
    add(
        "--read",
        metavar="COLUMN=KIND",
        action="append",
        help="read COLUMN as number, category or date (date:FORMAT for dates that are not YYYY-MM-DD), or skip it; repeatable",
    )
    add(
        "--missing",
        metavar="COLUMN=TREATMENT",
        action="append",
        help="how missing values of COLUMN are treated: reject; mean or median of the training split; indicator: the mean, and an "
        "additional feature that is 1 if the value is missing; category: the code 0 (default: mean for numbers, category for "
        "categories, reject for the target); repeatable",
    )
    add(
        "--unknown",
        metavar="COLUMN",
        action="append",
        help="give values that are not declared categories of COLUMN the code 1 (default: reject them); repeatable",
    )
    add(
        "--delimiter",
        metavar="CHARACTER",
        type=_delimiter,
        help="column separator: comma, semicolon, tab, pipe, space or any other character (default: detected)",
    )
    add(
        "--quote",
        metavar="CHARACTER",
        type=_quote,
        help='quote character, or `none` if values are not quoted (default: ")',
    )
    add(
        "--encoding",
        metavar="NAME",
        help="encoding of the file, for example cp1252 (default: the encoding of its byte order mark, else UTF-8)",
    )
    add("--header", choices=("yes", "no"), help="whether line 1 contains column names (default: detected)")
    add("--decimal", metavar="CHARACTER", choices=(".", ","), help="the decimal sign, `.` or `,` (default: detected)")
    add("--thousands", metavar="CHARACTER", help="thousands separator (default: numbers have no separator)")
    add("--null", metavar="TEXT", action="append", help="another spelling of a missing value; repeatable")
    add(
        "--value",
        metavar="TEXT",
        action="append",
        help="read TEXT as a value, although it usually means a missing value, for example NA; repeatable",
    )
    add("--yes", action="store_true", help="publish without asking for confirmation of how the columns are read")


def _delimiter(word: str) -> str:
    delimiter = _DELIMITERS.get(word, word)
    if len(delimiter) != 1:
        raise ArgumentTypeError(f"expected one character, or one of {', '.join(_DELIMITERS)}; found {word!r}")
    return delimiter


def _quote(word: str) -> str:
    if word != "none" and len(word) != 1:
        raise ArgumentTypeError(f"expected one character or `none`, found {word!r}")
    return "" if word == "none" else word


def is_table_file(path: Path) -> bool:
    """Return whether a path is a file that is published as a table."""
    return path.suffix.lower() in FORMATS and path.is_file()


def require_no_table_options(args: Namespace) -> None:
    """Raise `UsageError` for an option that has an effect only on a table in one file."""
    if option := next((name for name in _TABLE_OPTIONS if getattr(args, name) is not None), None):
        known = ", ".join(FORMATS)
        raise UsageError(
            f"--{option} needs a table in one file ({known}); found {args.folder}",
            hint=f"remove --{option}, or publish a file",
        )


@contextmanager
def table_folder(
    args: Namespace, values: dict[str, Any], before: Dataset | None, note: Callable[[str], None]
) -> Iterator[tuple[Path, Draft]]:
    """Read a table, let the user confirm how its columns are read, and yield a temporary folder with its Parquet file and the draft.

    Raise `UsageError` for an option that is for folders, and if the user does not confirm.
    """
    if option := next((name for name in _FOLDER_OPTIONS if getattr(args, name)), None):
        hint = "--read COLUMN=KIND declares how its columns are read"
        raise UsageError(
            f"--{option.replace('_', '-')} is for a folder of files; {args.folder} is a table in one file", hint=hint
        )
    path: Path = args.folder
    source, plan = _planned(args, path, before)
    file = f"{args.name}.parquet"
    values |= {"reader": plan.reader(file), "source_table": source}
    if before is None and not args.split:
        note(f"{args.name}: no splits are declared; train, val and test get about 80, 10 and 10 % of the rows")
    draft = typed({"name": args.name, **values}, Draft, where="command line")
    for describe in (describe_padding, describe_similar, describe_spellings, describe_years, describe_rounding):
        for line in describe(plan, dataset=args.name):
            note(line)
    is_known = before is not None and _without_fills(before.reader) == draft.reader and before.source_table == source
    _confirm(args, source, plan, is_known=is_known)
    with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
        yield Path(folder), prepare_table(draft, path.resolve(), Path(folder))


def _without_fills(reader: Reader) -> Reader:
    """Return a published reader as it was planned: without the values that replace missing values."""
    if not isinstance(reader, TableReader):
        return reader
    columns = {name: each.model_copy(update={"fill": None}) for name, each in reader.columns.items()}
    return reader.model_copy(update={"columns": columns})


def _planned(args: Namespace, path: Path, before: Dataset | None) -> tuple[SourceTable, TablePlan]:
    options = TableOptions(
        dialect=DialectOptions(
            encoding=args.encoding,
            delimiter=args.delimiter,
            quote=args.quote,
            header=None if args.header is None else args.header == "yes",
        ),
        decimal=args.decimal,
        thousands=args.thousands,
        nulls=tuple(args.null or ()),
        values=tuple(args.value or ()),
        plan=_plan_options(args),
    )
    earlier = before.source_table if before else None
    tables = (earlier, before.reader) if before and earlier and isinstance(before.reader, TableReader) else None
    return plan_file(path, options, before=tables)


def _plan_options(args: Namespace) -> PlanOptions:
    return PlanOptions(
        target=args.target,
        reads=_choices(args.read, "COLUMN=KIND", _READ, option="--read"),
        missing=_choices(args.missing, "COLUMN=TREATMENT", _MISSING, option="--missing"),  # type: ignore[arg-type]
        unknown=frozenset(args.unknown or ()),
        classes=tuple(args.classes.split(",")) if args.classes else (),
    )


def _choices(words: Sequence[str] | None, form: str, known: Sequence[str], *, option: str) -> dict[str, str]:
    choices = parse_distinct(list(words or ()), lambda word: parse_pair(word, form, option=option))
    for name, value in choices.items():
        if value.partition(":")[0] not in known:
            raise UsageError(
                f"{option} {short(name)}: expected one of {', '.join(known)}, found {short(value)!r}",
                hint=did_you_mean(value, known),
            )
        if ":" in value and not value.startswith("date:"):
            raise UsageError(
                f"{option} {short(name)}={short(value)}: only a date has a format",
                hint=f"{option} '{name}={value.partition(':')[0]}'",
            )
    return choices


def _confirm(args: Namespace, source: SourceTable, plan: TablePlan, *, is_known: bool) -> None:
    """Print how the table is read, and ask for confirmation, unless `--yes` is set or the earlier version was read in the same way.

    Raise `UsageError` if the user does not confirm, or if there is no terminal to ask on.
    """
    print("\n".join(_description(source, plan)), file=sys.stderr, flush=True)
    if args.yes or is_known:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{source.file} was not published: how its columns are read was not confirmed",
            hint="check the table above, then run the command with --yes",
        )
    print("Publish the table as shown? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError(
            f"{source.file} was not published",
            hint="--read COLUMN=KIND changes how a column is read; see `reprise data publish --help`",
        )


_SHOWN: Final = 20


def _description(source: SourceTable, plan: TablePlan) -> list[str]:
    rows = plan.columns[0].scan.rows
    names = {value: name for name, value in _DELIMITERS.items() if name != r"\t"}
    facts = [source.encoding, f"{names.get(source.delimiter, source.delimiter)}-separated"] if source.delimiter else []
    facts += ["header in line 1" if source.header else "no header"]
    facts += [f"decimal {'comma' if source.decimal == ',' else 'point'}"]
    facts += [f"thousands {source.thousands!r}"] if source.thousands else []
    lines = [f"{source.file}: {counted(rows, 'row')}; {', '.join(facts)}"]
    cells = [("COLUMN", "TYPE", "MISSING", "EXAMPLES", "READ AS"), *map(_row, plan.columns)]
    return [*lines, *(f"  {line}" for line in aligned(cells))]


def _row(planned: Any) -> tuple[str, str, str, str, str]:
    scan, source, treatment = planned.scan, planned.source, planned.treatment
    spellings = ", ".join(repr(each) for each in sorted(scan.spellings) if each)
    missing = f"{scan.gaps:,}{f' ({spellings})' if spellings else ''}" if scan.gaps else "0"
    read = f"{source.read}{f' ({planned.reason})' if planned.reason else ''}"
    if treatment and treatment.values:
        read += f" of {len(treatment.values):,} values"
        read += (
            f": {', '.join(f'{number} {value}' for number, value in enumerate(treatment.values))}"
            if source.read == "class" and len(treatment.values) <= _SHOWN
            else ""
        )
    if treatment and scan.gaps:
        read += f", missing: {treatment.missing}"
    return short(scan.name), source.type, missing, ", ".join(each[:_SHOWN] for each in scan.examples), read
