"""The sections of a report about settings, with their origins and readers, and about code.

Settings that were given for the run are first. The readers of a value are those in the record's ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted
from trainer.cli.progress import readable
from trainer.cli.report.elements import Row, badge, code, digest, fold, lines, rows_table, section, table, value
from trainer.cli.report.result import facts
from trainer.reporting.drawing.markup import Markup, joined, tag
from trainer.runs.attempts import changes
from trainer.settings.fields import GIVEN, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.cli.report.result import PageRun
    from trainer.runs.record import Record

_DEFAULT: Final = 2
"""The rank of a default, which is last."""
_STATE: Final = {None: "not known", True: badge("with changes", "fair"), False: "as committed"}
_CODE: Final[dict[str, Callable[[Record], object]]] = {
    "source": lambda record: digest(record.ingredients.source),
    "commit": lambda record: code(record.circumstances.source.commit),
    "state": lambda record: _STATE[record.circumstances.source.dirty],
    "how": lambda record: record.circumstances.source.how,
    "files": lambda record: f"{record.circumstances.source.files:,}, {readable(record.circumstances.source.bytes)}",
}


def settings(runs: Sequence[PageRun]) -> Markup | None:
    """Return every value: given values, then the experiment's values; defaults, or values equal in all runs, are folded."""
    return section("Settings", *_changed(runs), *(_of_several(runs) if len(runs) > 1 else _of_one(runs[0])))


def _changed(runs: Sequence[PageRun]) -> Iterator[Markup | None]:
    """Yield the settings that attempts of a resumed run changed."""
    for each in runs:
        if changed := [f"attempt {number}: {line}" for number, found in changes(each.records) for line in found]:
            yield tag("p", f"{each.prefix}changed when it was resumed; shown is what the last attempt has:")
            yield lines(changed)


def _of_several(runs: Sequence[PageRun]) -> Iterator[Markup | None]:
    values, heads = [each.values for each in runs], [each.letter for each in runs]
    origins = [each.record.circumstances.origins for each in runs]
    rows = {
        name: Row(
            name=name,
            cells=tuple(value(each[name]) if name in each else "" for each in values),
            given=any(each.get(name) in GIVEN for each in origins),
        )
        for name in {name for each in values for name in each}
    }
    ranked = sorted(rows, key=lambda name: (min(_rank(each.get(name, "")) for each in origins), name))
    differing, equal = ([rows[name] for name in ranked if rows[name].differs is differs] for differs in (True, False))
    yield rows_table(differing, heads, corner="setting") or tag("p", "All runs have the same.", class_="quiet")
    yield fold(f"{counted(len(equal), 'setting')} the same in all", rows_table(equal, heads, corner="setting"))


def _of_one(run: PageRun) -> Iterator[Markup | None]:
    origins, unread = run.record.circumstances.origins, set(run.record.outcome.unread)
    ranked = sorted(run.values, key=lambda name: (_rank(origins.get(name, "")), name))
    first = [name for name in ranked if _rank(origins.get(name, "")) < _DEFAULT or name in unread]
    if not any(origins.get(name) in GIVEN for name in ranked):
        yield tag("p", "Nothing was given: all is as the experiment and the defaults say.", class_="quiet")
    yield _ledger(run, first)
    rest = [name for name in ranked if name not in first]
    yield fold(f"{len(rest)} defaults", _ledger(run, rest))


def _ledger(run: PageRun, names: Sequence[str]) -> Markup | None:
    """Return a table with value, origin, and the places that the value is bound to and read by."""
    values, origins = run.values, run.record.circumstances.origins
    rows = [(name, value(values[name]), origins.get(name, ""), *_readers(run.record, name)) for name in names]
    kinds = ["given" if origins.get(name) in GIVEN else "" for name in names]
    return table(("setting", "value", "origin", "bound to", "read by"), rows, label="settings", kinds=kinds)


def _readers(record: Record, name: str) -> tuple[object, object]:
    entry = record.outcome.ledger.get(name)
    if entry is None:
        return "", ""
    if name in record.outcome.unread:
        return _places(entry.bound), badge("never read", "bad")
    return _places(entry.bound), _places(["the same"] if entry.read and entry.read == entry.bound else entry.read)


def _places(names: Sequence[str]) -> Markup:
    return joined((tag("span", name, class_="place") for name in names), between=" ")


def _rank(origin: str) -> int:
    return 0 if origin in GIVEN else 1 if origin == Origin.EXPERIMENT else _DEFAULT


def source(runs: Sequence[PageRun]) -> Markup | None:
    """Return the origin of the code, and the experiment's module as it was run."""
    omitted = [
        fold(f"{each.prefix}left out of the source", lines(each.record.circumstances.source.left_out[:100]))
        for each in runs
    ]
    return section("Code", facts(runs, "code", _CODE), *omitted, *_modules(runs))


def _modules(runs: Sequence[PageRun]) -> Iterator[Markup | None]:
    """Yield each experiment's module once, with the letters of its runs."""
    for module in dict.fromkeys(each.run.code for each in runs if each.run.code):
        letters = ", ".join(each.letter for each in runs if each.run.code == module)
        suffix = f", as in {letters}" if len(runs) > 1 else ""
        yield fold(f"{module[0]}{suffix}", tag("pre", module[1], class_="code"))
