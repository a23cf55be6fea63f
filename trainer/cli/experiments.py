"""Which experiments there are, found without importing or reading one: those of the package's folder by name, any file by its path."""

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
from trainer.runs.image_claim import BAKED

FOLDER: Final = Path("trainer", "experiments")
BROUGHT: Final = Path("experiment")
"""Where in the frozen source a file from outside of the checkout is put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An experiment: its name in the record, its file in the frozen source, and where the file is brought from if it is from outside."""

    name: str
    file: Path
    outside: Path | None = None


def experiment_names(checkout: Path) -> list[str]:
    """List the package's experiments."""
    return sorted(path.stem for path in (checkout / FOLDER).glob("[!_]*.py"))


def meant(word: str, *, checkout: Path) -> str | None:
    """Give what `word` names or nearly names, where that is an experiment: a hint for who left `--exp` out."""
    if word.startswith("-"):
        return None
    return word if word.endswith(".py") else next(iter(nearest(word, experiment_names(checkout), most=1)), None)


def bring(place: Place, folder: Path) -> str:
    """Copy a file from outside of the checkout into the folder of its run, where a container finds it by the word that is given."""
    if place.outside is None:
        return place.name
    with (
        disk_faults(folder),
        run_root(folder) as run,
        place.outside.open("rb") as theirs,
        run.create(place.file.as_posix(), make=True) as copy,
    ):
        shutil.copyfileobj(theirs, copy)
    return place.name


def find_experiment(text: str, *, checkout: Path, here: Path, brought: Path | None = None) -> Place:
    """Find the experiment that was asked for by name or by path. Raises `ExperimentError` with the nearest names.

    `brought` is the folder into which the host's launcher copied one from outside of the checkout.
    """
    if brought is not None and Path(text).parent == BROUGHT and (brought / text).is_file():
        return Place(name=text, file=Path(text), outside=brought / text)
    asked = here / text
    if "/" not in text and not text.endswith(".py"):
        known = experiment_names(checkout)
        if text not in known:
            raise ExperimentError(f"unknown experiment {short(text)!r}", hint=did_you_mean(text, known))
        asked = checkout / FOLDER / f"{text}.py"
        if not asked.is_symlink():
            return Place(name=text, file=FOLDER / f"{text}.py")
    if not asked.is_file():
        raise _absent(text, asked, checkout=checkout)
    file = asked.resolve()
    if file.suffix != ".py":
        raise ExperimentError(f"experiment {text} is no Python file", hint="name a file that ends in .py")
    if file.is_relative_to(checkout):
        inside = file.relative_to(checkout)
        named = inside.stem if inside.parent == FOLDER else inside.as_posix()
        return Place(name=named, file=inside)
    return Place(name=(BROUGHT / file.name).as_posix(), file=BROUGHT / file.name, outside=file)


def _absent(text: str, asked: Path, *, checkout: Path) -> ExperimentError:
    """What is wrong with a path that leads to no file: a link on the way that leads nowhere, or the path itself."""
    link = next((path for path in (*reversed(asked.parents), asked) if path.is_symlink() and not path.exists()), None)
    if link is None:
        hint = f"name a Python file, or one of: {listed(experiment_names(checkout))}"
        return ExperimentError(f"experiment {text} is no file", hint=hint)
    target = link.readlink() / asked.relative_to(link)
    there = Path(os.path.normpath(link.parent.resolve() / link.readlink()))
    said = f"experiment {text} is a link to {target}, which does not exist"
    if BAKED.exists() and not there.is_relative_to(checkout):
        said = f"experiment {text} is a link to {target}, which is not in this container: it sees the checkout alone"
        return ExperimentError(said, hint=f"scripts/train --exp {shlex.quote(text)} brings the file along; or copy it")
    shown = link.relative_to(checkout) if link.is_relative_to(checkout) else link
    return ExperimentError(said, hint=f"correct the link: ln -sfn FILE {shlex.quote(str(shown))}; or remove it")
