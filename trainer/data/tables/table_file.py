"""A table in one file: detect how it is read, scan its columns, and plan what they become."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainer.data.tables.cells import MISSING
from trainer.data.tables.column_scan import scan_columns
from trainer.data.tables.column_types import number_format
from trainer.data.tables.dialect import DialectOptions, detect_dialect
from trainer.data.tables.plan import PlanOptions, TablePlan, plan_table
from trainer.data.tables.source_table import FORMATS, SourceTable
from trainer.data.tables.text_rows import Dialect, header_of, text_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.data.reader import Table
    from trainer.data.tables.text_rows import TextBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """What the user declares about a table; everything else is as in the earlier version, else detected."""

    dialect: DialectOptions = field(default_factory=DialectOptions)
    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    nulls: tuple[str, ...] = ()
    """Further spellings of a missing value."""
    plan: PlanOptions = field(default_factory=PlanOptions)


def plan_file(
    path: Path, options: TableOptions, *, before: tuple[SourceTable, Table] | None = None
) -> tuple[SourceTable, TablePlan]:
    """Read a file once and return how it is read, and its plan; `before` is the earlier version.

    Raises `DatasetError` with the line and the option that decides what is unclear.
    """
    earlier = before[0] if before else None
    dialect = detect_dialect(path, _with_earlier(options.dialect, earlier))
    names = header_of(path, dialect)
    nulls = (*options.nulls, *(earlier.missing if earlier else ()))
    missing = frozenset({*MISSING, *(each.strip().lower() for each in nulls)})
    scans = scan_columns(names, text_blocks(path, dialect, columns=len(names)), missing=missing)
    numbers = number_format(
        [scan for scan in scans if options.plan.reads.get(scan.name) not in {"skip", "category"}],
        file=path.name,
        delimiter=dialect.delimiter,
        decimal=options.decimal or (earlier.decimal if earlier else None),
        thousands=options.thousands if options.thousands is not None else earlier.thousands if earlier else None,
    )
    plan = plan_table(scans, file=path.name, numbers=numbers, options=options.plan, before=before)
    source = SourceTable(
        file=path.name,
        format=FORMATS[path.suffix.lower()],
        encoding=dialect.encoding,
        delimiter=dialect.delimiter,
        quote=dialect.quote,
        header=dialect.header,
        decimal=numbers.decimal,
        thousands=numbers.thousands,
        missing=tuple(
            sorted({*(earlier.missing if earlier else ()), *(each for scan in scans for each in scan.spellings)})
        ),
        columns={each.scan.name: each.source for each in plan.columns},
    )
    return source, plan


def _with_earlier(options: DialectOptions, earlier: SourceTable | None) -> DialectOptions:
    if earlier is None:
        return options
    return DialectOptions(
        encoding=options.encoding or earlier.encoding,
        delimiter=options.delimiter or earlier.delimiter,
        quote=earlier.quote if options.quote is None else options.quote,
        header=earlier.header if options.header is None else options.header,
    )


def blocks_of(path: Path, source: SourceTable) -> Iterator[TextBlock]:
    """Yield the rows of a file as it is declared. Raises `DatasetError` with the line."""
    dialect = Dialect(encoding=source.encoding, delimiter=source.delimiter, quote=source.quote, header=source.header)
    return text_blocks(path, dialect, columns=len(source.columns))
