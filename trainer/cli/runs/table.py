"""The table of `reprise runs ls`: a line for each run, with the settings that differ."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len

from trainer.cli.formatting import duration_text, value_text
from trainer.cli.output import one_line
from trainer.cli.run_page import headline, status
from trainer.runs.attempts import TO, current_settings
from trainer.settings.fields import GIVEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from trainer.runs.list import ListedRun

COLUMNS: Final = ("run", "location", "status", "experiment", "result", "started (UTC)", "took")
_SETTINGS: Final = 3
"""Maximum number of columns of settings."""
_AFTER: Final = COLUMNS.index("experiment") + 1


def table(rows: Sequence[ListedRun], *, measured: Collection[str] = ()) -> list[tuple[str, ...]]:
    """Return the header and a row for each run; `measured` are the IDs of runs of noise measurements."""
    names = differing(rows)[:_SETTINGS]
    lines = [(*COLUMNS[:_AFTER], *names, *COLUMNS[_AFTER:])]
    for listed in rows:
        cells = _row(listed, purpose=purpose(listed, measured=measured))
        lines.append((*cells[:_AFTER], *_values(listed, names), *cells[_AFTER:]))
    return [tuple(map(one_line, row)) for row in lines]


def purpose(listed: ListedRun, *, measured: Collection[str]) -> str | None:
    """Return the purpose of a run that a command other than `train` started; `None` for another run."""
    if listed.record and listed.record.circumstances.retest_of:
        return "rerun"
    if listed.record and listed.record.circumstances.purpose:
        return listed.record.circumstances.purpose
    return "noise" if listed.run in measured else None


def differing(rows: Sequence[ListedRun]) -> list[str]:
    """Return the settings that differ among runs of one experiment or within a run; settings that were given most often are first.

    Settings of execution, and differences between the defaults of two experiments, are not included.
    """
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for listed in rows:
        if (record := listed.record) is None:
            continue
        first = record.ingredients.settings
        for name, value in current_settings(listed.records).items():
            values[record.ingredients.experiment, name].update((repr(first[name]), repr(value)))
            counts[name] += record.circumstances.origins.get(name) in GIVEN
    names = {name for (_, name), texts in values.items() if len(texts) > 1}
    return sorted(names, key=lambda name: (-counts[name], name))


def without_column(rows: Sequence[ListedRun]) -> list[str]:
    """Return the settings that differ and have no column in the table."""
    return differing(rows)[_SETTINGS:]


def _values(listed: ListedRun, names: Sequence[str]) -> Iterator[str]:
    """Yield the values that a run began with, each with the current value if a resumed attempt changed the setting."""
    first: dict[str, Any] = listed.record.ingredients.settings if listed.record else {}
    current = current_settings(listed.records) if listed.record else {}
    for name in names:
        text = value_text(first[name]) if name in first else ""
        yield text if current.get(name) == first.get(name) else f"{text}{TO}{value_text(current[name])}"


def _row(listed: ListedRun, *, purpose: str | None) -> tuple[str, ...]:
    record = listed.record
    if record is None:
        return (listed.run, listed.location, status(listed), "", "", "", "")
    return (
        listed.run,
        listed.location,
        status(listed),
        record.ingredients.experiment + (f" ({purpose})" if purpose else ""),
        "  ".join(f"{name} {value}" for name, value in headline(record.outcome)),
        f"{listed.records[0].circumstances.timing.started:%Y-%m-%d %H:%M}",
        duration_text(listed.records, died=listed.died),
    )


def fitted(lines: Sequence[tuple[str, ...]], width: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the table reduced to `width` columns, and the names of the omitted table columns.

    The start time is omitted first, then cells are split into two lines, then the location and settings are omitted. Id, status,
    experiment, result and duration are always kept.
    """
    rows, omitted = list(lines), list[str]()
    names = lines[0]
    settings = [name for name in names if name not in COLUMNS]
    for name in (COLUMNS[-2], None, COLUMNS[1], *reversed(settings)):
        if _width(rows) <= width:
            break
        if name is None:
            rows = [tuple(cell.replace("  ", "\n").replace(" in ", "\nin ") for cell in row) for row in rows]
        else:
            index = rows[0].index(name)
            rows = [(*row[:index], *row[index + 1 :]) for row in rows]
            omitted.append(name)
    return rows, omitted


def _width(lines: Sequence[tuple[str, ...]]) -> int:
    columns = zip(*lines, strict=True)
    return sum(max(cell_len(line) for cell in column for line in cell.split("\n")) + 2 for column in columns) - 2
