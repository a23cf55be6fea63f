"""Runs as a table: a line each, and what differs between them.

Knows which columns a table has and which settings are worth one. Refuses to print, and to read anything: it is given runs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len

from trainer.cli.output import one_line
from trainer.cli.run_page import headline, short, spent, status
from trainer.runs.attempts import TO, settings_now
from trainer.settings.fields import GIVEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from trainer.runs.list import ListedRun

COLUMNS: Final = ("run", "where", "status", "experiment", "result", "started (UTC)", "took")
_SETTINGS: Final = 3
"""How many columns of settings a line has room for."""
_AFTER: Final = COLUMNS.index("experiment") + 1


def table(rows: Sequence[ListedRun], *, measured: Collection[str] = ()) -> list[tuple[str, ...]]:
    """The head, then a line for each run, with the settings that differ; `measured` are runs that a noise was measured by."""
    names = differing(rows)
    lines = [(*COLUMNS[:_AFTER], *names, *COLUMNS[_AFTER:])]
    for listed in rows:
        cells = _row(listed, kind=kind(listed, measured=measured))
        lines.append((*cells[:_AFTER], *_values(listed, names), *cells[_AFTER:]))
    return [tuple(map(one_line, row)) for row in lines]


def kind(listed: ListedRun, *, measured: Collection[str]) -> str | None:
    """What a run was made for, where that is not itself."""
    if listed.record and listed.record.circumstances.retest_of:
        return "retest"
    if listed.record and listed.record.circumstances.purpose:
        return listed.record.circumstances.purpose
    return "noise" if listed.run in measured else None


def differing(rows: Sequence[ListedRun]) -> list[str]:
    """The settings that are not equal among runs of one experiment, or changed within one: those that were given most often, then by name.

    What only bears on the execution is passed over, as is what only two experiments' own defaults make different.
    """
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    given: dict[str, int] = defaultdict(int)
    for listed in rows:
        if (record := listed.record) is None:
            continue
        began = record.ingredients.settings
        for name, value in settings_now(listed.records).items():
            values[record.ingredients.experiment, name].update((repr(began[name]), repr(value)))
            given[name] += record.circumstances.origins.get(name) in GIVEN
    found = {name for (_, name), seen in values.items() if len(seen) > 1}
    return sorted(found, key=lambda name: (-given[name], name))[:_SETTINGS]


def _values(listed: ListedRun, names: Sequence[str]) -> Iterator[str]:
    """The values a run began with; where an attempt was allowed another one, that which holds now too."""
    began: dict[str, Any] = listed.record.ingredients.settings if listed.record else {}
    now = settings_now(listed.records) if listed.record else {}
    for name in names:
        text = short(began[name]) if name in began else ""
        yield text if now.get(name) == began.get(name) else f"{text}{TO}{short(now[name])}"


def _row(listed: ListedRun, *, kind: str | None) -> tuple[str, ...]:
    """A run as the cells of `COLUMNS`."""
    record = listed.record
    if record is None:
        return (listed.run, listed.where, status(listed), "", "", "", "")
    return (
        listed.run,
        listed.where,
        status(listed),
        record.ingredients.experiment + (f" ({kind})" if kind else ""),
        "  ".join(f"{name} {value}" for name, value in headline(record.outcome)),
        f"{listed.records[0].circumstances.timing.started:%Y-%m-%d %H:%M}",
        spent(listed.records, died=listed.died),
    )


def fitted(lines: Sequence[tuple[str, ...]], width: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """The table as far as it has room on a line, and what was left out: first what the id tells too, then where a run is.

    A run's id, how it stands, what it is, its result and its time are never left out; what is two things may come to stand in two lines.
    """
    kept, left = list(lines), list[str]()
    names = lines[0]
    settings = [name for name in names if name not in COLUMNS]
    for name in (COLUMNS[-2], None, COLUMNS[1], *reversed(settings)):
        if _width(kept) <= width:
            break
        if name is None:
            kept = [tuple(cell.replace("  ", "\n").replace(" in ", "\nin ") for cell in row) for row in kept]
        else:
            place = kept[0].index(name)
            kept = [(*row[:place], *row[place + 1 :]) for row in kept]
            left.append(name)
    return kept, left


def _width(lines: Sequence[tuple[str, ...]]) -> int:
    columns = zip(*lines, strict=True)
    return sum(max(cell_len(line) for cell in column for line in cell.split("\n")) + 2 for column in columns) - 2
