"""The head of a report: the runs, their status and results, and their comparisons with other runs: verdicts, retests, certificates.

Runs are named by letters and by the settings in which they differ. Runs are not ranked. Signatures of certificates are not verified here,
and the report states this.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.cli.formatting import duration_text
from trainer.cli.report.elements import (
    TableRow,
    badge,
    code,
    diff,
    digest,
    fold,
    lines,
    number,
    pairs,
    rows_table,
    section,
    table,
)
from trainer.cli.verify import page as certificate_lines
from trainer.comparison.compare import stronger_verdicts
from trainer.comparison.verdict import VerdictLevel
from trainer.reporting.drawing.markup import Markup, cut, tag
from trainer.runs.attempts import current_settings
from trainer.runs.differences import DifferenceKind
from trainer.runs.metric_text import is_of_test, metric_text
from trainer.runs.record import RunStatus
from trainer.settings.fields import GIVEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from trainer.comparison.compare import Comparison
    from trainer.reporting.run_contents import RunContents
    from trainer.runs.record import Record

_TONES = {RunStatus.COMPLETED: "good", RunStatus.FAILED: "bad", RunStatus.RUNNING: "plain"}
"""The tones of badges; `fair` for any other status."""
_LABEL = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRun:
    """A run on a page, with its letter."""

    letter: str
    run: RunContents
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
        return self.run.compared.record

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all attempts, in order."""
        return (*self.run.earlier, self.record)

    @property
    def values(self) -> dict[str, JsonValue]:
        """The value of every setting in the last attempt."""
        return {**current_settings(self.records), **self.record.circumstances.execution}

    @property
    def duration(self) -> str:
        """The duration of all attempts together."""
        return duration_text(self.records, died=self.run.died)


def page_runs(runs: Sequence[RunContents]) -> list[PageRun]:
    """Assign each run a letter and the settings in which it differs from other runs, or the end of its ID if no setting differs."""
    records = [run.compared.record for run in runs]
    values = [current_settings((*run.earlier, run.compared.record)) for run in runs]
    names = sorted({name for each in values for name in each})
    differing = [name for name in names if len({str(each.get(name)) for each in values}) > 1]
    chosen = [name for name in differing if any(record.circumstances.origins.get(name) in GIVEN for record in records)]
    result = []
    for index, (run, record, each) in enumerate(zip(runs, records, values, strict=True)):
        letter = chr(65 + index) if index < 26 else f"#{index + 1}"  # noqa: PLR2004 - the letters of the alphabet
        text = ", ".join(f"{name} {number(each.get(name))}" for name in (chosen or differing)[:3]) or record.run[-6:]
        result.append(PageRun(letter=letter, run=run, alone=len(runs) == 1, label=f"{letter}: {cut(text, _LABEL)}"))
    return result


def facts(runs: Sequence[PageRun], corner: str, getters: Mapping[str, Callable[[Record], object]]) -> Markup | None:
    """Return facts of the records as a list for one run, as a table for several; facts that no record has are left out."""
    values = {name: [get(each.record) for each in runs] for name, get in getters.items()}
    present = {name: cells for name, cells in values.items() if any(cell is not None and str(cell) for cell in cells)}
    if len(runs) == 1:
        return pairs((name, cells[0]) for name, cells in present.items())
    rows = [
        TableRow(name=name, cells=tuple("" if each is None else each for each in cells))
        for name, cells in present.items()
    ]
    return rows_table(rows, [each.letter for each in runs], corner=corner)


def _status(run: RunContents) -> Markup:
    status = run.compared.record.outcome.status
    return badge("killed", "bad") if run.died else badge(status.value, _TONES.get(status, "fair"))


