"""Parsing the request of a sweep: command line, settings file and environment become points, which are all checked before the first run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import parse_toml
from trainer.base.errors import RepriseError, SettingError, UsageError
from trainer.base.plain_text import read_python, read_text
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import find_experiment
from trainer.cli.train import understood
from trainer.settings.errors import all_of, each_of
from trainer.settings.fields import ENVIRONMENT_PREFIX, is_secret, written
from trainer.settings.origins import Origins, Words, resolve, take_apart
from trainer.settings.origins import asked as given
from trainer.settings.sources import LARGEST_SETTINGS
from trainer.sweeps.document import Asked, crossed, read_points, require_distinct, values
from trainer.training.declared_settings import sketched_in
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from trainer.cli.train import Asked as AskedOnce
    from trainer.training.declared_settings import Sketch

_OWN: Final = ("exp", "settings")
_NONE: Final = "a sweep needs settings that differ"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """A parsed request of a sweep."""

    asked: Asked
    extra: dict[str, Path]
    """A file from outside the checkout, by its path in the captured source."""
    sketch: Sketch | None
    """The experiment's settings, if its source text determines them; otherwise it must be imported."""
    is_checked: bool
    """Whether the source text determines the types of all given settings, so that every value is checked."""


def parse_request(experiment: str | None, rest: Sequence[str], *, points: str | None) -> SweepRequest:
    """Parse the command line. Raises what `train` would raise for a point; all faults of settings at once."""
    words = take_apart(rest)
    name = experiment or words.options.get("exp")
    if name is None:
        raise UsageError("sweep needs an experiment", hint="reprise sweep digits --learning-rate 1e-4,3e-4 --seed 1..5")
    if experiment is not None and "exp" in words.options:
        raise UsageError(f"the experiment is named twice: {experiment} and --exp", hint="name it once")
    place = find_experiment(name, checkout=CHECKOUT, here=Path.cwd())
    sketch = sketched_in(place.outside or CHECKOUT / place.file)
    axes, fixed = _split_axes(words, unknown=_unknown(sketch, words))
    made = crossed(_read_points(Path(points), sketch) if points else [{}], axes)
    if both := sorted({other for point in made for other in point} & fixed.keys()):
        raise UsageError(f"{both[0]} is given for every point and in single points", hint="give it once")
    file = words.options.get("settings")
    typed = [*_as_words(fixed), *([f"--settings={file}"] if file else [])]
    once = _check_points(name, typed, made)
    if not axes and points is None:
        raise UsageError(f"{_NONE}: a list or a range", hint="--learning-rate 1e-4,3e-4 --seed 1..5; or --points FILE")
    path = once.place.outside or CHECKOUT / once.place.file
    known, hidden = _environment(os.environ, sketch)
    text = None if once.file is None else _text(once.file, path, sketch)
    if sketch is not None:
        require_distinct(made, [_meant(sketch, point, typed, once.file) for point in made])
    return SweepRequest(
        asked=Asked(
            experiment=once.place.name,
            words=_as_words(fixed),
            environment=known,
            secrets=hidden,
            file=text,
            axes=list(axes),
            points=made,
        ),
        extra={} if once.place.outside is None else {once.place.file.as_posix(): once.place.outside},
        sketch=sketch,
        is_checked=sketch is not None and _names(words, made, once.file) <= sketch.known,
    )


def _names(words: Words, points: Sequence[Mapping[str, str]], file: Path | None) -> set[str]:
    """Return the names of all given settings."""
    origins = Origins(words=words.without(*_OWN, "json"), environ=os.environ, file=file)
    return {*given(origins), *(name for point in points for name in point)}


def _read_points(path: Path, sketch: Sketch | None) -> list[dict[str, str]]:
    return read_points(path) if sketch is None else read_points(path, sketch.spelled)


def _meant(sketch: Sketch, point: Mapping[str, str], typed: Sequence[str], file: Path | None) -> dict[str, object]:
    """Return all settings of a point; as text if the type is not known."""
    words = take_apart([*typed, *(f"--{key.replace('_', '-')}={text}" for key, text in point.items())])
    origins = Origins(words=words.without(*_OWN, "json"), environ=os.environ, file=file)
    return written(resolve(sketch.settings, origins).settings) | sketch.given(origins)


