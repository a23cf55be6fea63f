"""Plan how a scanned table is published. The use of a column follows from the options, else the earlier version, else its values."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError, UsageError
from trainer.base.suggestions import did_you_mean, listed, short
from trainer.data.reader import TableField, TableReader, Treatment
from trainer.data.tables.column_types import NumberFormat, column_type, require_readable_text
from trainer.data.tables.source_table import SourceColumn, SourceTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.data.tables.column_scan import ColumnScan
    from trainer.data.tables.source_table import ColumnType, Missing, ReadAs

MOST_CATEGORIES: Final = 1000
"""Maximum number of distinct values of a text column that is read as a category by default."""
MOST_CLASSES: Final = 20
"""Maximum number of distinct integers of a target that is read as a class by default."""
_ID: Final = re.compile(r"(?:.*[_ .-])?(?:id|Id|ID)|.*[a-z]I[dD]", re.ASCII)
_INDEX: Final = re.compile(r"__index_level_\d+__|Unnamed: \d+", re.ASCII)
"""Names that pandas gives to unnamed columns."""
_READ: Final[dict[str, ReadAs]] = {"number": "number", "category": "category", "date": "date", "skip": "left out"}
_TARGET: Final[dict[str, ReadAs]] = {"number": "target", "category": "class"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The user's declarations about columns."""

    target: str | None = None
    reads: Mapping[str, str] = field(default_factory=dict)
    """`number`, `category`, `date`, `date:FORMAT` or `skip`, by column."""
    missing: Mapping[str, Missing] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    """Columns in which an unknown value has a code."""
    classes: tuple[str, ...] = ()
    """The classes of the target, in the order of their codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedColumn:
    """A column, its use, and the reason for the use."""

    scan: ColumnScan
    source: SourceColumn
    treatment: Treatment | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """The use of each column of a table."""

    columns: tuple[PlannedColumn, ...]
    numbers: NumberFormat

    def reader(self, file: str) -> TableReader:
        """Return the reader of the published file. Raise `DatasetError` if no column is read."""
        fields = dict(self._fields())
        if not fields:
            raise DatasetError(
                f"no column of {file} is read", hint="declare a column, for example --read COLUMN=category"
            )
        treated = {each.scan.name: each.treatment for each in self.columns if each.treatment is not None}
        return TableReader(kind="table", files=(file,), fields=fields, columns=treated)

    def _fields(self) -> Iterator[tuple[str, TableField]]:
        for name, kinds, dtype in (("features", {"number", "date"}, "float32"), ("categories", {"category"}, "int64")):
            if names := tuple(each.scan.name for each in self.columns if each.source.read in kinds):
                yield name, TableField.model_validate({"column": names, "dtype": dtype})
        for each in self.columns:
            if each.source.read in {"class", "target"}:
                is_class = each.source.read == "class"
                label = TableField(column=each.scan.name, dtype="int64" if is_class else "float32")
                yield "label" if is_class else "target", label


def plan_table(
    scans: Sequence[ColumnScan],
    *,
    file: str,
    numbers: NumberFormat,
    options: PlanOptions,
    before: tuple[SourceTable, TableReader] | None = None,
) -> TablePlan:
    """Plan all columns; `before` is the earlier version.

    Raise `DatasetError` with the line and the column if a value does not fit, `UsageError` if an option does not fit the columns.
    """
    _require_known(scans, options, file)
    planner = _Planner(file=file, numbers=numbers, options=options, before=before)
    return TablePlan(columns=tuple(map(planner.plan, scans)), numbers=numbers)


def _require_known(scans: Sequence[ColumnScan], options: PlanOptions, file: str) -> None:
    known = [scan.name for scan in scans]
    given = [*([options.target] if options.target else []), *options.reads, *options.missing, *options.unknown]
    if unknown := next((name for name in given if name not in known), None):
        raise UsageError(f"{file} has no column {short(unknown)!r}", hint=did_you_mean(unknown, known))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    file: str
    numbers: NumberFormat
    options: PlanOptions
    before: tuple[SourceTable, TableReader] | None

    def plan(self, scan: ColumnScan) -> PlannedColumn:
        name = scan.name
        declared, form = self._declared(name)
        if declared == "left out":
            kind: ColumnType = "text" if scan.kinds else "empty"
            return PlannedColumn(scan=scan, source=SourceColumn(type=kind, read="left out"), reason="as declared")
        require_readable_text(scan, file=self.file)
        if declared in {"category", "class"}:
            kind = "whole" if scan.kinds.keys() == {"whole"} else "text"
        elif declared == "date" and form:
            kind = "date"
            _require_portable(form, name)
        else:
            choices = f"--read '{name}=category', or --read '{name}=skip'"
            is_number = declared in {"number", "target"}
            kind = column_type(scan, self.numbers, file=self.file, options=choices, is_number=is_number)
        self._require_possible(scan, kind, declared)
        read, reason = (declared, "as declared") if declared else self._choose(scan, kind)
        if read in {"number", "target"} and scan.rounded and not scan.has_fractions:
            kind = self._rounded(scan)
        zoned = self._zoned(scan) if read == "date" and not form else None
        source = SourceColumn(type=kind, read=read, date=form if read == "date" else "", zoned=zoned)
        return PlannedColumn(scan=scan, source=source, treatment=self._treatment(scan, kind, read), reason=reason)

    def _declared(self, name: str) -> tuple[ReadAs | None, str]:
        """Return the use of a column that the options or else the earlier version declare, and the format of its dates."""
        word, _, form = self.options.reads.get(name, "").partition(":")
        earlier = self.before[0].columns.get(name) if self.before else None
        if name == self._target:
            return (_TARGET.get(word) or (earlier.read if earlier and earlier.read in _TARGET.values() else None)), ""
        if word:
            return _READ[word], form
        if earlier is None or earlier.read in _TARGET.values():
            return None, ""
        return earlier.read, earlier.date

    @property
    def _target(self) -> str | None:
        if self.options.target or self.before is None:
            return self.options.target
        columns = self.before[0].columns
        return next((name for name, column in columns.items() if column.read in _TARGET.values()), None)

    def _rounded(self, scan: ColumnScan) -> ColumnType:
        """Return the type of whole numbers that float32 rounds. Raise `DatasetError` unless the column is declared as a number."""
        earlier = self.before[0].columns.get(scan.name) if self.before else None
        if self.options.reads.get(scan.name) == "number" or (earlier and earlier.type == "number"):
            return "number"
        assert scan.rounded is not None  # noqa: S101 - the caller has checked it
        where = f"{self.file}, {scan.at(scan.rounded.line)}"
        message = f"{where}: {short(scan.rounded.value)} is rounded in a feature (float32); an identifier or a date must not be rounded"
        others = (
            "" if scan.name == self._target else f"; else --read '{scan.name}=skip', or --read '{scan.name}=category'"
        )
        raise DatasetError(message, hint=f"--read '{scan.name}=number' if 24 bits of precision are enough{others}")

    def _zoned(self, scan: ColumnScan) -> bool | None:
        """Return whether ISO dates have a time zone; `None` if the earlier version does not state it.

        Raise `DatasetError` if the earlier version's dates differ in that.
        """
        earlier = self.before[0].columns.get(scan.name) if self.before else None
        known = earlier.zoned if earlier else None
        if not scan.kinds or (earlier and earlier.read == "date" and known is None):
            return known
        zoned = "zoned" in scan.kinds
        if known is not None and known != zoned:
            found = scan.kinds["zoned" if zoned else "date"]
            has, had = ("a", "no") if zoned else ("no", "a")
            where = f"{self.file}, {scan.at(found.line)}"
            message = f"{where}: {found.value!r} has {has} time zone; the earlier version's dates have {had} time zone"
            hint = f"write the dates as in the earlier version; or --read '{scan.name}=skip'; or publish under another name"
            raise DatasetError(message, hint=hint)
        return zoned

    def _require_possible(self, scan: ColumnScan, kind: ColumnType, declared: ReadAs | None) -> None:
        if declared in {"number", "target"} and kind not in {"whole", "number", "empty"}:
            odd = next(iter(scan.kinds.values()))
            message = f"{self.file}, {scan.at(odd.line)}: expected a number, found {short(odd.value)!r}"
            raise DatasetError(message, hint=f"--read '{scan.name}=category', or --read '{scan.name}=skip'")
        if declared == "date" and kind not in {"date", "empty"}:
            odd = next((each for name, each in scan.kinds.items() if name != "date"), next(iter(scan.kinds.values())))
            message = f"{self.file}, {scan.at(odd.line)}: expected a date, found {short(odd.value)!r}"
            raise DatasetError(message, hint=f"declare its format, for example --read '{scan.name}=date:%d.%m.%Y'")

    def _choose(self, scan: ColumnScan, kind: ColumnType) -> tuple[ReadAs, str]:
        """Return the use of a column that follows from its values, and the reason if it does not follow from the column's type."""
        if scan.name == self._target:
            values = scan.values
            is_class = kind in {"text", "date"} or (
                kind == "whole" and values is not None and len(values) <= MOST_CLASSES
            )
            return ("class" if is_class else "target"), ""
        if reason := _reason_to_leave_out(scan, kind):
            return "left out", reason
        return ("category" if kind == "text" else "number"), ""

    def _treatment(self, scan: ColumnScan, kind: ColumnType, read: ReadAs) -> Treatment | None:
        if read == "left out":
            return None
        earlier = self.before[1].columns.get(scan.name) if self.before else None
        missing = self._missing(scan, read, earlier)
        if read in {"category", "class"}:
            return Treatment(
                values=self._values(scan, kind, read, earlier),
                first=0 if read == "class" else 2,
                missing=missing,
                unknown="category" if self._admits_unknown(scan.name, read, earlier) else "reject",
            )
        return None if missing == "reject" else Treatment(missing=missing)

    def _admits_unknown(self, name: str, read: ReadAs, earlier: Treatment | None) -> bool:
        return read == "category" and (name in self.options.unknown or bool(earlier and earlier.unknown == "category"))

    def _missing(self, scan: ColumnScan, read: ReadAs, earlier: Treatment | None) -> Missing:
        """Return the treatment of missing values.

        Raise `DatasetError` if missing values are rejected and the column has some, `UsageError` if the declared treatment is not
        possible.
        """
        known: dict[str, tuple[Missing, ...]] = {"class": (), "target": (), "category": ("category",)}
        possible = ("reject", *known.get(read, ("mean", "median", "indicator")))
        given = self.options.missing.get(scan.name) or (
            earlier.missing if earlier and earlier.missing in possible else None
        )
        if given and given not in possible:
            message = f"--missing {scan.name}={given}: the column is read as {read}; expected {listed(possible)}"
            raise UsageError(message, hint=f"--missing '{scan.name}={possible[-1]}'")
        if given in {None, "reject"} and scan.gaps and (given or len(possible) == 1):
            where = f"{self.file}, {scan.at(scan.first_missing)}"
            more = f"; the column has {scan.gaps:,} missing values" if scan.gaps > 1 else ""
            hint = (
                f"--missing '{scan.name}={possible[-1]}'" if len(possible) > 1 else "remove the row, or fill the value"
            )
            raise DatasetError(f"{where}: the value is missing{more}", hint=hint)
        if given:
            return given
        return "reject" if not scan.gaps else possible[1]

    def _values(self, scan: ColumnScan, kind: ColumnType, read: ReadAs, earlier: Treatment | None) -> tuple[str, ...]:
        """Return the categories in the order of their codes: the earlier version's categories first, then new ones."""
        if scan.values is None:
            message = f"{self.file}: column {scan.name!r} has more than 10,000 distinct values; expected at most 10,000 categories"
            raise DatasetError(message, hint=f"--read '{scan.name}=skip'")
        if not scan.values and not (earlier and earlier.values):
            raise DatasetError(f"{self.file}: column {scan.name!r} has no values", hint=f"--read '{scan.name}=skip'")
        order: Any = int if kind == "whole" else str
        found = sorted(scan.values, key=order)
        if read == "class" and self.options.classes:
            return self._declared_classes(scan, found, earlier)
        known = earlier.values if earlier else ()
        return (*known, *(value for value in found if value not in set(known)))

    def _declared_classes(self, scan: ColumnScan, found: list[str], earlier: Treatment | None) -> tuple[str, ...]:
        given = self.options.classes
        if unlisted := next((value for value in found if value not in given), None):
            message = f"--classes does not list {short(unlisted)!r}, which column {scan.name!r} contains"
            raise UsageError(message, hint=f"--classes {','.join((*given, unlisted))}")
        if earlier and earlier.values and given[: len(earlier.values)] != earlier.values:
            message = (
                f"--classes {','.join(given)} renumbers the classes {','.join(earlier.values)} of the earlier version"
            )
            raise UsageError(message, hint="append new classes, or publish under another name")
        return given


