"""Options of a command that takes an experiment and its settings: which words are the command's, the experiment and settings."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import ExperimentError, RepriseError, UsageError
from trainer.base.plain_text import read_python
from trainer.base.suggestions import short
from trainer.cli.experiments import find_experiment
from trainer.cli.places import CHECKOUT
from trainer.settings.hints import option
from trainer.settings.names import OPTIONS
from trainer.training.sketch import sketched

if TYPE_CHECKING:
    from collections.abc import Sequence


def report_shared_options(command: str, argv: Sequence[str], experiment: str) -> None:
    """Print a line for each option in `argv` that is the command's own and that the experiment has a setting for, too.

    Raises `UsageError` if what was taken for the experiment is the value of a setting.
    """
    _require_experiment(command, argv, experiment)
    given = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    for name in sorted(given & {*OPTIONS[command]} & _own_settings(experiment)):
        said = (
            f"{option(name)} is the option of reprise {command} here; give the setting {name} of {experiment} in a file"
        )
        print(f"{said}: --settings FILE.toml", file=sys.stderr)


def _require_experiment(command: str, argv: Sequence[str], experiment: str) -> None:
    before = next((before for before, word in pairwise(argv) if word == experiment), "")
    if not before.startswith("--") or "=" in before or before[2:].replace("-", "_") in OPTIONS[command]:
        return
    try:
        find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
    except ExperimentError as fault:
        said = f"reprise {command} needs an experiment; {short(experiment)} is the value of {before}"
        raise UsageError(said, hint=f"write reprise {command} EXPERIMENT {before} {short(experiment)}") from fault


def _own_settings(experiment: str) -> set[str]:
    """The settings that the experiment's text declares; none if it cannot be read, which the command itself reports."""
    try:
        place = find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
        sketch = sketched(read_python(place.outside or CHECKOUT / place.file))
    except (RepriseError, OSError, SyntaxError, ValueError):
        return set()
    return set() if sketch is None else {*sketch.settings.__pydantic_fields__}
