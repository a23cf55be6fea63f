"""The command line of `reprise train`: parsing, and rejecting wrong settings before the experiment and torch are imported.

Settings that the experiment's text does not determine are checked by the training process.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ExperimentError, RepriseError, SettingError, UsageError
from trainer.base.plain_text import read_python
from trainer.base.suggestions import listed, nearest, short
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import (
    ExperimentFile,
    experiment_names,
    find_experiment,
    find_script,
    nearest_experiment,
)
from trainer.cli.messages import is_composed
from trainer.cli.train.edit_arguments import with_arguments, with_paths_of_project, with_settings_files
from trainer.data.check_pairing import check_pairing
from trainer.data.declaration import load_dataset
from trainer.data.references import datasets_by_role
from trainer.settings import errors as setting_faults
from trainer.settings.declarations import OPTIONS, unnamable
from trainer.settings.fields import LaunchSettings
from trainer.settings.hints import option
from trainer.settings.origins import Origins, parse_options, resolve, setting_options, settings_names
from trainer.settings.settings_file import find_settings_files
from trainer.settings.shards import require_shards
from trainer.source.project import frozen_project, require_own_modules
from trainer.training.declared_settings import misnamed, sketched, sketched_in, untyped
from trainer.training.unused_settings import parameter, unused_given_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.source.capture import SourceBundle


OF_RESUMING: Final = ("allow", "trust", "grant")
"""Options that have no effect on a new run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """A parsed command line of `reprise train`."""

    argv: list[str]
    """The arguments, with absolute paths of settings files."""
    experiment: ExperimentFile
    settings: LaunchSettings
    origins: Origins
    is_script: bool = False
    describes: bool = False
    """Whether the settings are listed, with `--help` or `--print-settings`, and nothing is trained."""


def check_arguments(argv: list[str]) -> int:
    """Raise the error that `train` would raise for wrong arguments; scripts/train runs this hidden command before it builds an image."""
    argv = with_arguments(argv)
    options = parse_train_options(argv)
    if options.keys() & {"exp", "script"} or not options.keys() & {"help", "resume"}:
        parse_train_request(argv)
    return 0


def parse_train_options(argv: Sequence[str]) -> dict[str, str | None]:
    """Split a command line into options; the error for a missing `--exp` has the likely experiment as its hint."""
    try:
        return parse_options(["--help" if word == "-h" else word for word in argv])
    except UsageError as fault:
        near = next((name for word in argv if (name := nearest_experiment(word, checkout=CHECKOUT))), None)
        if near is None or any(word.partition("=")[0] == "--exp" for word in argv):
            raise
        raise UsageError(fault.message, hint=f"did you mean --exp {shlex.quote(near)}?") from fault


def parse_train_request(
    argv: list[str], *, root: Path = CHECKOUT, copies: Path | None = None, command: str = "train"
) -> TrainRequest:
    """Parse a command line for the source in `root`; `copies` is the folder of a run with a copy of the experiment.

    A misspelled option may be an option of the command that the user typed, `command`.

    Raise `UsageError` for an invalid command line, `ExperimentError` for an experiment that is not found or not valid, `SettingError` for
    wrong settings, `DatasetError` for an undeclared dataset.
    """
    options = parse_train_options(argv)
    is_script = "script" in options
    if is_script and "exp" in options:
        raise UsageError("--exp cannot be used with --script", hint="remove --exp or --script")
    is_new = "resume_or_begin" not in options and "resume" not in options
    if is_new and (unused := next((each for each in OF_RESUMING if each in options), None)):
        message = f"found {option(unused)} without --resume: a new run executes the code of this checkout"
        raise UsageError(message, hint=f"remove {option(unused)}")
    name = options.get("script" if is_script else "exp")
    if name is None:
        known = listed(experiment_names(root))
        hint = "write --script FILE -- ARGUMENTS" if is_script else f"known: {known}; or the path of a Python file"
        raise UsageError(
            f"train needs {'a file: --script FILE' if is_script else 'an experiment: --exp NAME'}", hint=hint
        )
    experiment = _find_experiment(name, root=root, copies=copies, is_script=is_script)
    argv = with_paths_of_project(argv, options.get("data"), experiment)
    options = parse_train_options(argv)
    files = find_settings_files(settings_names(argv), root=root, here=Path.cwd())
    for file in files if is_composed() else ():
        if not file.exists() and not file.resolve().is_relative_to(root):
            raise UsageError(
                f"--settings {file} is not in this container: only the checkout is mounted",
                hint="copy the file into the checkout",
            )
    origins = Origins(options=setting_options(options), environ=os.environ, files=files, own=OPTIONS[command])
    settings: LaunchSettings | None = None
    if "help" not in options:
        settings = (
            _settings_of_script(origins, checkout=root)
            if is_script
            else _settings_of_text(experiment, origins, checkout=root)
        )
    if settings is None:
        settings = resolve(LaunchSettings, origins, ignore_unknown=True).settings
    require_shards(settings.shards, devices=settings.devices, strategy=settings.strategy)
    return TrainRequest(
        argv=with_settings_files(argv, files),
        experiment=experiment,
        settings=settings,
        origins=origins,
        is_script=is_script,
        describes=bool(options.keys() & {"help", "print_settings"}),
    )


