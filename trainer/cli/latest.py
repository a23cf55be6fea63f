"""Which run a word names, where it may be `latest`: the newest that made a step, said where that is not what one would think.

Knows that a run which failed before its first step is not what anybody means, and that one which did not complete may not be. Refuses to
say a word where `latest` is the newest run and completed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from trainer.actions.list_runs import local_run
from trainer.attempts import made_no_step
from trainer.cli.places import runs_folder
from trainer.cli.run_page import status
from trainer.record import Status
from trainer.run_names import LATEST, resolve_run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trainer.actions.list_runs import Listed

_FEW: Final = 3
"""Runs that were passed over, of which each is named."""


def named(word: str, known: Collection[str]) -> str:
    """The one of the `known` ids that `word` means; of `latest` is said which, where it is not the newest or did not complete.

    Raises `RunNotFoundError`, `UsageError`.
    """
    run = resolve_run(word, known, idle=_is_idle)
    if word == LATEST:
        passed = sorted(other for other in known if other > run)
        if said := told(local_run(runs_folder(), run), passed=passed):
            print(f"latest is {said}", file=sys.stderr)
    return run


def told(listed: Listed, *, passed: Sequence[str]) -> str:
    """Say what `latest` is, where a person might think it were another one, or done; nothing otherwise, nor of one that is not here."""
    if listed.record is None or (listed.record.outcome.status is Status.COMPLETED and not passed):
        return ""
    over = f"; passed over, failed before its first step: {', '.join(passed[-_FEW:])}" if passed else ""
    return f"run {listed.run} ({status(listed)}){over}"


def _is_idle(run: str) -> bool:
    record = local_run(runs_folder(), run).record
    return record is not None and made_no_step(record)
