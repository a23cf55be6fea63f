"""Parse a request for a sweep: command line, settings files and environment become points, which are all checked before the first run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import RepriseError, SettingError, UsageError
from trainer.base.plain_text import read_python, read_text
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import find_experiment
from trainer.cli.train.command_line import parse_train_request
from trainer.runs.names import LATEST
from trainer.settings.errors import all_of, each_of
from trainer.settings.fields import is_secret, settings_document
from trainer.settings.origins import (
    Options,
    Origins,
    as_words,
    given_settings,
    parse_options,
    resolve,
    setting_options,
    settings_names,
)
from trainer.settings.settings_file import LARGEST_SETTINGS, copy_names, parse_settings
from trainer.settings.variables import ENVIRONMENT_PREFIX
from trainer.sweeps.document import SettingsCopy, SweepRequest, crossed, read_points, require_distinct, values
from trainer.training.declared_settings import sketched_in
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from trainer.cli.train.command_line import TrainRequest
    from trainer.settings.fields import LaunchSettings
    from trainer.training.declared_settings import Sketch

_COMMAND_OPTIONS: Final = ("settings", "json")
_NO_AXIS: Final = "a sweep needs settings that differ between points"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSweep:
    """A parsed request for a sweep."""

    request: SweepRequest
    extra: dict[str, Path]
    """Files from outside the checkout, by their paths in the captured source."""
    sketch: Sketch | None
    """The experiment's settings, if its source text determines them; otherwise it must be imported."""
    launches: tuple[LaunchSettings, ...]
    """The settings of each point that Reprise itself declares, such as `devices`."""
    is_checked: bool
    """Whether the source text determines the types of all given settings, so that every value is checked."""


def parse_request(experiment: str | None, rest: Sequence[str], *, points: str | None) -> ParsedSweep:
    """Parse the command line. Raise the errors that `train` would raise for a point; one error lists all invalid settings."""
    given_options = parse_options(rest)
    if "exp" in given_options:
        raise UsageError("--exp: the experiment is the first argument", hint="reprise sweep EXPERIMENT")
    if experiment is None:
        raise UsageError("sweep needs an experiment", hint="reprise sweep digits --learning-rate 1e-4,3e-4 --seed 1..5")
    experiment_file = find_experiment(experiment, checkout=CHECKOUT, here=Path.cwd())
    sketch = sketched_in(experiment_file.path(CHECKOUT))
    axes, fixed = _split_axes(given_options, unknown=_unknown_names(sketch, given_options))
    spell = sketch.spelled if sketch else lambda _, __: None
    combined = crossed(read_points(Path(points), spell) if points else [{}], axes)
    if repeated := sorted({other for point in combined for other in point} & fixed.keys()):
        raise UsageError(
            f"setting {repeated[0]} is given for every point and for single points",
            hint=f"remove {repeated[0]} from the command line or from the points",
        )
    typed = [*as_words(dict(sorted(fixed.items()))), *(f"--settings={file or ''}" for file in settings_names(rest))]
    requests = _check_points(experiment, typed, combined)
    request = requests[-1]
    if not axes and points is None:
        raise UsageError(
            f"{_NO_AXIS}: a list or a range", hint="--learning-rate 1e-4,3e-4 --seed 1..5; or --points FILE"
        )
    files = request.origins.files
    recorded, secret_names = settings_in_environment(os.environ, sketch)
    texts = _read_settings_files(request, sketch)
    if sketch is not None:
        require_distinct(combined, [_settings_of_point(sketch, point, typed, files) for point in combined])
    origins = Origins(options=setting_options(given_options, own=_COMMAND_OPTIONS), environ=os.environ, files=files)
    settings = given_settings(origins)
    if LATEST in {settings.get("init_from"), *(point.get("init_from") for point in combined)}:
        message = f"setting init_from is {LATEST!r}, which would be another run at each point: a run of this sweep"
        raise SettingError(message, hint="name the run by its ID: `reprise runs ls` lists the IDs")
    names = {*settings, *(name for point in combined for name in point)}
    return ParsedSweep(
        request=SweepRequest(
            experiment=request.experiment.name,
            words=as_words(dict(sorted(fixed.items()))),
            environment=recorded,
            secrets=secret_names,
            files=texts,
            axes=list(axes),
            points=combined,
        ),
        extra=request.experiment.extra,
        sketch=sketch,
        launches=tuple(each.settings for each in requests),
        is_checked=sketch is not None and names <= sketch.known,
    )


def _settings_of_point(
    sketch: Sketch, point: Mapping[str, str], typed: Sequence[str], files: tuple[Path, ...]
) -> dict[str, object]:
    """Return all settings of a point; a value is text if the type of the setting is unknown."""
    options = parse_options([*typed, *as_words(point)])
    origins = Origins(options=setting_options(options, own=_COMMAND_OPTIONS), environ=os.environ, files=files)
    return settings_document(resolve(sketch.settings, origins).settings) | sketch.given(origins)


