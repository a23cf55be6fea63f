"""The values of datasets: the overview that `data show` prints, and the difference that `data diff` prints.

With `--values` or `--key`, values are read in this process if it has torch and pyarrow, otherwise in a container of the environment's
image. Without these options, they are read only in this process, and only if the dataset is small and in the cache, so that the commands
stay fast and download nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.util import find_spec
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from pydantic import ConfigDict
from rich.cells import cell_len

from trainer.base.document import Document, parse_json
from trainer.base.errors import DatasetError, MachineError, RepriseError
from trainer.base.suggestions import counted
from trainer.cli.data.in_image import output_in_image
from trainer.cli.formatting import columns as aligned
from trainer.cli.messages import spelled
from trainer.cli.output import one_line, print_progress
from trainer.cli.progress import readable, transfer_progress
from trainer.data.cache.inspections import cached_overview
from trainer.data.check_pictures import ClassCount
from trainer.data.fetch import fetch_dataset
from trainer.data.overview import LARGEST_WHOLE, Overview, ValueChanges
from trainer.data.reader import TableReader, Weights

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from trainer.cli.data import DataContext
    from trainer.data.declaration import Dataset
    from trainer.data.overview import ColumnValues, RowChanges

_SMALL: Final = 64 << 20
"""Maximum size in bytes of a dataset whose values are read without `--values`."""
_WIDTH: Final = 80
_MOST_COLUMNS: Final = 40
_MOST_CHANGES: Final = 20
_NAME, _TYPE, _READ, _SPLIT = 16, 14, 10, 10
"""Maximum number of characters in a cell of each column."""
_LONG: Final = 1e20
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - dates in a table have no time zone


def overview_of(args: Namespace, dataset: Dataset, context: DataContext) -> Overview | str:
    """Return the overview of a dataset, or why it was not read, for example with the command that reads it; empty for weights.

    Raise `DatasetError` for weights with `--values`.
    """
    if isinstance(dataset.reader, Weights):
        if args.values:
            raise DatasetError(f"{dataset.title} holds weights, which have no samples", hint="remove --values")
        return ""
    cached = context.cache.find(dataset)
    if cached and (stored := cached_overview(dataset, context.cache).read()):
        return stored
    if args.values and not _can_read():
        words = ["data", "show", args.name, "--values", "--json"]
        return _in_image(words, context).overview or ""
    if args.values or (cached and _can_read() and dataset.bytes <= _SMALL):
        return _read_overview(dataset, context) if args.values else _read_overview_or_fault(dataset, context)
    return spelled(f"not read yet: reprise data show {args.name} --values")


def _read_overview_or_fault(dataset: Dataset, context: DataContext) -> Overview | str:
    """Return the overview, or why it cannot be made, so that the rest of the output is printed in any case."""
    try:
        return _read_overview(dataset, context)
    except RepriseError as fault:
        return f"cannot be read: {fault.message}"


def _can_read() -> bool:
    """Return whether this Python can read samples."""
    return all(map(find_spec, ("torch", "pyarrow")))


def _read_overview(dataset: Dataset, context: DataContext) -> Overview:
    from trainer.training.readers.overview import make_overview

    cached = fetch_dataset(dataset, cache=context.cache, open_store=context.open, progress=transfer_progress())
    cache_file = cached_overview(dataset, context.cache)
    if (stored := cache_file.read()) is not None:
        return stored
    print_progress(f"{dataset.title}: reading {readable(dataset.bytes)} of samples, once on this machine")
    overview = make_overview(dataset, cached)
    cache_file.write(overview)
    return overview


def changes_of(args: Namespace, before: Dataset, after: Dataset, context: DataContext) -> ValueChanges | str:
    """Return how the values of two versions differ, or the command that compares them; empty for equal versions and for weights."""
    is_equal = before.published.model_copy(update={"version": after.version}) == after.published
    if is_equal or isinstance(before.reader, Weights) or isinstance(after.reader, Weights):
        return ""
    is_forced = args.values or args.key is not None
    can_read = _can_read()
    if is_forced and not can_read:
        key = ["--key", args.key] if args.key else []
        return _in_image(["data", "diff", args.before, args.after, *key, "--values", "--json"], context).values or ""
    is_here = all(context.cache.has(each) and each.bytes <= _SMALL for each in (before, after))
    if not (is_forced or (is_here and can_read)):
        return spelled(f"not compared: reprise data diff {args.before} {args.after} --values")
    return _compared(before, after, context, key=args.key)


def _compared(before: Dataset, after: Dataset, context: DataContext, *, key: str | None) -> ValueChanges:
    from trainer.training.readers.row_changes import Version, compare_values

    one, other = (
        Version(
            dataset=each,
            overview=_read_overview(each, context),
            files=fetch_dataset(each, cache=context.cache, open_store=context.open, progress=transfer_progress()),
        )
        for each in (before, after)
    )
    return compare_values(one, other, key=key)


class _ShowOutput(Document):
    """The keys of a command's JSON that this module reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    overview: Overview | None = None
    values: ValueChanges | None = None


