"""Resolves the word that names a run; `latest` is the newest run that the user trained on this machine.

`latest` skips runs of `reproduce`, `certify` and `noise`, runs made elsewhere (not in the register), runs in the store only, and runs
that failed before their first step, and reports the skipped runs on stderr. It reports nothing if it is the newest run and completed.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from trainer.cli.configuration import runs_folder
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
_NAMED: Final = 3
"""Maximum number of skipped runs that are named."""
RUN_HELP: Final = "a run's id or the beginning of one, `latest`, or a run's folder"
"""The help text of an argument that names a run."""


def named(word: str, known: Collection[str]) -> str:
    """Return the id among `known` that `word` names; report `latest` on stderr if it is not the newest or did not complete.

    Raise `RunNotFoundError`, `UsageError`.
    """
    run = resolve_run(word, known, passed=lambda each: bool(_skip_reason(each)))
    if word == LATEST and (description := _description(run, sorted(other for other in known if other > run))):
        print(f"latest is {description}", file=sys.stderr)
    return run


def _skip_reason(run: str) -> str | None:
    """Return why `latest` skips a run; `None` for a run that the user trained here."""
    folder = runs_folder() / run
    listed = local_run(runs_folder(), run)
    for passed, reason in (
        (start_time(run) > datetime.now(UTC) + _AHEAD, "date in the future: a clock was wrong"),
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


def _description(run: str, newer: Collection[str]) -> str:
    """Describe `latest` if it is not the newest run or did not complete; else return an empty text."""
    reason, listed = _skip_reason(run), local_run(runs_folder(), run)
    completed = listed.record is not None and listed.record.outcome.status is Status.COMPLETED
    if completed and not newer and reason is None:
        return ""
    how = reason or status(listed)
    shown = [f"{each} ({_skip_reason(each)})" for each in list(newer)[-_NAMED:]]
    more = f" and {len(newer) - _NAMED} older ones" if len(newer) > _NAMED else ""
    return f"run {run} ({how})" + (f"; skipped: {', '.join(shown)}{more}" if shown else "")