def _unknown(sketch: Sketch | None, words: Words) -> set[str]:
    """Return names that are certainly no settings: their values are not examined."""
    if sketch is None:
        return set()
    known, given = sketch.settings.__pydantic_fields__, words.without(*_OWN).options
    return {each for each, text in given.items() if each not in known and not (text is None and each[3:] in known)}


def _split_axes(words: Words, *, unknown: Collection[str]) -> tuple[dict[str, list[str]], dict[str, str | None]]:
    """Return settings with several values, and settings with one value; an `unknown` name is no axis."""
    axes: dict[str, list[str]] = {}
    fixed: dict[str, str | None] = {}
    for name, text in words.without(*_OWN).options.items():
        found = [] if text is None or name in unknown else values(name, text)
        if len(found) > 1:
            axes[name] = found
        else:
            fixed[name] = text
    return axes, fixed


def _as_words(fixed: Mapping[str, str | None]) -> list[str]:
    return [
        f"--{name.replace('_', '-')}" + ("" if text is None else f"={text}") for name, text in sorted(fixed.items())
    ]


def _check_points(name: str, typed: Sequence[str], points: Sequence[Mapping[str, str]]) -> AskedOnce:
    """Check every point as `train` does; each fault is reported once, with a point that has it unless all have it."""
    found: dict[tuple[str, str | None], tuple[RepriseError, list[int]]] = {}
    known: AskedOnce | None = None
    for number, point in enumerate(points):
        argv = [f"--exp={name}", *typed, *(f"--{key.replace('_', '-')}={text}" for key, text in point.items())]
        try:
            known = understood(argv, take_apart(argv))
        except RepriseError as fault:
            for each in each_of(fault) if isinstance(fault, SettingError) else [fault]:
                found.setdefault((each.message, each.hint), (each, []))[1].append(number)
    raise_faults(list(found.values()), points)
    assert known is not None  # noqa: S101 - there is at least one point
    return known


def raise_faults(faults: Sequence[tuple[RepriseError, Sequence[int]]], points: Sequence[Mapping[str, str]]) -> None:
    """Raise the faults of points, if there are any: each once, with the points that have it."""
    if len(faults) == 1 and len(faults[0][1]) == len(points):
        raise faults[0][0]
    if faults:
        raise all_of([_placed(fault, numbers, points) for fault, numbers in faults])


def _placed(fault: RepriseError, numbers: Sequence[int], points: Sequence[Mapping[str, str]]) -> SettingError:
    """Add a point to the fault's message unless all points have the fault."""
    named = " ".join(f"{name}={text}" for name, text in points[numbers[0]].items())
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    where = "" if len(numbers) == len(points) else f" [point {named}{more}]"
    return SettingError(f"{fault.message}{where}", hint=fault.hint)


def _environment(environ: Mapping[str, str], sketch: Sketch | None) -> tuple[dict[str, str], list[str]]:
    """Return the settings of the environment that are certainly no secrets, and the names of the others."""
    given = {name: text for name, text in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
    plain = {name for name in given if _is_plain(name.removeprefix(ENVIRONMENT_PREFIX).lower(), sketch)}
    return {name: given[name] for name in sorted(plain)}, sorted(given.keys() - plain)


def _is_plain(name: str, sketch: Sketch | None) -> bool:
    """Return whether a setting is certainly no secret: its type is known and is no secret type."""
    info = (sketch.settings if sketch else TrainingSettings).__pydantic_fields__.get(name)
    return info is not None and info.annotation is not Any and not is_secret(info)


def _text(file: Path, experiment: Path, sketch: Sketch | None) -> str:
    """Read the settings file, of which the sweep keeps a copy. Raises `SettingError` if it holds a secret of the experiment."""
    text, code = read_text(file, most=LARGEST_SETTINGS), read_python(experiment)
    for name in (key.replace("-", "_") for key in parse_toml(text, where=f"settings file {file}")):
        if not _is_plain(name, sketch) and re.search(rf"^\s+{re.escape(name)}\s*:.*Secret", code, re.MULTILINE):
            message = f"setting {name} is a secret, given in {file}, of which a sweep keeps a copy"
            raise SettingError(message, hint=f"set the environment variable {ENVIRONMENT_PREFIX}{name.upper()}")
    return text
