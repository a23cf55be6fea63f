"""The head of a report: the runs, their status, and their results.

Runs are named by letters and by the settings in which they differ. Runs are not ranked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.cli.report.parts import Row, badge, code, digest, fold, number, pairs, rows_table, section
from trainer.cli.run_page import spent
from trainer.reporting.drawing.markup import Markup, cut, joined, tag
from trainer.runs.attempts import settings_now
from trainer.runs.metric_text import metric_text
from trainer.runs.record import Status
from trainer.settings.fields import GIVEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from trainer.reporting.gather import Gathered
    from trainer.runs.record import Record

_TONES = {
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.INTERRUPTED: "fair",
    Status.PREEMPTED: "fair",
    Status.RUNNING: "plain",
}
_LABEL = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A run on a page, with its letter."""

    letter: str
    run: Gathered
    label: str
    """The letter, and the run's description in a legend."""
    alone: bool = False
    """Whether it is the page's only run."""

    @property
    def prefix(self) -> str:
        """The prefix of headings about this run; empty if it is the only run."""
        return "" if self.alone else f"{self.letter}: "

    @property
    def record(self) -> Record:
        """The record of the last attempt."""
        return self.run.side.record

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all attempts, in order."""
        return (*self.run.earlier, self.record)

    @property
    def values(self) -> dict[str, JsonValue]:
        """The value of every setting in the last attempt."""
        return {**settings_now(self.records), **self.record.circumstances.execution}

    @property
    def took(self) -> str:
        """The duration of all attempts together."""
        return spent(self.records, died=self.run.died)


def lettered(runs: Sequence[Gathered]) -> list[Shown]:
    """Assign each run a letter and the settings in which it differs from the others; the end of its id if it differs in none."""
    records = [run.side.record for run in runs]
    values = [settings_now((*run.earlier, run.side.record)) for run in runs]
    names = sorted({name for each in values for name in each})
    apart = [name for name in names if len({str(each.get(name)) for each in values}) > 1]
    given = [name for name in apart if any(record.circumstances.origins.get(name) in GIVEN for record in records)]
    shown = []
    for place, (run, record, each) in enumerate(zip(runs, records, values, strict=True)):
        letter = chr(65 + place) if place < 26 else f"#{place + 1}"  # noqa: PLR2004 - letters
        told = ", ".join(f"{name} {number(each.get(name))}" for name in (given or apart)[:3]) or record.run[-6:]
        shown.append(Shown(letter=letter, run=run, alone=len(runs) == 1, label=f"{letter}: {cut(told, _LABEL)}"))
    return shown


def state(run: Gathered) -> Markup:
    """Return a run's status as a badge."""
    status = run.side.record.outcome.status
    return badge("killed", "bad") if run.died else badge(status.value, _TONES[status])


def heading(shown: Sequence[Shown]) -> Markup:
    """Return the page's title: the experiment, the status and the runs."""
    experiments = list(dict.fromkeys(each.record.ingredients.experiment for each in shown))
    title = ", ".join(experiments[:4])
    if len(shown) == 1:
        return tag("header", tag("h1", title, " ", state(shown[0].run)), _under(shown[0]))
    return tag("header", tag("h1", f"{len(shown)} runs of {title}"))


def _under(one: Shown) -> Markup:
    record, timing = one.record, one.records[0].circumstances.timing
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    took = f", took {one.took}" if one.took else ""
    when = f"{timing.started:%Y-%m-%d %H:%M:%S} UTC{took}"
    reason = record.outcome.reason
    return joined(
        [
            tag("p", tag("code", record.run), attempt, " · ", when, class_="under"),
            tag("p", code(" ".join(record.circumstances.command)), class_="command"),
            tag("p", reason, class_="reason") if reason else None,
        ]
    )


def result(shown: Sequence[Shown]) -> Markup | None:
    """Return the results: large numbers for one run, one column per run for several."""
    if len(shown) == 1:
        tested = tested_weights(shown[0])
        said = tag("p", f"Tested weights: {tested}.", class_="quiet") if tested else None
        return section("Result", _tiles(shown[0].record), said, _also(shown[0].record))
    names = sorted({name for each in shown for name in each.record.outcome.metrics}, key=_order)
    rows = [
        Row(name="run", cells=tuple(tag("code", each.record.run) for each in shown)),
        Row(name="status", cells=tuple(state(each.run) for each in shown), merged=False),
        *(Row(name=name, cells=tuple(_metric(each.record, name) for each in shown)) for name in names),
        Row(name="tested weights", cells=tuple(tested_weights(each) for each in shown), merged=False),
        Row(name="steps", cells=tuple(each.record.outcome.steps or "" for each in shown)),
        Row(name="took", cells=tuple(each.took for each in shown)),
        Row(name="weights", cells=tuple(digest(each.record.outcome.weights) or "" for each in shown)),
        Row(name="identity", cells=tuple(digest(each.record.identity) or "" for each in shown)),
        Row(name="reason", cells=tuple(each.record.outcome.reason or "" for each in shown)),
    ]
    kept = [row for row in rows if any(str(cell) for cell in row.cells)]
    return section("Result", rows_table(kept, [each.letter for each in shown], corner="result"))


def tested_weights(one: Shown) -> str:
    """Return the epoch and step of the tested weights and why they were chosen; empty without a test or for an older record."""
    tested = one.record.outcome.evaluated
    if tested is None:
        return ""
    values = one.values
    monitor, mode = values.get("monitor"), values.get("monitor_mode")
    why = f"{mode} {monitor}" if monitor else "the last"
    average = ", averaged" if values.get("ema_decay") else ""
    return f"epoch {tested.epoch}, step {tested.step:,} ({why}{average})"


def _order(name: str) -> tuple[bool, str]:
    return not name.startswith("test"), name


def _metric(record: Record, name: str) -> str:
    found = record.outcome.metrics.get(name)
    return "" if found is None else _undefined(record, name) or number(found)


def _undefined(record: Record, name: str) -> str | None:
    why = record.outcome.undefined.get(name)
    return None if why is None else f"undefined ({why})"


def _tiles(record: Record) -> Markup | None:
    metrics = record.outcome.metrics
    tested = {name: metric for name, metric in metrics.items() if name.startswith("test")} or metrics
    tiles = [
        tag(
            "div",
            tag("dt", name.replace("_", " ")),
            tag("dd", _tile(record, name, found), title=_undefined(record, name)),
        )
        for name, found in sorted(tested.items())[:8]
    ]
    return tag("dl", *tiles, class_="tiles") if tiles else tag("p", "There is no result.", class_="quiet")


def _tile(record: Record, name: str, found: JsonValue) -> str:
    if name in record.outcome.undefined:
        return "undefined"
    return metric_text(found) if isinstance(found, float) else number(found)


def _also(record: Record) -> Markup | None:
    outcome = record.outcome
    items: list[tuple[str, object]] = [
        (name, tag("code", _undefined(record, name) or (repr(found) if isinstance(found, float) else number(found))))
        for name, found in sorted(outcome.metrics.items(), key=lambda item: _order(item[0]))
    ]
    more = [("steps", outcome.steps), ("weights", digest(outcome.weights)), ("identity", digest(record.identity))]
    return fold("At full precision", pairs([*items, *more]))