def heading(runs: Sequence[PageRun]) -> Markup:
    """Return the page's title: the experiment, the status and the runs."""
    title = ", ".join(list(dict.fromkeys(each.record.ingredients.experiment for each in runs))[:4])
    if len(runs) > 1:
        return tag("header", tag("h1", f"{len(runs)} runs of {title}"))
    run, record, timing = runs[0], runs[0].record, runs[0].records[0].circumstances.timing
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    when = f"{timing.started:%Y-%m-%d %H:%M:%S} UTC{f', took {run.duration}' if run.duration else ''}"
    return tag(
        "header",
        tag("h1", title, " ", _status(run.run)),
        tag("p", tag("code", record.run), attempt, " · ", when, class_="under"),
        tag("p", code(shlex.join(record.circumstances.command)), class_="command"),
        tag("p", record.outcome.reason, class_="reason") if record.outcome.reason else None,
    )


def result(runs: Sequence[PageRun]) -> Markup | None:
    """Return the results: large numbers for one run, a table with one column per run for several runs."""
    if len(runs) == 1:
        tested = tested_weights(runs[0])
        line = tag("p", f"Tested weights: {tested}.", class_="quiet") if tested else None
        return section("Result", _tiles(runs[0].record), line, _full_precision(runs[0].record))
    names = sorted({name for each in runs for name in each.record.outcome.metrics}, key=_order)
    outcomes = [each.record.outcome for each in runs]
    cells: dict[str, list[object]] = {
        "run": [tag("code", each.record.run) for each in runs],
        "status": [_status(each.run) for each in runs],
        **{name: [_metric(each.record, name) for each in runs] for name in names},
        "tested weights": [tested_weights(each) for each in runs],
        "steps": [each.steps or "" for each in outcomes],
        "took": [each.duration for each in runs],
        "weights": [digest(each.weights) or "" for each in outcomes],
        "identity": [digest(each.record.identity) or "" for each in runs],
        "reason": [each.reason or "" for each in outcomes],
    }
    rows = [
        TableRow(name=name, cells=tuple(each), merged=name not in {"status", "tested weights"})
        for name, each in cells.items()
        if any(map(str, each))
    ]
    return section("Result", rows_table(rows, [each.letter for each in runs], corner="result"))


def tested_weights(run: PageRun) -> str:
    """Return the epoch and step of the tested weights and why they were chosen; empty without a test or for an older record."""
    tested = run.record.outcome.evaluated
    if tested is None:
        return ""
    values = run.values
    monitor, mode = values.get("monitor"), values.get("monitor_mode")
    choice = f"{mode} {monitor}" if monitor else "the last"
    average = ", averaged" if values.get("ema_decay") else ""
    return f"epoch {tested.epoch}, step {tested.step:,} ({choice}{average})"


def _order(name: str) -> tuple[bool, str]:
    return not is_of_test(name), name


def _metric(record: Record, name: str) -> str:
    value = record.outcome.metrics.get(name)
    return "" if value is None else _undefined(record, name) or number(value)


def _undefined(record: Record, name: str) -> str | None:
    reason = record.outcome.undefined.get(name)
    return None if reason is None else f"undefined ({reason})"


def _tiles(record: Record) -> Markup | None:
    metrics, tiles = record.outcome.metrics, []
    tested = {name: value for name, value in metrics.items() if is_of_test(name)} or metrics
    for name, value in sorted(tested.items())[:8]:
        text = metric_text(value) if isinstance(value, float) else number(value)
        text = "undefined" if name in record.outcome.undefined else text
        cell = tag("dd", text, title=_undefined(record, name))
        tiles.append(tag("div", tag("dt", name), cell))
    return tag("dl", *tiles, class_="tiles") if tiles else tag("p", "There is no result.", class_="quiet")


def _full_precision(record: Record) -> Markup | None:
    outcome, items = record.outcome, list[tuple[str, object]]()
    for name, value in sorted(outcome.metrics.items(), key=lambda item: _order(item[0])):
        exact = repr(value) if isinstance(value, float) else number(value)
        items.append((name, tag("code", _undefined(record, name) or exact)))
    totals = [("steps", outcome.steps), ("weights", digest(outcome.weights)), ("identity", digest(record.identity))]
    return fold("At full precision", pairs([*items, *totals]))


_LEVELS: Final = dict(zip(VerdictLevel, ("good", "good", "fair", "bad", "plain"), strict=True))
_UNFOLDED: Final = 80
"""The largest number of lines of a diff that is shown unfolded."""


