"""Options of a command whose names are also settings of the experiment."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import ExperimentError, RepriseError, UsageError
from trainer.base.plain_text import read_python
from trainer.base.suggestions import short
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import find_experiment
from trainer.settings.hints import option
from trainer.settings.names import OPTIONS
from trainer.training.declared_settings import sketched

if TYPE_CHECKING:
    from collections.abc import Sequence


def report_shared_options(command: str, argv: Sequence[str], experiment: str) -> None:
    """Print a line for each option in `argv` that is both the command's option and a setting of the experiment.

    Raise `UsageError` if the word parsed as the experiment is the value of a setting.
    """
    _require_experiment(command, argv, experiment)
    given = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    for name in sorted(given & {*OPTIONS[command]} & _own_settings(experiment)):
        message = f"{option(name)} is read as the option of reprise {command}"
        hint = f"to give the setting {name} of {experiment}, use a file: --settings FILE.toml"
        print(f"{message}; {hint}", file=sys.stderr)


def _require_experiment(command: str, argv: Sequence[str], experiment: str) -> None:
    before = next((before for before, word in pairwise(argv) if word == experiment), "")
    if not before.startswith("--") or "=" in before or before[2:].replace("-", "_") in OPTIONS[command]:
        return
    try:
        find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
    except ExperimentError as fault:
        message = f"reprise {command} needs an experiment; {short(experiment)} is the value of {before}"
        raise UsageError(message, hint=f"write reprise {command} EXPERIMENT {before} {short(experiment)}") from fault


def _own_settings(experiment: str) -> set[str]:
    """Return the settings that the experiment's text declares; empty if it cannot be read, which the command reports."""
    try:
        place = find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
        sketch = sketched(read_python(place.outside or CHECKOUT / place.file))
    except (RepriseError, OSError, SyntaxError, ValueError):
        return set()
    return set() if sketch is None else {*sketch.settings.__pydantic_fields__}
