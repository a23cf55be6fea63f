"""A script as an experiment: its file, its settings, and the command that starts it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.paths import path_fault
from trainer.base.suggestions import nearest
from trainer.data.references import datasets_in, with_folders
from trainer.training.settings import ScriptSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RUN: Final = "{run}"
LIMITS: Final = {
    "resume": "a script has its own loop: a stopped run cannot be resumed, only started again",
    "trace": "no step is seen: a difference is located in the outputs and in the logged results",
    "seed": "its seeds and its clock are its own: `reprise reproduce` tests whether its outputs repeat",
    "export": "not applicable: the net of a script is not known",
}
"""The guarantees that runs of scripts lack, with the reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A training program that is started unchanged."""

    name: str
    file: Path
    settings: type[ScriptSettings] = ScriptSettings

    @property
    def reads_fields(self) -> bool:
        """Whether the package's own steps read the fields of samples: always false."""
        return False

    def datasets(self, settings: ScriptSettings) -> list[str]:
        """Return the names of the datasets that the script's arguments name."""
        return datasets_of(settings)

    def command(self, settings: ScriptSettings, *, output: Path, folders: Mapping[str, Path]) -> list[str]:
        """Return the command that starts the script. Raise `ExperimentError` if the file is not a program."""
        words = [word.replace(_RUN, str(output)) for word in with_folders(settings.arguments, folders)]
        return [*self._program(), *words]

    def _program(self) -> list[str]:
        if self.file.suffix == ".py":
            return [sys.executable, str(self.file)]
        if self.file.suffix in {".sh", ".bash"}:
            return ["bash", str(self.file)]
        if os.access(self.file, os.X_OK):
            return [str(self.file)]
        message = f"script {self.name} is not a program: it ends neither in .py nor in .sh, and is not executable"
        raise ExperimentError(message, hint=f"chmod +x {shlex.quote(self.name)}")


def datasets_of(settings: ScriptSettings) -> list[str]:
    """Return the names of the datasets that a script's arguments name."""
    return datasets_in({"arguments": settings.value_of("arguments")})


def require_placeholders(settings: ScriptSettings) -> None:
    """Raise `SettingError` if an argument has a placeholder similar to `{run}`: the outputs would be written elsewhere."""
    for word in settings.value_of("arguments"):
        for name in re.findall(r"\{(\w+)\}", word):
            if name != "run" and nearest(name.lower(), ["run"]):
                message = f"the script's argument {word!r} contains {{{name}}}, which is not a placeholder"
                raise SettingError(message, hint="did you mean {run}?")


def require_results_path(settings: ScriptSettings) -> None:
    """Raise `SettingError` if `results` cannot be the path of an output."""
    name = settings.value_of("results")
    if name is None:
        return
    below = name.removeprefix(f"{_RUN}/")
    if (fault := path_fault(name)) or below != name:
        reason = fault or f"it begins with {_RUN}"
        message = f"setting results is {name!r}: {reason}; expected a path in the folder of the outputs, {_RUN}"
        usable = below if not path_fault(below) else "metrics.csv"
        raise SettingError(message, hint=f"write --results {shlex.quote(usable)}")


def require_supported(settings: ScriptSettings) -> None:
    """Raise `SettingError` if the settings ask for several devices or shards: a script starts its own processes."""
    for name in ("devices", "shards"):
        if (value := settings.value_of(name)) is not None and value > 1:
            message = f"setting {name} is {value}; a script starts its own processes"
            raise SettingError(message, hint=f"omit --{name}, and use the script's own option")
