"""Options of a command that an experiment has a setting of the same name for: the command's option is meant, and a line says so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.experiments import find_experiment
from trainer.cli.places import CHECKOUT
from trainer.errors import RepriseError
from trainer.setting_hints import option
from trainer.setting_names import OPTIONS
from trainer.training.sketch import sketched

if TYPE_CHECKING:
    from collections.abc import Sequence


def report_shared_options(command: str, argv: Sequence[str], experiment: str) -> None:
    """Print a line for each option in `argv` that is the command's own and that the experiment has a setting for, too."""
    given = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    for name in sorted(given & {*OPTIONS[command]} & _own_settings(experiment)):
        said = (
            f"{option(name)} is the option of reprise {command} here; give the setting {name} of {experiment} in a file"
        )
        print(f"{said}: --settings FILE.toml", file=sys.stderr)


def _own_settings(experiment: str) -> set[str]:
    """The settings that the experiment's text declares; none if it cannot be read, which the command itself reports."""
    try:
        place = find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
        sketch = sketched((place.outside or CHECKOUT / place.file).read_text(encoding="utf-8"))
    except (RepriseError, OSError, ValueError):
        return set()
    return set() if sketch is None else {*sketch.settings.__pydantic_fields__}
