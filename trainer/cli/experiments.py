"""Finds experiments by name or path without importing them."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ExperimentError
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import did_you_mean, listed, nearest, short
from trainer.runs.image_file import IMAGE_FILE
from trainer.source.project import FOLDER as PROJECT
from trainer.source.project import find_project

FOLDER: Final = Path("trainer", "experiments")
COPIED_EXPERIMENT: Final = Path("experiment")
"""The folder of the frozen source for an experiment from outside the checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFile:
    """The file of an experiment."""

    name: str
    """The experiment's name in records."""
    file: Path
    """The file's path in the frozen source."""
    outside: Path | None = None
    """The file's absolute path if it is outside the checkout."""
    project: Path | None = None
    """The root of the project that the file belongs to, if it is outside the checkout."""

    def path(self, checkout: Path) -> Path:
        """Return the file's path on this machine."""
        return self.outside or checkout / self.file

    @property
    def extra(self) -> dict[str, Path]:
        """Return the file or the project that an experiment from outside the checkout adds to the source, by path in the source."""
        if self.project is not None:
            return {PROJECT: self.project}
        return {} if self.outside is None else {self.file.as_posix(): self.outside}


def experiment_names(checkout: Path) -> list[str]:
    """Return the names of the experiments in `trainer/experiments/`."""
    return sorted(path.stem for path in (checkout / FOLDER).glob("[!_]*.py"))


def nearest_experiment(word: str, *, checkout: Path) -> str | None:
    """Return the Python file or the experiment that `word` names or nearly names, for a hint if `--exp` is missing."""
    if word.startswith("-"):
        return None
    return word if word.endswith(".py") else next(iter(nearest(word, experiment_names(checkout), most=1)), None)


def copy_into_run(experiment: ExperimentFile, folder: Path) -> None:
    """Copy the file of an experiment from outside the checkout into the run's folder, in which a container finds the file by its name."""
    if experiment.outside is None:
        return
    with (
        disk_faults(folder),
        run_root(folder) as run,
        experiment.outside.open("rb") as original,
        run.create(experiment.file.as_posix(), make=True) as copy,
    ):
        shutil.copyfileobj(original, copy)


def find_experiment(text: str, *, checkout: Path, here: Path, copies: Path | None = None) -> ExperimentFile:
    """Find an experiment by name, or by path relative to `here`. Raise `ExperimentError` with the nearest names.

    `copies` is the folder into which the launcher on the host copied an experiment from outside the checkout.
    """
    if copies is not None and Path(text).parent == COPIED_EXPERIMENT and (copies / text).is_file():
        return ExperimentFile(name=text, file=Path(text), outside=copies / text)
    path = here / text
    if "/" not in text and not text.endswith(".py"):
        names = experiment_names(checkout)
        if text not in names:
            raise ExperimentError(f"unknown experiment {short(text)!r}", hint=did_you_mean(text, names))
        path = checkout / FOLDER / f"{text}.py"
        if not path.is_symlink():
            return ExperimentFile(name=text, file=FOLDER / f"{text}.py")
    experiment = _find_file(text, path, checkout=checkout)
    if experiment.file.suffix != ".py":
        raise ExperimentError(f"experiment {text} is not a Python file", hint="name a file that ends in .py")
    return experiment


def find_script(text: str, *, checkout: Path, here: Path, copies: Path | None = None) -> ExperimentFile:
    """Find a script by path relative to `here`. Raise `ExperimentError` if it is not a file; `copies` is as for `find_experiment`."""
    if copies is not None and Path(text).parent == COPIED_EXPERIMENT and (copies / text).is_file():
        return ExperimentFile(name=text, file=Path(text), outside=copies / text)
    return _find_file(text, here / text, checkout=checkout, what="script")


def _find_file(text: str, path: Path, *, checkout: Path, what: str = "experiment") -> ExperimentFile:
    """Return the file at a path, inside or outside the checkout. Raise `ExperimentError` if it is not a file."""
    if not path.is_file():
        raise _absent(text, path, checkout=checkout, what=what)
    file = path.resolve()
    if file.is_relative_to(checkout):
        inside = file.relative_to(checkout)
        return ExperimentFile(name=inside.stem if inside.parent == FOLDER else inside.as_posix(), file=inside)
    project = find_project(file)
    inside = Path(PROJECT, file.relative_to(project)) if project else COPIED_EXPERIMENT / file.name
    return ExperimentFile(name=inside.as_posix(), file=inside, outside=file, project=project)


def _absent(text: str, path: Path, *, checkout: Path, what: str) -> ExperimentError:
    """Return the error for a path without a file; it names a broken link in the path."""
    link = next((each for each in (*reversed(path.parents), path) if each.is_symlink() and not each.exists()), None)
    if link is None:
        kind = path.suffix if what == "script" else ".py"
        beside = path.parent.glob(f"*{kind}") if path.parent.is_dir() else ()
        names = [(Path(text).parent / each.name).as_posix() for each in beside]
        if what == "script":
            hint = did_you_mean(text, names) if names else f"ls {shlex.quote(str(path.parent.parent))}"
        elif close := nearest(path.stem, [Path(each).stem for each in names]):
            hint = f"did you mean {Path(text).with_name(f'{close[0]}.py').as_posix()}?"
        else:
            hint = f"name a Python file, or one of: {listed(experiment_names(checkout))}"
        return ExperimentError(f"{what} {text} is not a file", hint=hint)
    target = link.readlink() / path.relative_to(link)
    destination = Path(os.path.normpath(link.parent.resolve() / link.readlink()))
    if IMAGE_FILE.exists() and not destination.is_relative_to(checkout):
        message = f"{what} {text} is a link to {target}, which is not in this container: only the checkout is mounted"
        return ExperimentError(
            message,
            hint=f"scripts/train --{'exp' if what == 'experiment' else what} {shlex.quote(text)} copies the file; or copy it yourself",
        )
    link_path = link.relative_to(checkout) if link.is_relative_to(checkout) else link
    hint = f"correct the link: ln -sfn FILE {shlex.quote(str(link_path))}; or remove it"
    return ExperimentError(f"{what} {text} is a link to {target}, which does not exist", hint=hint)
