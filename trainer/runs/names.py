"""How a person names a run: its id, the beginning of one, `latest`, or its folder.

Knows spelling only. An id begins with its time, so the last in alphabetical order is the latest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RunNotFoundError, UsageError
from trainer.base.suggestions import nearest
from trainer.runs.record import is_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

LATEST: Final = "latest"


def resolve_run(word: str, known: Collection[str], *, passed: Callable[[str], bool] | None = None) -> str:
    """The one of the `known` ids that `word` means; `latest` passes over those that are `passed`, unless all are.

    Raises `RunNotFoundError` with the nearest, `UsageError` for several.

    >>> resolve_run("2026", ["20260301t120005-abcdef"])
    '20260301t120005-abcdef'
    """
    name = word.rstrip("/").rpartition("/")[2]
    ids = sorted(known)
    if name == LATEST and ids:
        return next((run for run in reversed(ids) if passed is None or not passed(run)), ids[-1])
    found = [run for run in ids if run.startswith(name)] if name else []
    if len(found) > 1:
        shown = ", ".join(found[-3:])
        raise UsageError(f"{word!r} is the beginning of {len(found)} runs: {shown}", hint="type more of it")
    if not found:
        raise RunNotFoundError(f"no run is called {word!r}", hint=_hint(name, ids))
    return found[0]


def began(run: str) -> datetime:
    """When a run began, by the clock of its machine; the end of all time for an ID that names no moment.

    >>> began("20260301t120005-abcdef").isoformat()
    '2026-03-01T12:00:05+00:00'
    """
    try:
        return datetime.strptime(run[:15], "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def whole_id(word: str) -> str | None:
    """The id that `word` spells in full, which may be known elsewhere."""
    name = word.rstrip("/").rpartition("/")[2]
    return name if is_run_id(name) else None


def _hint(name: str, ids: list[str]) -> str:
    if not ids:
        return "there is none yet: `reprise train --exp digits` makes one"
    close = nearest(name, ids)
    return f"did you mean {' or '.join(close)}?" if close else f"`reprise runs ls` lists them; the newest is {ids[-1]}"
