"""Runs as a table: a line each, and what differs between them.

Knows which columns a table has and which settings are worth one. Refuses to print, and to read anything: it is given runs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from trainer.cli.run_page import duration, headline, printable, short, status
from trainer.settings import GIVEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from trainer.actions.list_runs import Listed
    from trainer.record import Record

COLUMNS: Final = ("run", "where", "status", "experiment", "result", "started (UTC)", "took")
_SETTINGS: Final = 3
"""How many columns of settings a line has room for."""
_AFTER: Final = COLUMNS.index("experiment") + 1


def table(rows: Sequence[Listed], *, measured: Collection[str] = ()) -> list[tuple[str, ...]]:
    """The head, then a line for each run, with the settings that differ; `measured` are runs that a noise was measured by."""
    names = differing([listed.record for listed in rows if listed.record])
    lines = [(*COLUMNS[:_AFTER], *names, *COLUMNS[_AFTER:])]
    for listed in rows:
        cells = _row(listed, kind=kind(listed, measured=measured))
        lines.append((*cells[:_AFTER], *_values(listed.record, names), *cells[_AFTER:]))
    return lines


def kind(listed: Listed, *, measured: Collection[str]) -> str | None:
    """What a run was made for, where that is not itself."""
    if listed.record and listed.record.circumstances.retest_of:
        return "retest"
    return "noise" if listed.run in measured else None


def differing(records: Sequence[Record]) -> list[str]:
    """The settings that are not equal among runs of one experiment: those that were given most often, then by name.

    What only bears on the execution is passed over, as is what only two experiments' own defaults make different.
    """
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    given: dict[str, int] = defaultdict(int)
    for record in records:
        for name, value in record.ingredients.settings.items():
            values[record.ingredients.experiment, name].add(repr(value))
            given[name] += record.circumstances.origins.get(name) in GIVEN
    found = {name for (_, name), seen in values.items() if len(seen) > 1}
    return sorted(found, key=lambda name: (-given[name], name))[:_SETTINGS]


def _values(record: Record | None, names: Sequence[str]) -> Iterator[str]:
    settings: dict[str, Any] = record.ingredients.settings if record else {}
    yield from (short(settings[name]) if name in settings else "" for name in names)


def _row(listed: Listed, *, kind: str | None) -> tuple[str, ...]:
    """A run as the cells of `COLUMNS`."""
    record = listed.record
    if record is None:
        return (listed.run, listed.where, "unreadable", "", printable(listed.fault or ""), "", "")
    timing = record.circumstances.timing
    return (
        listed.run,
        listed.where,
        status(listed),
        printable(record.ingredients.experiment) + (f" ({kind})" if kind else ""),
        "  ".join(f"{name} {value}" for name, value in headline(record.outcome)),
        f"{timing.started:%Y-%m-%d %H:%M}",
        duration(timing.seconds),
    )
