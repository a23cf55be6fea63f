"""Which run a word names if it may be `latest`: the newest of the user's own runs on this machine.

A run that `reproduce`, `certify` or `noise` made, one that was made elsewhere (it is not in the register), one in the store only, and
one that failed before its first step are passed over, and a line says so. Nothing is said if `latest` is the newest of all and completed.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from trainer.cli.places import runs_folder
from trainer.cli.run_page import status
from trainer.cli.trust import own_attempts_of
from trainer.runs.attempts import failed_before_first_step
from trainer.runs.list import local_run
from trainer.runs.names import LATEST, resolve_run, start_time
from trainer.runs.record import Status

if TYPE_CHECKING:
    from collections.abc import Collection

_AHEAD: Final = timedelta(days=1)
"""How far another machine's clock may be ahead of this machine's."""
_FEW: Final = 3
"""Runs that were passed over, of which each is named."""


def named(word: str, known: Collection[str]) -> str:
    """The one of the `known` ids that `word` means; a line says which `latest` is, if it is not the newest or did not complete.

    Raises `RunNotFoundError`, `UsageError`.
    """
    run = resolve_run(word, known, passed=lambda each: bool(passed_because(each)))
    if word == LATEST and (said := told(run, sorted(other for other in known if other > run))):
        print(f"latest is {said}", file=sys.stderr)
    return run


def passed_because(run: str) -> str | None:
    """Why a run is not what `latest` means; `None` for one that the user trained here."""
    folder = runs_folder() / run
    listed = local_run(runs_folder(), run)
    for passed, reason in (
        (start_time(run) > datetime.now(UTC) + _AHEAD, "of the future: a clock was wrong"),
        (not folder.is_dir(), "in the store only"),
        ((record := listed.record) is None, status(listed)),
    ):
        if passed:
            return reason
    if record is None:
        return None
    around = record.circumstances
    if around.retest_of:
        return f"retest of {around.retest_of}"
    if around.purpose:
        return f"made by {around.purpose}"
    if not own_attempts_of(folder):
        return "made elsewhere"
    return "failed before its first step" if failed_before_first_step(record) else None


def told(run: str, newer: Collection[str]) -> str:
    """Say what `latest` is if it may be another run than a user thinks, or has not completed; nothing otherwise."""
    reason, listed = passed_because(run), local_run(runs_folder(), run)
    completed = listed.record is not None and listed.record.outcome.status is Status.COMPLETED
    if completed and not newer and reason is None:
        return ""
    how = reason or status(listed)
    shown = [f"{each} ({passed_because(each)})" for each in list(newer)[-_FEW:]]
    more = f" and {len(newer) - _FEW} older ones" if len(newer) > _FEW else ""
    return f"run {run} ({how})" + (f"; passed over: {', '.join(shown)}{more}" if shown else "")