def _settings_of_script(origins: Origins, *, checkout: Path) -> LaunchSettings:
    """Resolve the settings of a script. Raise `SettingError` for a wrong setting, `DatasetError` for an undeclared dataset."""
    from trainer.training.scripts.script import (
        datasets_of,
        require_placeholders,
        require_results_path,
        require_supported,
    )
    from trainer.training.settings import ScriptSettings

    for name in origins.options.keys() - ScriptSettings.__pydantic_fields__.keys():
        if name in {"init_from", "init_map", "init_allow"}:
            message = f"found {option(name)} with --script: a script loads its weights itself"
            raise SettingError(message, hint="pass it a dataset as an argument: -- --weights {dataset:NAME}")
        if not nearest(name.removeprefix("no_"), ScriptSettings.__pydantic_fields__):
            message = f"unknown setting {option(name)}, given on the command line"
            raise SettingError(
                message, hint=f"write the script's arguments after --: --script FILE -- {option(name)} ..."
            )
    settings = resolve(ScriptSettings, origins).settings
    require_supported(settings)
    require_placeholders(settings)
    require_results_path(settings)
    for name in datasets_of(settings):
        load_dataset(name, root=checkout)
    return settings


def _find_experiment(name: str, *, root: Path, copies: Path | None, is_script: bool) -> ExperimentFile:
    here = Path.cwd() if root == CHECKOUT else root
    option = "script" if is_script else "exp"
    if is_composed() and not (here / name).resolve().is_relative_to(root) and not (here / name).exists():
        raise ExperimentError(
            f"experiment {name} is not in this container: only the checkout is mounted",
            hint=f"scripts/train --{option} {name} adds it with its repository; or copy it into the checkout",
        )
    find = find_script if is_script else find_experiment
    experiment = find(name, checkout=root, here=here, copies=copies)
    file = experiment.path(root)
    if project := experiment.project or frozen_project(file):
        require_own_modules(file, project, checkout=root)
    return experiment


def require_captured(experiment: ExperimentFile, bundle: SourceBundle) -> None:
    """Raise `ExperimentError` if the experiment is not in the captured source."""
    path = experiment.file.as_posix()
    if any(file.path == path for file in bundle.files):
        return
    if reason := next((line for line in bundle.left_out if line.startswith(f"{path}: ")), None):
        raise ExperimentError(
            f"experiment {experiment.name} is not in the run's source: {reason}", hint="correct the file"
        )
    raise ExperimentError(
        f"experiment {experiment.name} is ignored by git, so it is not in the run's source",
        hint="remove it from .gitignore",
    )


