"""The sections of a report about settings, with their origins and readers, and about code.

Settings that were given for the run are first. The readers of a value are those in the record's ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted
from trainer.cli.progress import readable
from trainer.cli.report.parts import (
    Fact,
    Row,
    badge,
    code,
    digest,
    facts,
    fold,
    lines,
    rows_table,
    section,
    table,
    value,
)
from trainer.reporting.drawing.markup import Markup, joined, tag
from trainer.runs.attempts import changes
from trainer.settings.fields import GIVEN, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from trainer.cli.report.result import Shown
    from trainer.runs.record import Record
    from trainer.settings.ledger_entry import LedgerEntry


def settings(shown: Sequence[Shown]) -> Markup | None:
    """Return every value: given values, then the experiment's values; defaults, or values equal in all runs, are folded."""
    return section("Settings", *_changed(shown), *(_of_several(shown) if len(shown) > 1 else _of_one(shown[0])))


def _of_several(shown: Sequence[Shown]) -> Iterator[Markup | None]:
    rows, heads = list(_settings(shown)), [each.letter for each in shown]
    apart, same = [row for row in rows if row.differs], [row for row in rows if not row.differs]
    yield rows_table(apart, heads, corner="setting") or tag("p", "All runs have the same.", class_="quiet")
    yield fold(f"{counted(len(same), 'setting')} the same in all", rows_table(same, heads, corner="setting"))


def _changed(shown: Sequence[Shown]) -> Iterator[Markup | None]:
    """Yield the settings that attempts of a resumed run changed."""
    for each in shown:
        told = [f"attempt {number}: {line}" for number, found in changes(each.records) for line in found]
        if told:
            yield tag("p", f"{each.prefix}changed when it was resumed; shown is what the last attempt has:")
            yield lines(told)


def _of_one(one: Shown) -> Iterator[Markup | None]:
    record, values = one.record, one.values
    origins, unread = record.circumstances.origins, set(record.outcome.unread)
    ranked = sorted(values, key=lambda name: (_nearness(origins.get(name, "")), name))
    chosen = [name for name in ranked if _nearness(origins.get(name, "")) < _FAR or name in unread]
    if not any(origins.get(name) in GIVEN for name in ranked):
        yield tag("p", "Nothing was given: all is as the experiment and the defaults say.", class_="quiet")
    yield _ledger(record, chosen, values)
    rest = [name for name in ranked if name not in chosen]
    yield fold(f"{len(rest)} defaults", _ledger(record, rest, values))


def _ledger(record: Record, names: Sequence[str], values: Mapping[str, JsonValue]) -> Markup | None:
    """Return a table with value, origin, and the places that the value is bound to and read by."""
    ledger, origins = record.outcome.ledger, record.circumstances.origins
    rows = [
        (
            name,
            value(values[name]),
            origins.get(name, ""),
            *_readers(ledger.get(name), never=name in record.outcome.unread),
        )
        for name in names
    ]
    kinds = ["given" if origins.get(name) in GIVEN else "" for name in names]
    return table(("setting", "value", "origin", "bound to", "read by"), rows, said="settings", kinds=kinds)


def _settings(shown: Sequence[Shown]) -> Iterator[Row]:
    values = [each.values for each in shown]
    origins = [each.record.circumstances.origins for each in shown]
    names = {name for each in values for name in each}

    def rank(name: str) -> tuple[bool, int, str]:
        same = len({str(each.get(name)) for each in values}) == 1
        return same, min(_nearness(each.get(name, "")) for each in origins), name

    for name in sorted(names, key=rank):
        cells = tuple(value(each[name]) if name in each else "" for each in values)
        yield Row(name=name, cells=cells, given=any(each.get(name) in GIVEN for each in origins))


def _readers(entry: LedgerEntry | None, *, never: bool) -> tuple[object, object]:
    if entry is None:
        return "", ""
    read = badge("never read", "bad") if never else _places(entry.read)
    same = entry.read == entry.bound and entry.read
    return _places(entry.bound), _places(["the same"]) if same else read


def _places(names: Sequence[str]) -> Markup:
    return joined((tag("span", name, class_="place") for name in names), between=" ")


def _nearness(origin: str) -> int:
    return 0 if origin in GIVEN else 1 if origin == Origin.EXPERIMENT else _FAR


_FAR: Final = 2
"""The rank of a default, which is last."""


def source(shown: Sequence[Shown]) -> Markup | None:
    """Return the origin of the code, and the experiment's module as it was run."""
    records = [each.record for each in shown]
    found = [
        Fact("source", [digest(each.ingredients.source) for each in records]),
        Fact("commit", [code(each.circumstances.source.commit) for each in records]),
        Fact("state", [_STATE[each.circumstances.source.dirty] for each in records]),
        Fact("how", [each.circumstances.source.how for each in records]),
        Fact("files", [_size(each) for each in records]),
    ]
    left = [
        fold(f"{each.prefix}left out of the source", lines(each.record.circumstances.source.left_out[:100]))
        for each in shown
    ]
    listed = facts(found, [each.letter for each in shown], corner="code")
    return section("Code", listed, *left, *_modules(shown))


def _modules(shown: Sequence[Shown]) -> Iterator[Markup | None]:
    """Yield each experiment's module once, with the letters of its runs."""
    texts: dict[tuple[str, str], list[str]] = {}
    for each in shown:
        if each.run.code:
            texts.setdefault(each.run.code, []).append(each.letter)
    for (path, text), letters in texts.items():
        whose = f", as in {', '.join(letters)}" if len(shown) > 1 else ""
        yield fold(f"{path}{whose}", tag("pre", text, class_="code"))


def _size(record: Record) -> str:
    return f"{record.circumstances.source.files:,}, {readable(record.circumstances.source.bytes)}"


_STATE: Final = {None: "not known", True: badge("with changes", "fair"), False: "as committed"}
