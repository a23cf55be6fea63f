"""Facts about all attempts of a run: changes of ingredients, current settings, total duration.

The ingredients of a run never change. The circumstances of an attempt list the changes that the user allowed, after those of earlier
attempts.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.document import json_value
from trainer.base.errors import DocumentError
from trainer.runs.record import RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

    from trainer.runs.record import Record

TO: Final = " -> "


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalDuration:
    """The total duration of a run's attempts."""

    seconds: float
    """The sum of the recorded durations."""
    known: bool
    """Whether all attempts have ended and recorded a duration; a killed attempt records none."""
    attempts: int


def change_line(kind: str, name: str, one: str, other: str) -> str:
    """Return a change in the form in which records list it.

    >>> change_line("setting", "seed", "0", "1")
    'setting seed: 0 -> 1'
    """
    return f"{kind} {name}: {one}{TO}{other}"


def changes(records: Sequence[Record]) -> list[tuple[int, list[str]]]:
    """Return the number of each attempt that changed ingredients, with its own changes. `records` are a run's records, in order."""
    result, count = [], 0
    for record in records:
        lines = record.circumstances.changed
        if new := lines[count:]:
            result.append((record.attempt, new))
        count = len(lines)
    return result


def current_settings(records: Sequence[Record]) -> dict[str, JsonValue]:
    """Return the result settings of the last attempt, with its allowed changes. `records` are a run's records, in order, at least one."""
    last = records[-1]
    lines = dict(changes(records)).get(last.attempt, [])
    values = dict(last.ingredients.settings)
    for name, value in last.ingredients.settings.items():
        prefix = change_line("setting", name, json.dumps(value, ensure_ascii=False), "")
        for line in lines:
            if line.startswith(prefix):
                with suppress(DocumentError):  # another user's record may contain anything
                    values[name] = json_value(line.removeprefix(prefix), where=name)
    return values


def total_duration(records: Sequence[Record], *, died: bool = False) -> TotalDuration:
    """Return the total duration of a run's attempts. `died`: the last attempt was killed, but its record has status `running`."""
    last = records[-1]
    spans = [record.circumstances.timing.seconds for record in records]
    is_running = last.outcome.status is RunStatus.RUNNING and not died
    durations = spans[:-1] if is_running else spans
    is_complete = None not in durations and len(records) == last.attempt and not is_running
    return TotalDuration(
        seconds=sum(span for span in durations if span is not None), known=is_complete, attempts=last.attempt
    )


def failed_before_first_step(record: Record) -> bool:
    """Return whether a run, of which `record` is the last record, failed before its first step."""
    return record.outcome.status is RunStatus.FAILED and record.outcome.steps == 0
