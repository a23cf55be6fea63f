"""Determine the column types of a scanned table. An ambiguous value is an error with the line and the option that declares its meaning."""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.errors import DatasetError
from trainer.base.suggestions import short
from trainer.data.tables.cells import NUMERIC, PLAIN, SPACES, WITH_COMMA

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from trainer.data.tables.column_scan import ColumnScan, FirstValue
    from trainer.data.tables.source_table import ColumnType

_INT64: Final = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """The decimal sign and the thousands separator of a table's numbers."""

    decimal: Literal[".", ","] = "."
    thousands: str = ""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of cells that are numbers in this format."""
        spaced = {f"grouped{self.thousands}", f"grouped{self.thousands}{self.decimal}"}
        grouped = {"": set(), ",": {"grouped,", "comma3"}, ".": {"grouped.", "dot3"}}.get(self.thousands, spaced)
        return (PLAIN if self.decimal == "." else WITH_COMMA) | grouped


def number_format(
    scans: Sequence[ColumnScan], *, file: str, delimiter: str, decimal: Literal[".", ","] | None, thousands: str | None
) -> NumberFormat:
    """Return the number format of a table. Raise `DatasetError` if it is ambiguous, such as whether `1,234` is 1234 or 1.234."""
    if decimal or thousands is not None:
        return NumberFormat(decimal=decimal or ("," if thousands == "." else "."), thousands=thousands or "")
    kinds: dict[str, tuple[ColumnScan, FirstValue]] = {}
    for scan in scans:
        if scan.kinds and scan.kinds.keys() <= NUMERIC:
            for kind, example in scan.kinds.items():
                kinds.setdefault(kind, (scan, example))
    has_comma = bool(delimiter) and delimiter != ","
    if has_comma and "comma" in kinds and "dotted" in kinds:
        (one, first), (other, second) = kinds["comma"], kinds["dotted"]
        message = (
            f"{file}: {short(first.value)!r} ({one.at(first.line)}) has a decimal comma, but "
            f"{short(second.value)!r} ({other.at(second.line)}) a decimal point"
        )
        raise DatasetError(
            message,
            hint="write all numbers of the file in one form; or --read COLUMN=category, or --read COLUMN=skip",
        )
    if has_comma and "comma" in kinds:
        return NumberFormat(decimal=",")
    unclear = ["comma3"] if has_comma else []
    unclear += ["dot3"] if has_comma and not kinds.keys() & {"dotted", "power"} else []
    if found := next((kind for kind in unclear if kind in kinds), None):
        scan, example = kinds[found]
        mark = "," if found == "comma3" else "."
        message = (
            f"{file}, {scan.at(example.line)}: {example.value!r} may be {example.value.replace(mark, '')} "
            f"or {example.value.replace(',', '.')}"
        )
        raise DatasetError(
            message,
            hint=f"--decimal '{mark}' if it is the decimal sign, --thousands '{mark}' if it separates thousands",
        )
    return NumberFormat()


def require_readable_text(scan: ColumnScan, *, file: str) -> None:
    """Raise `DatasetError` with the line if a value has a control character or is the error of a spreadsheet formula."""
    if found := scan.kinds.get("control"):
        character = next(each for each in found.value if each == "\ufeff" or not (each.isprintable() or each.isspace()))
        marks = {"\0": "a NUL character", "\ufeff": "a byte order mark inside the text; several files were joined"}
        name = marks.get(character, f"the control character {character!r}")
        is_windows = "\x80" <= character <= "\x9f"
        hint = "if a Windows program wrote it: --encoding cp1252" if is_windows else "remove it"
        raise DatasetError(f"{file}, {scan.at(found.line)}: {name}", hint=f"{hint}; or --read '{scan.name}=skip'")
    if found := scan.kinds.get("error"):
        message = f"{file}, {scan.at(found.line)}: {found.value!r} is the error of a formula, not a value"
        raise DatasetError(message, hint=f"correct it; or --null '{found.value}' if it means that the value is missing")


def column_type(
    scan: ColumnScan, numbers: NumberFormat, *, file: str, options: str, is_number: bool = False
) -> ColumnType:
    """Return the type of a column. Raise `DatasetError` with the line if its values have several types or are ambiguous.

    `options` are the options for the hint, such as `--read age=category or --read age=skip`. `is_number` states whether the column is
    declared as a number.
    """
    kinds = scan.kinds.keys()
    if "power" in kinds and kinds <= {"power", "whole", "padded"} and not (is_number and "padded" not in kinds):
        raise _power(scan, file, options)
    if kinds == {"date", "zoned"}:
        raise _zones(scan, file)
    if kinds == {"day"}:
        raise _day(scan, file)
    if kinds <= {"whole"}:
        return "empty" if not kinds else "whole" if _fits(scan) else "text"
    if kinds <= numbers.kinds:
        return "number"
    if len(kinds) == 1 and kinds <= {"date", "zoned"}:
        return "date"
    if "padded" not in kinds and kinds <= NUMERIC | {"amount", "foreign"}:
        odd = next(kind for kind in scan.kinds if kind not in numbers.kinds)
        example = scan.kinds[odd]
        if numbers.thousands in SPACES and odd.startswith(f"grouped{numbers.thousands}"):
            odd = "comma" if odd.endswith(",") else "dotted"
        raise _odd_number(example, odd, f"{file}, {scan.at(example.line)}", options)
    return "text" if kinds <= {"padded", "whole"} else _text(scan, file, options)


def _fits(scan: ColumnScan) -> bool:
    """Return whether a column's whole numbers fit in 64 bits; longer numbers are identifiers.

    If the column has too many values to count, only the first value is checked.
    """
    longest = max(scan.values or [scan.kinds["whole"].value], key=len)
    return abs(int(longest)) < _INT64


def _text(scan: ColumnScan, file: str, options: str) -> ColumnType:
    """Return `text`. Raise `DatasetError` with the line of the first other value if most values are numbers or dates."""
    total = scan.rows - scan.gaps
    groups: dict[str, frozenset[str]] = {
        "numbers": NUMERIC,
        "dates": frozenset({"date", "zoned"}),
        "days": frozenset({"day"}),
    }
    for name, group in groups.items():
        if 2 * _count(scan.kinds, group) > total:
            kind, odd = next((kind, each) for kind, each in scan.kinds.items() if kind not in group)
            message = f"{file}, {scan.at(odd.line)}: {short(odd.value)!r} among {name}"
            option = f"--null{'=' if odd.value.startswith('-') else ' '}{shlex.quote(odd.value)}"
            null = f"{option} if it means that the value is missing, or " if kind == "text" else ""
            raise DatasetError(message, hint=f"correct it; or {null}{options}")
    return "text"


def _count(kinds: Mapping[str, FirstValue], group: Container[str]) -> int:
    return sum(each.count for kind, each in kinds.items() if kind in group)


def _day(scan: ColumnScan, file: str) -> DatasetError:
    values = scan.values or {scan.kinds["day"].value: 1}
    value, where = scan.kinds["day"].value, f"{file}, {scan.at(scan.kinds['day'].line)}"
    mark = next(each for each in "./-" if each in value)
    year = "%Y" if len(value.split(" ")[0].split(mark)[2]) > 2 else "%y"  # noqa: PLR2004 - the digits of a short year
    parts = [[int(part) for part in each.split(" ")[0].split(mark)[:2]] for each in values if mark in each]
    first, second = max(part[0] for part in parts), max(part[1] for part in parts)
    day, month = f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"
    forms = [day] if first > _MONTHS else [month] if second > _MONTHS else [day, month]
    ways = " or ".join(f"--read '{scan.name}=date:{form}'" for form in forms)
    message = f"{where}: {value!r} is a date that is not in the form YYYY-MM-DD"
    return DatasetError(message, hint=f"{ways}, which reads days since 1970-01-01; or --read '{scan.name}=skip'")


_MONTHS: Final = 12


def _odd_number(example: FirstValue, kind: str, where: str, options: str) -> DatasetError:
    value = short(example.value)
    if kind == "amount" and value.startswith("("):
        message = f"{where}: {value!r} may be a negative number"
        return DatasetError(message, hint=f"write it with a minus sign; or {options}")
    if kind == "amount":
        message = f"{where}: {value!r} is a number with a unit"
        return DatasetError(
            message, hint=f"write it without its unit, and add the unit to the column's name; or {options}"
        )
    if kind == "foreign":
        character = next(each for each in value if not each.isascii())
        message = (
            f"{where}: {value!r} has {unicodedata.name(character)} (U+{ord(character):04X}); expected 0 to 9, - and +"
        )
        return DatasetError(message, hint=f"replace it in the file; or {options}")
    if kind in {"comma", "dotted"}:
        mark, other = (",", "point") if kind == "comma" else (".", "comma")
        message = f"{where}: {value!r} does not have a decimal {other}, unlike the other numbers of this file"
        return DatasetError(message, hint=f"--decimal '{mark}' if all numbers are written like this; or {options}")
    mark = {"comma3": ",", "dot3": "."}.get(kind) or kind.removeprefix("grouped")[0]
    message, quoted = f"{where}: {value!r} has thousands separators", '"' if mark == "'" else "'"
    return DatasetError(message, hint=f"--thousands {quoted}{mark}{quoted}; or {options}")


def _power(scan: ColumnScan, file: str, options: str) -> DatasetError:
    found = scan.kinds["power"]
    message = f"{file}, {scan.at(found.line)}: {short(found.value)!r} may be a number or an identifier"
    return DatasetError(message, hint=f"--read '{scan.name}=number' if it is a number; or {options}")


def _zones(scan: ColumnScan, file: str) -> DatasetError:
    plain, zoned = scan.kinds["date"], scan.kinds["zoned"]
    message = f"{file}, {scan.at(plain.line)}: {plain.value!r} has no time zone; {zoned.value!r} in {scan.unit} {zoned.line} has one"
    return DatasetError(message, hint=f"write all dates with a time zone, or all without; or --read '{scan.name}=skip'")
