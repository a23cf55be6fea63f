"""Count the kinds of values, the missing values and the distinct values of a table's columns, in one pass and bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, Literal

from trainer.data.tables.cells import MISSING, NUMERIC, kind_of, whole_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.data.tables.text_rows import TextBlock

MOST_VALUES: Final = 10_000
"""Maximum number of distinct values of a column that are counted."""
_EXAMPLES: Final = 3
_EXACT: Final = 1 << 24
"""Float32 represents every whole number up to this one exactly."""
_UNCHANGED: Final = frozenset({"date", "zoned", "day", "control", "error"})
"""The kinds of values that keep their kind in a column that the format declares as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstValue:
    """The first value of a kind, its line, and the number of values of that kind."""

    count: int
    line: int
    value: str


@dataclass(slots=True, kw_only=True)
class ColumnScan:
    """A summary of the values of a column."""

    name: str
    missing: frozenset[str] = MISSING
    """The spellings of a missing value, in lower case."""
    is_text: bool = False
    """Whether the format declares the values as text, so that they are not read as numbers."""
    is_typed: bool = False
    """Whether the format has types, so that `1e5` is a number."""
    unit: Literal["line", "row"] = "line"
    """What the numbers of the rows count, as in `TextBlock`."""
    rows: int = 0
    spellings: Counter[str] = field(default_factory=Counter)
    """Missing values by spelling."""
    first_missing: int = 0
    """The line of the first missing value."""
    kinds: dict[str, FirstValue] = field(default_factory=dict)
    values: Counter[str] | None = field(default_factory=Counter)
    """The number of rows of each value; `None` if there are more than `MOST_VALUES` distinct values."""
    padded: int = 0
    """Values with whitespace around them."""
    is_counter: bool = True
    """Whether the values are consecutive whole numbers."""
    rounded: FirstValue | None = None
    """The first whole number, in any notation, beyond the range in which float32 is exact."""
    has_fractions: bool = False
    """Whether a number is not whole, or has an exponent."""
    first_values: tuple[str, ...] = ()
    """The first distinct values, if there are too many to count."""
    _last: int | None = None

    @property
    def gaps(self) -> int:
        """The number of missing values."""
        return self.spellings.total()

    @property
    def is_distinct(self) -> bool:
        """Whether all values are known to be different."""
        return self.values is not None and self.rows > 1 and len(self.values) == self.rows - self.gaps

    @property
    def examples(self) -> list[str]:
        """Up to three values: the most frequent values, or the first value of each kind if they were not counted."""
        if self.values is not None:
            return [value for value, _ in self.values.most_common(_EXAMPLES)]
        return [each.value for each in self.kinds.values()][:_EXAMPLES]

    def at(self, line: int) -> str:
        """Return the place of a value for a message, such as `line 2, column 'age'`."""
        return f"{self.unit} {line}, column {self.name!r}"

    def add(self, lines: Sequence[int], cells: Sequence[str]) -> None:
        """Add the cells of some rows; `lines` are the rows' lines."""
        self.rows += len(cells)
        counts: Counter[str] = Counter()
        for cell, count in Counter(cells).items():
            value = cell.strip()
            if value is not cell and value != cell:
                self.padded += count
            if value.lower() in self.missing:
                self.first_missing = self.first_missing or lines[cells.index(cell)]
                self.spellings[value] += count
                continue
            counts[value] += count
            kind = self._kind(value)
            self._count(kind, count, lines, cells, cell)
            if kind in NUMERIC and not self.has_fractions:
                number = whole_of(value)
                self.has_fractions = number is None
                if self.rounded is None and abs(number or 0) > _EXACT:
                    self.rounded = FirstValue(count=count, line=lines[cells.index(cell)], value=value)
        self._follow(cells)
        if self.values is not None:
            self.values.update(counts)
            if len(self.values) > MOST_VALUES:
                self.first_values, self.values = tuple(islice(self.values, MOST_VALUES)), None

    def _kind(self, value: str) -> str:
        kind = kind_of(value)
        if self.is_text and kind not in _UNCHANGED:
            return "text"
        return "dotted" if self.is_typed and kind == "power" else kind

    def _count(self, kind: str, count: int, lines: Sequence[int], cells: Sequence[str], cell: str) -> None:
        known = self.kinds.get(kind)
        if known is None:
            self.kinds[kind] = FirstValue(count=count, line=lines[cells.index(cell)], value=cell.strip())
        else:
            self.kinds[kind] = FirstValue(count=known.count + count, line=known.line, value=known.value)

    def _follow(self, cells: Sequence[str]) -> None:
        if not self.is_counter:
            return
        try:
            numbers = [*([] if self._last is None else [self._last]), *map(int, cells)]
        except ValueError:
            self.is_counter = False
            return
        self.is_counter = all(after - before == 1 for before, after in pairwise(numbers))
        self._last = numbers[-1]


def scan_columns(
    names: Sequence[str],
    blocks: Iterable[TextBlock],
    *,
    missing: frozenset[str],
    declared: frozenset[str],
    texts: frozenset[str] | None = None,
) -> list[ColumnScan]:
    """Read all rows once, and return the scan of each column.

    `texts` are the columns that the format declares as text; in them, only the `declared` spellings of a missing value are missing values.
    `texts` is `None` if the format has no types.
    """
    spelled, is_typed = frozenset({"", *declared}), texts is not None
    scans = [
        ColumnScan(name=name, missing=spelled, is_text=True, is_typed=True)
        if name in (texts or ())
        else ColumnScan(name=name, missing=missing, is_typed=is_typed)
        for name in names
    ]
    for block in blocks:
        for scan, cells in zip(scans, block.columns, strict=True):
            scan.unit = block.unit
            scan.add(block.lines, cells)
    return scans
