"""The attempts of one run, held together: what each had otherwise than the ingredients, what holds now, how long all took.

Knows how an attempt keeps its changes: a line each in its circumstances, after those of the attempts before it. Refuses to change an
ingredient: these are what the run began with, whatever was allowed since.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.document import json_value
from trainer.base.errors import DocumentError
from trainer.runs.record import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from trainer.runs.record import Record

TO: Final = " -> "


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """How long attempts took together."""

    seconds: float
    """Of those that say it."""
    known: bool
    """Whether all of them say it: one that was killed does not."""
    attempts: int


def worded(kind: str, name: str, one: str, other: str) -> str:
    """Write a change as records keep it.

    >>> worded("setting", "seed", "0", "1")
    'setting seed: 0 -> 1'
    """
    return f"{kind} {name}: {one}{TO}{other}"


def changes(records: Sequence[Record]) -> list[tuple[int, list[str]]]:
    """Each attempt that had something otherwise than the ingredients say, and what; `records` are a run's, in order."""
    found, before = [], 0
    for record in records:
        lines = record.circumstances.changed
        if own := lines[before:]:
            found.append((record.attempt, own))
        before = len(lines)
    return found


def settings_now(records: Sequence[Record]) -> dict[str, JsonValue]:
    """The settings that bear on the result, as the last attempt has them. `records` are a run's, in order, at least one."""
    last = records[-1]
    own = dict(changes(records)).get(last.attempt, [])
    values = dict(last.ingredients.settings)
    for name, value in last.ingredients.settings.items():
        begins = worded("setting", name, json.dumps(value, ensure_ascii=False), "")
        for line in own:
            if line.startswith(begins):
                with suppress(DocumentError):  # a stranger's record may say anything
                    values[name] = json_value(line.removeprefix(begins), where=name)
    return values


def took(records: Sequence[Record], *, died: bool = False) -> Took:
    """How long a run's attempts took together; the last one counts as killed where it `died`, and is unfinished where it runs."""
    last = records[-1]
    spans = [record.circumstances.timing.seconds for record in records]
    runs = last.outcome.status is Status.RUNNING and not died
    counted = spans[:-1] if runs else spans
    known = None not in counted and len(records) == last.attempt and not runs
    return Took(seconds=sum(span for span in counted if span is not None), known=known, attempts=last.attempt)


def made_no_step(record: Record) -> bool:
    """Whether a run failed before its first step, as its last record tells: there is nothing of it but the reason."""
    return record.outcome.status is Status.FAILED and record.outcome.steps == 0
