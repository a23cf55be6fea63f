"""`reprise train --resume-or-begin RUN`: the same command begins a run, and resumes it after it was stopped, killed or moved.

A job that a scheduler starts again, perhaps on other machines, runs this command each time. On several machines only node 0 has the run.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ResumeError, RunNotFoundError, UsageError
from trainer.base.safe_folder import Root
from trainer.cli.configuration import runs_folder
from trainer.cli.find_run import find_published_run, pull_later_attempts
from trainer.cli.nodes import read_node
from trainer.cli.output import one_line
from trainer.cli.train.command_line import OF_RESUMING
from trainer.runs.record import RunStatus
from trainer.runs.resume import close_lost
from trainer.runs.run import record_of, recorded_attempts
from trainer.runs.run_id import is_run_id, new_run_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.settings.origins import Options

OPTION: Final = "resume-or-begin"
NAME: Final = "resume_or_begin"
_OF_BEGINNING: Final = ("exp", "settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """The decision of `--resume-or-begin`: the run begins, is resumed, or is completed."""

    argv: list[str]
    """The command line that begins the run, or resumes it."""
    run: str | None = None
    """The run to begin, whose folder exists; `None` if it is resumed, or if this is a machine other than node 0."""
    is_completed: bool = False
    """Whether the run is completed, so that nothing is left to do."""


def resume_or_begin(argv: Sequence[str], options: Options) -> Continuation:
    """Decide whether the run begins or is resumed; create the folder of a new run, and pull later attempts from the store.

    Raise `UsageError` for invalid options, `ResumeError` for another experiment, `RunError` if the run is still running, `StoreError` if
    the store cannot be read.
    """
    run = _require_valid(options)
    begins = _without(argv, {NAME, *OF_RESUMING})
    if options.keys() & {"help", "print_settings"}:
        return Continuation(argv=begins)
    if (node := read_node(os.environ)) is not None and node.node > 0:
        return Continuation(argv=begins)
    folder = runs_folder() / run
    if not recorded_attempts(folder):
        try:
            find_published_run(run)
        except RunNotFoundError:
            with disk_faults(folder), Root.at(runs_folder(), make=True) as runs:
                runs.below(run, make=True).close()
            return Continuation(argv=begins, run=run)
    else:
        pull_later_attempts(folder)
    record = record_of(folder)
    if record.outcome.status is RunStatus.COMPLETED:
        print(f"run {run} is completed: nothing is left to do", file=sys.stderr)
        return Continuation(argv=begins, is_completed=True)
    _require_same_experiment(folder, record.ingredients.experiment, options["exp"] or "")
    for lost in close_lost(folder):
        line = f"attempt {lost.attempt} ended without closing its record, on host {lost.circumstances.host.name}"
        print(one_line(line), file=sys.stderr)
    return Continuation(argv=["--resume", run, *_without(argv, {NAME, *_OF_BEGINNING})])


def _require_valid(options: Options) -> str:
    run = options[NAME] or ""
    if not is_run_id(run):
        message = f"--{OPTION} is {run!r}; expected the ID of a new or an existing run"
        raise UsageError(message, hint=f"--{OPTION} {new_run_id()}")
    if "resume" in options:
        raise UsageError(f"--resume cannot be used with --{OPTION}", hint=f"remove --resume or --{OPTION}")
    if "script" in options:
        message = f"found --{OPTION} with --script: a script has its own loop, so it cannot be resumed"
        raise UsageError(message, hint=f"remove --{OPTION}")
    if "exp" not in options:
        raise UsageError(f"--{OPTION} needs the words that begin the run", hint=f"--{OPTION} {run} --exp EXPERIMENT")
    return run


def _require_same_experiment(folder: Path, recorded: str, typed: str) -> None:
    """Raise `ResumeError` if `typed` is another experiment than `recorded`; only the last parts of their paths are compared."""
    if recorded.rpartition("/")[2].removesuffix(".py") != typed.rpartition("/")[2].removesuffix(".py"):
        message = f"run {folder.name} trains {recorded}, but --exp is {typed}"
        raise ResumeError(message, hint=f"for another experiment use another ID: --{OPTION} {new_run_id()}")


def _without(argv: Sequence[str], names: set[str]) -> list[str]:
    """Return a command line without the options `names` and their values; `--trust` has no value."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        name, is_joined, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name.replace("-", "_") not in names:
            kept.append(word)
        elif not is_joined and name != "trust":
            next(words, None)
    return kept