def _in_image(words: Sequence[str], context: DataContext) -> _ShowOutput:
    """Run a command in a container of the environment's image, and return its output. Raise `MachineError` if it fails."""
    hint = f"docker compose run --rm -T train {' '.join(words[:-1])}"
    code, output = output_in_image(words, context, need="reading samples needs torch and pyarrow", hint=hint)
    if code:
        raise MachineError(f"the samples were not read: the container exited with code {code}", hint=hint)
    return parse_json(output, _ShowOutput, where="the container's output", whole=LARGEST_WHOLE)


def classes_of(dataset: Dataset, overview: Overview) -> tuple[ClassCount, ...]:
    """Return the classes, sorted by number, with the number of samples in each split; empty if the label has no classes.

    The split without a name, which holds all samples of a dataset without splits, is not listed.
    """
    classes, codes = overview.classes, _codes(dataset, overview)
    counts = [
        ClassCount(
            number=codes.get(name, number) if codes else _class_number(name, number),
            name=name if codes or not name.removeprefix("-").isdecimal() else "",
            samples=sum(splits.values()),
            splits={split: count for split, count in splits.items() if split},
        )
        for number, (name, splits) in enumerate(classes.items())
    ]
    return tuple(sorted(counts, key=lambda each: each.number))


def _codes(dataset: Dataset, overview: Overview) -> dict[str, int]:
    """Return the number of each declared class of a table's label; empty for another reader or a label of numbers."""
    if isinstance(dataset.reader, TableReader) and (treatment := dataset.reader.columns.get(overview.label or "")):
        return {name: number + treatment.first for number, name in enumerate(treatment.values)}
    return {}


def _class_number(name: str, otherwise: int) -> int:
    return int(name) if name.removeprefix("-").isdecimal() else otherwise


def overview_lines(dataset: Dataset, overview: Overview) -> Iterator[str]:
    """Yield the lines of the table of columns, of the hints, and of the description of the examined data."""
    rows: list[tuple[str, ...]] = [("COLUMN", "TYPE", "READ AS", "SPLIT", "MISSING", "VALUES")]
    for column in overview.columns[:_MOST_COLUMNS]:
        for at, (split, values) in enumerate(column.splits.items()):
            names = (column.name, column.type, column.read_as) if not at else ("", "", "")
            cells = (*map(_clipped, names, (_NAME, _TYPE, _READ)), _clipped(split or "all", _SPLIT))
            rows.append((*cells, f"{values.missing:,}", described_values(dataset, column.name, values)))
    if overview.columns:
        yield from (f"  {_clipped(line, _WIDTH - 2)}" for line in aligned(rows))
    if (omitted := len(overview.columns) - _MOST_COLUMNS) > 0:
        yield f"  and {counted(omitted, 'more column')}: --json lists all"
    yield from _wrapped("hints", overview.hints or ("none",))
    yield from _wrapped("looked at", overview.compared)


def described_values(dataset: Dataset, column: str, values: ColumnValues) -> str:
    """Return the range of a column's numbers or dates, or the number of its distinct values and, if few, the values themselves."""
    source = dataset.source_table.columns.get(column) if dataset.source_table else None
    return _described(values, is_date=source is not None and source.read == "date")


def _clipped(text: str, width: int) -> str:
    text = one_line(text)
    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - 2:
        text = text[:-1]
    return f"{text}.."


def _described(values: ColumnValues, *, is_date: bool = False) -> str:
    if values.low is not None and values.high is not None:
        low, high = (_date(each) if is_date else _number(each) for each in (values.low, values.high))
        return low if low == high else f"{low} to {high}"
    if values.different is None:
        return "over 1,000 values" if values.present else "none"
    names = f": {', '.join(values.values)}" if values.values and len(values.values) <= _MOST_CHANGES else ""
    return f"{counted(values.different, 'value')}{names}"


