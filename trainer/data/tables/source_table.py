"""The section `[source_table]` of a declaration: the format of the original file, and the type and use of each column."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from trainer.base.document import Document

Format = Literal["csv", "json-lines", "parquet", "arrow"]
ColumnType = Literal["whole", "number", "text", "date", "empty"]
"""The type of the values of a column: whole numbers, numbers, text, ISO dates, or only missing values."""
ReadAs = Literal["number", "category", "date", "class", "target", "left out"]
"""The use of a column: a feature, a category, days since 1970-01-01, the class to predict, the number to predict, or no use."""
Missing = Literal["reject", "mean", "median", "indicator", "category"]

FORMATS: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "json-lines",
    ".ndjson": "json-lines",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"""The format of a file by its suffix, in lower case."""


class SourceColumn(Document):
    """A column of the published file."""

    type: ColumnType
    read: ReadAs
    date: str = Field(default="", exclude_if=lambda value: not value)
    """The format of dates that are not ISO dates, as for Python's `strptime`."""
    zoned: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    """Whether ISO dates that are read have a time zone; `None` for other columns, and if it was not recorded."""


class SourceTable(Document):
    """How a file was read when it was published; a new version is read in the same way unless options change it."""

    file: str
    """The name of the file."""
    format: Format
    encoding: str = "utf-8"
    delimiter: str = Field(default="", exclude_if=lambda value: not value)
    quote: str = Field(default="", exclude_if=lambda value: not value)
    header: bool = True
    decimal: Literal[".", ","] = "."
    thousands: str = Field(default="", exclude_if=lambda value: not value)
    """The thousands separator; empty if numbers have none."""
    missing: tuple[str, ...] = ()
    """The spellings of a missing value that the user declared or that the file contains."""
    values: tuple[str, ...] = Field(default=(), exclude_if=lambda values: not values)
    """Usual spellings of a missing value that are values in this table, such as `NA` for Namibia."""
    columns: Annotated[dict[str, SourceColumn], Field(min_length=1)]
    """The columns, in the order of the file."""