def _unknown_names(sketch: Sketch | None, options: Options) -> set[str]:
    """Return the names of options that are certainly not settings; their values are not parsed."""
    if sketch is None:
        return set()
    fields, options_given = sketch.settings.__pydantic_fields__, setting_options(options, own=_COMMAND_OPTIONS)
    return {
        each for each, text in options_given.items() if each not in fields and not (text is None and each[3:] in fields)
    }


def _split_axes(options: Options, *, unknown: Collection[str]) -> tuple[dict[str, list[str]], dict[str, str | None]]:
    """Return the settings with several values, and the settings with one value; an `unknown` name is not an axis."""
    axes: dict[str, list[str]] = {}
    fixed: dict[str, str | None] = {}
    for name, text in setting_options(options, own=_COMMAND_OPTIONS).items():
        points = [] if text is None or name in unknown else values(name, text)
        if len(points) > 1:
            axes[name] = points
        else:
            fixed[name] = text
    return axes, fixed


def _check_points(name: str, typed: Sequence[str], points: Sequence[Mapping[str, str]]) -> list[TrainRequest]:
    """Check every point as `train` does, and return the requests of the points. Raise the faults of all points."""
    faults: list[tuple[int, RepriseError]] = []
    requests: list[TrainRequest] = []
    for number, point in enumerate(points):
        try:
            requests.append(parse_train_request([f"--exp={name}", *typed, *as_words(point)], command="sweep"))
        except SettingError as fault:
            faults += [(number, each) for each in each_of(fault)]
        except RepriseError as fault:
            faults.append((number, fault))
    raise_faults(faults, points)
    return requests


def raise_faults(faults: Sequence[tuple[int, RepriseError]], points: Sequence[Mapping[str, str]]) -> None:
    """Raise an error that lists the faults of points, if there are any.

    `faults` are pairs of the number of a point and a fault. A fault of several points is listed once, with one of these points unless all
    points have the fault.
    """
    numbers: dict[tuple[str, str | None], list[int]] = {}
    for number, fault in faults:
        numbers.setdefault((fault.message, fault.hint), []).append(number)
    if len(numbers) == 1 and len(faults) == len(points):
        raise faults[0][1]
    if numbers:
        raise all_of([_with_point(*key, each, points) for key, each in numbers.items()])


def _with_point(
    message: str, hint: str | None, numbers: Sequence[int], points: Sequence[Mapping[str, str]]
) -> SettingError:
    """Return a fault as an error that names one of the points `numbers`, unless all points have the fault."""
    point = " ".join(f"{name}={text}" for name, text in points[numbers[0]].items())
    others = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    suffix = "" if len(numbers) == len(points) else f" [point {point}{others}]"
    return SettingError(f"{message}{suffix}", hint=hint)


def settings_in_environment(environ: Mapping[str, str], sketch: Sketch | None) -> tuple[dict[str, str], list[str]]:
    """Return the environment variables with settings that are certainly not secrets, and the names of the other setting variables."""
    variables = {name: text for name, text in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
    recorded = {name for name in variables if _is_no_secret(name.removeprefix(ENVIRONMENT_PREFIX).lower(), sketch)}
    return {name: variables[name] for name in sorted(recorded)}, sorted(variables.keys() - recorded)


def _is_no_secret(name: str, sketch: Sketch | None) -> bool:
    """Return whether a setting is certainly not a secret: its type is known and is not a secret type."""
    info = (sketch.settings if sketch else TrainingSettings).__pydantic_fields__.get(name)
    return info is not None and info.annotation is not Any and not is_secret(info)


def _read_settings_files(request: TrainRequest, sketch: Sketch | None) -> list[SettingsCopy]:
    """Read the settings files, of which the sweep keeps copies. Raise `SettingError` if a file holds a secret of the experiment."""
    code = read_python(request.experiment.path(CHECKOUT))
    copies = copy_names(request.origins.files, checkout=CHECKOUT)
    return [SettingsCopy(path=name, text=_read_settings_file(file, code, sketch)) for name, file in copies.items()]


def _read_settings_file(file: Path, code: str, sketch: Sketch | None) -> str:
    text = read_text(file, most=LARGEST_SETTINGS)
    for name in parse_settings(text, where=f"settings file {file}"):
        if not _is_no_secret(name, sketch) and re.search(rf"^\s+{re.escape(name)}\s*:.*Secret", code, re.MULTILINE):
            message = f"setting {name} is a secret, but a sweep keeps a copy of {file}, which contains it"
            raise SettingError(message, hint=f"set the environment variable {ENVIRONMENT_PREFIX}{name.upper()}")
    return text