def _number(number: float) -> str:
    """Return a number with up to six digits, or a whole number below 1e20 with all of its digits.

    >>> _number(0.1 + 0.2), _number(2e7), _number(2**60), _number(1e300)
    ('0.3', '20000000', '1152921504606846976', '1e+300')
    """
    return str(int(number)) if abs(number) < _LONG and number == int(number) else f"{number:.6g}"


def _date(days: float) -> str:
    """Return the date of a number of days since 1970-01-01.

    >>> _date(0), _date(19876.5)
    ('1970-01-01', '2024-06-02 12:00')
    """
    moment = _EPOCH + timedelta(days=days)
    return f"{moment:%Y-%m-%d}" if days == int(days) else f"{moment:%Y-%m-%d %H:%M}"


def _wrapped(title: str, texts: Sequence[str]) -> Iterator[str]:
    first = f"  {title:<10}"
    for text in texts:
        for line in wrap(one_line(text), _WIDTH - len(first), initial_indent="", subsequent_indent="  "):
            yield f"{first}{line}"
            first = " " * len(first)


def change_lines(changes: ValueChanges) -> Iterator[str]:
    """Yield lines: the samples that differ in each split, the columns whose values differ, and the description of the comparison."""
    rows: list[tuple[str, ...]] = [("SPLIT", "BEFORE", "AFTER", "ADDED", "REMOVED", "CHANGED", "MOVED IN", "MOVED OUT")]
    rows += [_row(split, each) for split, each in changes.rows.items()]
    yield from (f"  {line}" for line in aligned(rows))
    for split, each in changes.rows.items():
        if each.changed_columns:
            columns = ", ".join(f"{name} in {count:,}" for name, count in each.changed_columns.items())
            yield from _wrapped("changed", [f"{split or 'all'}: {columns}"])
    if moved := sum(each.moved_in for each in changes.rows.values()):
        text = f"{counted(moved, 'sample')} moved to another split: a net trained on the earlier version may have seen samples of "
        hint = "`--group COLUMN` selects the split of a row by its value in COLUMN, not by its number"
        yield from _wrapped("moved", [f"{text}val or test; {hint}"])
    for title, names in (("new", changes.columns_added), ("gone", changes.columns_removed)):
        if names:
            yield from _wrapped(title, [f"columns {', '.join(names)}"])
    for name, values in changes.categories.items():
        yield from _wrapped("codes", [f"column {name!r} has {counted(len(values), 'new value')}: {_some(values)}"])
    yield from _wrapped("values", list(_column_changes(changes)))
    yield from _wrapped("compared", changes.compared)


def _row(split: str, each: RowChanges) -> tuple[str, ...]:
    counts = (each.before, each.after, each.added, each.removed, each.changed, each.moved_in, each.moved_out)
    return (_clipped(split or "all", _SPLIT), *(f"{count:,}" for count in counts))


def _some(values: Sequence[str]) -> str:
    most = 6
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return ", ".join(map(repr, values[:most])) + more


def _column_changes(changes: ValueChanges) -> Iterator[str]:
    shown = changes.columns[:_MOST_CHANGES]
    for each in shown:
        parts = []
        if each.before is None or each.after is None:
            continue
        pair = _described(each.before), _described(each.after)
        if (each.before.low, each.before.high) != (each.after.low, each.after.high):
            parts.append(f"{pair[0]}, now {pair[1]}")
        elif each.before.low is None and each.before.different != each.after.different:
            parts.append(f"{_number_of(each.before)}, now {_number_of(each.after)}")
        parts += [f"new {_some(each.added)}"] if each.added else []
        parts += [f"gone {_some(each.removed)}"] if each.removed else []
        if each.before.missing != each.after.missing:
            parts.append(f"{each.before.missing:,} missing, now {each.after.missing:,}")
        if parts:
            yield f"{each.column}{f' of {each.split}' if each.split else ''}: {'; '.join(parts)}"
    if len(changes.columns) > len(shown):
        yield f"and {counted(len(changes.columns) - len(shown), 'more change')}: --json lists all"


def _number_of(values: ColumnValues) -> str:
    return "over 1,000 values" if values.different is None else counted(values.different, "value")
