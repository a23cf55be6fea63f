"""Names of runs on the command line: an ID, a prefix of an ID, `latest`, or a folder.

An ID begins with the start time, so the last ID in alphabetical order is the latest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RunNotFoundError, UsageError
from trainer.base.suggestions import nearest
from trainer.runs.run_id import is_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

LATEST: Final = "latest"
_NAMED: Final = 3
"""Maximum number of matching runs that an error names."""


def resolve_run(word: str, ids: Collection[str], *, passed: Callable[[str], bool] | None = None) -> str:
    """Return the ID in `ids` that `word` names; `latest` skips IDs for which `passed` is true, unless it is true for all IDs.

    Raise `RunNotFoundError`, with similar IDs in its hint, if no ID matches, `UsageError` if several IDs match.

    >>> resolve_run("2026", ["20260301t120005-abcdef"])
    '20260301t120005-abcdef'
    """
    name = word.rstrip("/").rpartition("/")[2]
    ordered = sorted(ids)
    if name == LATEST and ordered:
        return next((run for run in reversed(ordered) if passed is None or not passed(run)), ordered[-1])
    matches = [run for run in ordered if run.startswith(name)] if name else []
    if len(matches) > 1:
        listed = f"{':' if len(matches) <= _NAMED else '; the newest are'} {', '.join(matches[-_NAMED:])}"
        raise UsageError(f"{word!r} matches {len(matches)} runs{listed}", hint="type more characters of the ID")
    if not matches:
        raise RunNotFoundError(f"no run is called {word!r}", hint=_hint(name, ordered))
    return matches[0]


def start_time(run: str) -> datetime:
    """Return when a run began, by the clock of its machine; the largest datetime if the ID contains no valid time.

    >>> start_time("20260301t120005-abcdef").isoformat()
    '2026-03-01T12:00:05+00:00'
    """
    try:
        return datetime.strptime(run[:15], "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def full_run_id(word: str) -> str | None:
    """Return the complete run ID in `word`, an ID or a folder's path; `None` if it has none. The run need not be on this machine."""
    name = word.rstrip("/").rpartition("/")[2]
    return name if is_run_id(name) else None


def _hint(name: str, ids: list[str]) -> str:
    if not ids:
        return "there are no runs yet: `reprise train --exp digits` starts one"
    similar = nearest(name, ids)
    return (
        f"did you mean {' or '.join(similar)}?" if similar else f"`reprise runs ls` lists runs; the newest is {ids[-1]}"
    )
