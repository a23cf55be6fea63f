"""A table in one file: detect its format, scan its columns, and plan how each column is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from trainer.base.errors import DatasetError, UsageError
from trainer.data.tables.arrow_rows import arrow_blocks, arrow_columns
from trainer.data.tables.cells import MISSING
from trainer.data.tables.column_scan import scan_columns
from trainer.data.tables.column_types import NumberFormat, number_format
from trainer.data.tables.dialect import DialectOptions, detect_dialect
from trainer.data.tables.json_rows import json_blocks, json_columns
from trainer.data.tables.plan import PlanOptions, TablePlan, plan_table
from trainer.data.tables.source_table import FORMATS, SourceTable
from trainer.data.tables.text_rows import Dialect, header_of, text_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.data.reader import TableReader
    from trainer.data.tables.source_table import Format
    from trainer.data.tables.text_rows import TextBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """The user's declarations about a table; other properties are taken from the earlier version, or else are detected."""

    dialect: DialectOptions = field(default_factory=DialectOptions)
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    nulls: tuple[str, ...] = ()
    """Further spellings of a missing value."""
    values: tuple[str, ...] = ()
    """Usual spellings of a missing value that are values in this table."""
    plan: PlanOptions = field(default_factory=PlanOptions)


def plan_file(
    path: Path, options: TableOptions, *, before: tuple[SourceTable, TableReader] | None = None
) -> tuple[SourceTable, TablePlan]:
    """Scan a file and return how its rows are read, and the plan for its columns; `before` is the earlier version.

    Raise `DatasetError` with the line if the file is invalid or ambiguous, `UsageError` if an option does not fit the file.
    """
    try:
        return _planned(path, options, before)
    except OSError as fault:
        raise DatasetError(
            f"{path} cannot be read: {fault.strerror}", hint="make it readable: chmod +r FILE"
        ) from fault


def _planned(
    path: Path, options: TableOptions, before: tuple[SourceTable, TableReader] | None
) -> tuple[SourceTable, TablePlan]:
    earlier, kind = before[0] if before else None, FORMATS[path.suffix.lower()]
    dialect, names, texts = _opened(path, kind, options, earlier)
    values = tuple(sorted({*options.values, *(earlier.values if earlier else ())} - {*options.nulls}))
    kept = {each.strip().lower() for each in values}
    nulls = {each.strip() for each in (*options.nulls, *_earlier_nulls(earlier, kind))}
    declared = frozenset(each.lower() for each in nulls) - kept
    scans = scan_columns(
        names, _blocks(path, kind, dialect, names), missing=(MISSING - kept) | declared, declared=declared, texts=texts
    )
    if not scans[0].rows:
        raise DatasetError(f"{path.name} has no rows below its header", hint="publish a file with rows")
    numbers = (
        NumberFormat()
        if dialect is None
        else number_format(
            [scan for scan in scans if options.plan.reads.get(scan.name) not in {"skip", "category"}],
            file=path.name,
            delimiter=dialect.delimiter,
            decimal=options.decimal or (earlier.decimal if earlier else None),
            thousands=options.thousands if options.thousands is not None else earlier.thousands if earlier else None,
        )
    )
    plan = plan_table(scans, file=path.name, numbers=numbers, options=options.plan, before=before)
    source = SourceTable(
        file=path.name,
        format=kind,
        **({} if dialect is None else asdict(dialect)),
        decimal=numbers.decimal,
        thousands=numbers.thousands,
        missing=tuple(
            sorted(
                each
                for each in {*nulls, *(each for scan in scans for each in scan.spellings)}
                if each.lower() not in kept
            )
        ),
        values=values,
        columns={each.scan.name: each.source for each in plan.columns},
    )
    return source, plan


def _earlier_nulls(earlier: SourceTable | None, kind: Format) -> tuple[str, ...]:
    """Return the spellings of a missing value that an earlier version declares.

    The usual spellings that a CSV file contained are values in the text of a format with types.
    """
    if earlier is None:
        return ()
    is_found = earlier.format == "csv" and kind != "csv"
    return tuple(each for each in earlier.missing if not (is_found and each.lower() in MISSING))


def _with_earlier(options: DialectOptions, earlier: SourceTable | None) -> DialectOptions:
    if earlier is None:
        return options
    return DialectOptions(
        encoding=options.encoding or earlier.encoding,
        delimiter=options.delimiter or earlier.delimiter,
        quote=earlier.quote if options.quote is None else options.quote,
        header=earlier.header if options.header is None else options.header,
    )


def _opened(
    path: Path, kind: Format, options: TableOptions, earlier: SourceTable | None
) -> tuple[Dialect | None, list[str], frozenset[str] | None]:
    """Return the dialect of a CSV file, the names of the columns, and, if the format has types, the names of the text columns."""
    if kind == "csv":
        dialect = detect_dialect(path, _with_earlier(options.dialect, earlier))
        return dialect, header_of(path, dialect), None
    given = {**asdict(options.dialect), "decimal": options.decimal, "thousands": options.thousands}
    if option := next((name for name, value in given.items() if value is not None), None):
        raise UsageError(f"--{option} is for CSV; {path.name} is read as {kind}", hint=f"remove --{option}")
    return None, *(json_columns(path) if kind == "json-lines" else arrow_columns(path))


def _blocks(path: Path, kind: Format, dialect: Dialect | None, names: list[str]) -> Iterator[TextBlock]:
    if dialect is not None:
        return text_blocks(path, dialect, columns=len(names))
    return json_blocks(path, names) if kind == "json-lines" else arrow_blocks(path)


def columns_of(path: Path, source: SourceTable) -> list[str]:
    """Return the column names of another file of the same format. Raise `DatasetError` if its suffix is that of another format."""
    kind = FORMATS.get(path.suffix.lower())
    if kind != source.format:
        suffixes = [suffix for suffix, each in FORMATS.items() if each == source.format]
        raise DatasetError(
            f"{path.name}: expected a file like {source.file}",
            hint=f"use a file whose name ends in {' or '.join(suffixes)}",
        )
    return _opened(path, kind, TableOptions(), source)[1]


def blocks_of(path: Path, source: SourceTable) -> Iterator[TextBlock]:
    """Yield the rows of a file in its declared format. Raise `DatasetError` with the line if a row is invalid."""
    dialect = Dialect(encoding=source.encoding, delimiter=source.delimiter, quote=source.quote, header=source.header)
    return _blocks(path, source.format, dialect if source.format == "csv" else None, list(source.columns))