def _require_portable(form: str, name: str) -> None:
    """Raise `UsageError` for a format with the name of a time zone: Python reads only the names of the machine's zone, and ignores them."""
    if "%Z" in form.replace("%%", ""):
        message = f"column {short(name)}, format {form} of dates: %Z reads only the zone names of this machine, and ignores them"
        declared = shlex.quote(f"{name}=date:{form.replace('%Z', '%z')}")
        hint = f"write offsets such as +01:00 or Z in the file: --read {declared}"
        raise UsageError(message, hint=hint)


def _reason_to_leave_out(scan: ColumnScan, kind: ColumnType) -> str:
    """Return why a column is not read as a feature unless `--read` declares it; an empty string if it is read."""
    distinct = scan.is_distinct or scan.values is None
    reasons = {
        "no values": kind == "empty",
        "all values are equal": scan.values is not None and len(scan.values) == 1 and not scan.gaps,
        f"a date; --read '{scan.name}=date' reads days since 1970-01-01": kind == "date",
        "counts the rows": kind == "whole" and scan.is_counter and scan.rows > 2,  # noqa: PLR2004 - two values may be consecutive by chance
        "an identifier: all values are different": kind in {"whole", "number", "text"}
        and distinct
        and bool(_ID.fullmatch(scan.name)),
        "the index of a table: all values are different": kind == "whole"
        and distinct
        and bool(_INDEX.fullmatch(scan.name)),
        "all values are different": kind == "text" and scan.is_distinct,
        f"text with more than {MOST_CATEGORIES:,} distinct values": kind == "text"
        and (scan.values is None or len(scan.values) > MOST_CATEGORIES),
    }
    return next((reason for reason, is_one in reasons.items() if is_one), "")
