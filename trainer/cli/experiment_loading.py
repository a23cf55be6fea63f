"""Import the experiment of a process, attribute its errors to its file, and resolve its settings."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import ExperimentFailedError
from trainer.data.declaration import load_dataset
from trainer.settings.origins import (
    Origins,
    Resolved,
    given_settings,
    parse_options,
    resolve,
    setting_options,
    settings_names,
)
from trainer.settings.settings_file import COPIES
from trainer.source.project import find_project
from trainer.training.scripts.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from trainer.data.declaration import Dataset
    from trainer.runs.handoff import Launch
    from trainer.settings.origins import Resolved
    from trainer.training.experiment import Experiment
    from trainer.training.plain.experiment import PlainExperiment


SOURCE: Final = Path.cwd()
"""The frozen source: the launcher starts the process in this folder."""


def datasets_of(
    experiment: Experiment | PlainExperiment | Script, settings: Any, *, root: Path = Path()
) -> tuple[Dataset, ...]:
    """Load the declarations of the datasets that the settings name. Raise `DatasetError` if a dataset is not declared."""
    names = experiment.datasets(settings)
    return tuple(load_dataset(name, root=root) for name in names)


def chosen_classes(origins: Origins) -> dict[str, Any]:
    """Return the given settings `model` and `data`, which choose among the classes of a plain module's file."""
    return {name: value for name, value in given_settings(origins).items() if name in {"model", "data"}}


def import_experiment(launch: Launch) -> Experiment:
    """Import the experiment, which must have a task, from the frozen source; this also imports torch."""
    from trainer.training.experiment import load_experiment
    from trainer.training.hooks import require_hooks

    with _explaining_imports(launch):
        experiment = load_experiment(launch.experiment, SOURCE / launch.file, root=SOURCE)
    require_hooks(experiment.net)
    return experiment


def find_experiment(launch: Launch, argv: Sequence[str]) -> Experiment | PlainExperiment | Script:
    """Return the script of the frozen source, or import the experiment."""
    if launch.is_script:
        return Script(name=launch.experiment, file=SOURCE / launch.file)
    return import_any_experiment(launch, argv)


def import_any_experiment(launch: Launch, argv: Sequence[str]) -> Experiment | PlainExperiment:
    """Import the experiment from the frozen source; the command line chooses among several plain modules."""
    from trainer.training.experiment import load_any_experiment
    from trainer.training.hooks import require_hooks

    chosen = chosen_classes(_origins(argv))
    file = SOURCE / launch.file
    project = None if file.is_relative_to(SOURCE) else find_project(file)
    with _explaining_imports(launch):
        experiment = load_any_experiment(launch.experiment, file, root=SOURCE, chosen=chosen, project=project)
    require_hooks(experiment.net)
    return experiment


@contextmanager
def _explaining_imports(launch: Launch) -> Iterator[None]:
    """Explain in the hint of an import error why the imported file is not in the source."""
    try:
        yield
    except ExperimentFailedError as fault:
        if (name := _missing_module(fault)) and (reason := _omission_reason(name, launch)):
            fault.hint = f"module {name} is not in the source: {reason}"
        raise


def _missing_module(fault: BaseException) -> str | None:
    """Return the module that an import did not find; `None` if the failure has another cause."""
    each: BaseException | None = fault
    while each is not None and not isinstance(each, ModuleNotFoundError):
        each = each.__cause__
    return each.name if each else None


def _omission_reason(module: str, launch: Launch) -> str | None:
    """Return why a file or folder of the checkout, from which a module would be imported, is not in the source."""
    paths = [f"{module.replace('.', '/')}{ending}" for ending in ("", ".py", "/__init__.py")]
    if launch.frozen is not None:
        return next((line for line in launch.frozen.source.left_out if line.partition(": ")[0] in paths), None)
    link = next((SOURCE / path for path in paths if (SOURCE / path).is_symlink()), None)
    if link is None:
        return None
    return f"{link.relative_to(SOURCE)}: a link to {link.readlink()}: copy its target into the checkout"


def attribute_errors(experiment: Experiment | PlainExperiment) -> AbstractContextManager[None]:
    """Attribute an exception of the block to the experiment, to a library, or to Reprise."""
    from trainer.training.failures import attributing

    return attributing(file=experiment.file, root=SOURCE, net=experiment.net.__name__)


def resolve_settings(experiment: Experiment | PlainExperiment | Script, argv: list[str]) -> Resolved[Any]:
    """Return the experiment's settings, resolved from all origins. Raise `SettingError` if a setting is unknown or invalid."""
    origins = _origins(argv)
    if hasattr(experiment, "require_fillable"):  # a plain module
        experiment.require_fillable(given_settings(origins))
    return resolve(experiment.settings, origins)


def with_file_names(resolved: Resolved[Any], *, run: Path) -> Resolved[Any]:
    """Return settings with the names of files that another command copied into the run's folder, instead of the copies' paths."""
    copies = f"{run / COPIES}/"
    return replace(resolved, files={name: file.removeprefix(copies) for name, file in resolved.files.items()})


def _origins(argv: Sequence[str]) -> Origins:
    files = tuple(Path(name) for name in settings_names(argv) if name)
    return Origins(options=setting_options(parse_options(argv)), environ=os.environ, files=files)