def verdicts(runs: Sequence[PageRun], comparisons: Sequence[Comparison | str]) -> Markup | None:
    """Return the section with verdicts, retests and certificates; `None` without any of them."""
    compared = [
        _verdict(other, comparison, first=runs[0]) for other, comparison in zip(runs[1:], comparisons, strict=True)
    ]
    return section("Comparison", *compared, *(part for each in runs for part in _documents(each)))


def _verdict(other: PageRun, comparison: Comparison | str, *, first: PageRun) -> Markup:
    title = f"{first.letter} and {other.letter} "
    if isinstance(comparison, str):
        return tag("article", tag("h3", title, badge("not compared", "plain")), tag("p", comparison))
    level = comparison.verdict.level
    unmet = [(stronger.value, requirement) for stronger, requirement in stronger_verdicts(comparison).items()]
    return tag(
        "article",
        tag("h3", title, badge(level.value, _LEVELS[level])),
        tag("p", comparison.verdict.reason),
        *_first_differences(comparison),
        *_candidates(comparison, (first.letter, other.letter)),
        fold("For a stronger verdict", pairs(unmet)),
        lines(comparison.notes, kind="quiet"),
    )


def _first_differences(comparison: Comparison) -> Iterator[Markup]:
    if divergence := comparison.divergence:
        tensor = f", {divergence.tensor}" if divergence.tensor else ""
        location = f"step {divergence.step}, {divergence.stream}{tensor}"
        values = f"{divergence.quantity or 'fingerprint'} {cut(divergence.a, 40)} and {cut(divergence.b, 40)}"
        yield tag("p", f"First difference: {location} ({values}).")
    if (weights := comparison.weights) and weights.differing:
        names = ", ".join(cut(tensor.name, 60) for tensor in weights.differing[:3])
        others = " and others" if len(weights.differing) > 3 else ""  # noqa: PLR2004 - the tensors that are named
        yield tag("p", f"{len(weights.differing)} of {weights.tensors} tensors differ: {names}{others}.")


def _candidates(comparison: Comparison, letters: tuple[str, str]) -> Iterator[Markup | None]:
    """Yield the differing ingredients and circumstances, with the diff of the code: candidates, not causes."""
    rows = []
    for each in comparison.candidates[:200]:
        name, kind = "" if each.name == each.kind else each.name, "" if each.ingredient else "circumstance"
        rows.append((each.kind.value, name, code(each.a), code(each.b), kind))
    nothing = tag("p", "All ingredients and circumstances are equal.", class_="quiet")
    yield table(("what", "name", *letters, ""), rows, label="what differs") or nothing
    for each in comparison.candidates:
        if each.inside:
            is_open = each.kind is DifferenceKind.CODE and len(each.inside) <= _UNFOLDED
            yield fold(f"{each.kind}: {cut(each.inside[0], 120)}", diff(each.inside), opened=is_open)


def _documents(run: PageRun) -> Iterator[Markup | None]:
    rows = [
        (
            f"{run.prefix}run again",
            badge(each.verdict, "good" if each.confirms else "bad"),
            each.device,
            each.image.value,
            f"{each.when:%Y-%m-%d %H:%M} UTC",
            tag("code", each.retest.run),
        )
        for each in run.run.retests
    ]
    yield table(("retest", "verdict", "device", "image", "when", "run"), rows, label="retests")
    for certificate in run.run.certificates:
        predicate = certificate.statement.predicate
        holds = badge("holds", "good") if predicate.holds else badge("does not hold", "bad")
        signed = (
            "signed; the signature was not checked" if certificate.signed else "unsigned: its author is not verified"
        )
        text = "\n".join(certificate_lines(certificate.statement))
        path = f"runs/{run.record.run}/{certificate.file}"
        yield tag(
            "article",
            tag("h3", f"{run.prefix}certificate: {predicate.claim} ", holds),
            tag("p", tag("code", path), f", {signed}. ", tag("code", f"scripts/reprise verify {path}")),
            fold("What it states", tag("pre", text)),
        )