def _settings_of_text(experiment: ExperimentFile, origins: Origins, *, checkout: Path) -> LaunchSettings | None:
    """Resolve the settings as far as the experiment's text declares them; return `None` if the text does not determine them.

    Raise `SettingError` with all settings that are certainly wrong, `DatasetError` for an undeclared dataset, `ExperimentError` for a file
    that cannot be read.
    """
    file = experiment.path(checkout)
    try:
        text = read_python(file)
    except OSError as fault:
        raise ExperimentError(
            f"experiment {file} cannot be read: {fault.strerror}", hint=f"ls -l {shlex.quote(str(file))}"
        ) from fault
    except (SyntaxError, UnicodeDecodeError) as fault:
        message = f"experiment {file} is not readable as Python text: {str(fault).partition(' for ')[0]}"
        raise ExperimentError(message, hint="save it as UTF-8") from fault
    _require_declarations(text, file=file.name)
    sketch = sketched(text)
    if sketch is None:
        return None
    for name in origins.options.keys() - sketch.settings.__pydantic_fields__.keys():
        _require_no_parameter(name, text, file=file.name)
    resolved = resolve(sketch.settings, origins)
    resolved = replace(resolved, neutral=resolved.neutral | (sketch.unknown_defaults & resolved.files.keys()))
    if faults := list(unused_given_settings(resolved, text, package=checkout / "trainer" / "training")):
        raise setting_faults.all_of(faults)
    unknown = {name for name in sketch.unknown_defaults if not resolved.origins[name].is_given}
    settings = resolved.settings
    if not unknown & {"patience", "monitor"} and settings.patience is not None and settings.monitor is None:
        raise setting_faults.unmonitored()
    if settings.init_from is not None:
        from trainer.cli.process.initial import dataset_named, require_no_file

        require_no_file(settings.init_from)
        dataset_named(settings.init_from, root=checkout)
    if "dataset" not in unknown:
        datasets = [load_dataset(name, root=checkout) for name in datasets_by_role(settings.dataset)]
        for dataset in datasets if sketch.reads_fields else ():
            check_pairing(resolved, dataset, skip=unknown | ({"input_field"} if sketch.has_input_fields else set()))
    return settings


def _require_declarations(text: str, *, file: str) -> None:
    if fault := misnamed(text):
        name, reason, line = fault
        raise unnamable(name, reason, place=f"{file}:{line}")
    if setting := untyped(text):
        place = f"{file}:{setting.line}"
        raise setting_faults.untyped(setting.name, setting.value, place=place, known=setting.known)


def _require_no_parameter(name: str, text: str, *, file: str) -> None:
    """Raise `SettingError` if the unknown setting `name` is a parameter in the experiment's text."""
    if declared := parameter(text, name):
        declaration, line = declared
        raise SettingError(
            f"unknown setting {option(name)} on the command line",
            hint=f"{file}:{line} has a parameter of that name: declare it in Settings as `{declaration}`",
        )


def report_shared_options(command: str, argv: Sequence[str], experiment: str) -> None:
    """Print a line for each option in `argv` that is both the command's option and a setting of the experiment.

    Raise `UsageError` if the word parsed as the experiment is the value of a setting, and for an option that only `train` has.
    """
    _require_experiment(command, argv, experiment)
    typed_names = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    for name in sorted(typed_names & {*OPTIONS["train"]} - {*OPTIONS[command], "exp", "script"}):
        message = f"{option(name)} is an option of `reprise train`, not of `reprise {command}`"
        raise UsageError(message, hint=f"remove {option(name)}")
    for name in sorted(typed_names & {*OPTIONS[command]} & _own_settings(experiment)):
        message = f"{option(name)} is an option of `reprise {command}` here, not the experiment's setting"
        hint = f"to set {name} of {experiment}, use a settings file: --settings FILE.toml"
        print(f"{message}; {hint}", file=sys.stderr)


def _require_experiment(command: str, argv: Sequence[str], experiment: str) -> None:
    before = next((before for before, word in pairwise(argv) if word == experiment), "")
    if not before.startswith("--") or "=" in before or before[2:].replace("-", "_") in OPTIONS[command]:
        return
    try:
        find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
    except ExperimentError as fault:
        message = f"reprise {command} needs an experiment; {short(experiment)} is the value of {before}"
        raise UsageError(
            message, hint=f"write reprise {command} EXPERIMENT {before} {shlex.quote(experiment)}"
        ) from fault


def _own_settings(experiment: str) -> set[str]:
    """Return the settings that the experiment's text declares; empty if the experiment cannot be read, which the command reports later."""
    try:
        sketch = sketched_in(find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd()).path(CHECKOUT))
    except (RepriseError, ValueError):
        return set()
    return set() if sketch is None else {*sketch.settings.__pydantic_fields__}
