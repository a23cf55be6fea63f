"""The document of a sweep: one experiment at several points, all with the same source and image. Format `reprise.sweep/1`.

This module expands lists, ranges and files to points. The document contains everything that is needed to resume a sweep, except the state
of its points, which is read from the records of their runs.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from trainer.base.digest import Digest, canonical, digest_of_document
from trainer.base.document import Document, parse_toml
from trainer.base.errors import DocumentError, UsageError
from trainer.base.paths import path_fault
from trainer.base.plain_text import read_text
from trainer.base.run_files import SWEEPS
from trainer.base.suggestions import listed
from trainer.runs.run_id import RUN_ID
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

FOLDER: Final = SWEEPS
"""The name of the folder of all sweeps, in the folder of all runs."""
FILE: Final = "sweep.json"
FORMAT: Final = "reprise.sweep/1"
SETTINGS: Final = "settings.toml"
"""The name of the copy of the settings file, in sweeps of versions that accepted a single file."""
MOST: Final = 1000
_RANGE: Final = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(\d{1,9}))?")
_OPENING, _CLOSING, _QUOTES = "[{(", "]})", "\"'"


def _path(text: str) -> str:
    if fault := path_fault(text):
        raise ValueError(f"not a path inside a folder: {fault}")
    return text


RunId = Annotated[str, StringConstraints(pattern=rf"^{RUN_ID.pattern}$")]


class Point(Document):
    """A point: its settings, as text on the command line, and its runs."""

    settings: dict[str, str]
    runs: list[RunId] = []
    """The last run has the result; earlier runs ended without a record from which they could be resumed."""
    code: int | None = None
    """The exit code of the point's last process; `None` if the end of a process was never observed."""

    @property
    def run(self) -> str | None:
        """The last run of the point; `None` before its first run."""
        return self.runs[-1] if self.runs else None

    def words(self) -> list[str]:
        """Return the settings as options of `train`."""
        return [f"--{name.replace('_', '-')}={text}" for name, text in self.settings.items()]

    def __str__(self) -> str:
        """Return a readable name."""
        return " ".join(f"{name}={text}" for name, text in self.settings.items()) or "(no settings)"


class SettingsCopy(Document):
    """A copy of a settings file."""

    path: Annotated[str, AfterValidator(_path)]
    """The path of the copy in the folder of the sweep and in the folders of its runs."""
    text: str


class SweepRequest(Document):
    """The request for a sweep: equal for equal commands, regardless of the folder and the time."""

    experiment: str
    """The name of the experiment, as in records."""
    words: list[str] = []
    """The options that all points share."""
    environment: dict[str, str] = {}
    """Settings in environment variables, `REPRISE_SETTING_...`, without secrets."""
    secrets: list[str] = []
    """The names of secret settings in environment variables, whose values are read again each time."""
    file: str | None = None
    """The text of the settings file, in sweeps of versions that accepted a single file."""
    files: list[SettingsCopy] = Field(default=[], exclude_if=lambda files: not files)
    """The settings files in order: a later file overrides an earlier file."""
    axes: list[str] = []
    """The settings that differ between points, in the order of the command line."""
    points: list[dict[str, str]] = Field(min_length=1, max_length=MOST)

    @property
    def settings_files(self) -> dict[str, str]:
        """The text of each settings file by the path of its copy; a later file overrides an earlier file."""
        return {SETTINGS: self.file} if self.file is not None else {each.path: each.text for each in self.files}

    @property
    def digest(self) -> str:
        """The digest of the request, by which an earlier sweep with an equal request is found."""
        return digest_of_document(self.model_dump(mode="json"))


class Sweep(Document):
    """A sweep: the inputs that were frozen at the start, and the state of its points."""

    format: Literal["reprise.sweep/1"] = "reprise.sweep/1"
    id: RunId
    created: datetime
    asked: SweepRequest
    source: Digest
    captured: Source
    """The description of the source for the record of each run."""
    image: dict[str, str] = {}
    """The environment variables that describe the frozen image to containers; empty if points run as processes."""
    layers: list[Digest] | None = None
    """The layers of the frozen image, by which another image is detected."""
    points: list[Point]

    def to_json(self) -> bytes:
        """Return the canonical bytes of the document."""
        return canonical(self.model_dump(mode="json")) + b"\n"

    @property
    def frozen(self) -> str:
        """The digest of the frozen inputs: everything except the points."""
        return digest_of_document(self.model_dump(mode="json", exclude={"points"}))

    def with_point(self, number: int, point: Point) -> Sweep:
        """Return the sweep with the point `number` replaced."""
        points = [*self.points[:number], point, *self.points[number + 1 :]]
        return self.model_copy(update={"points": points})


def values(name: str, text: str) -> list[str]:
    """Split an option's text into values, at commas outside brackets and quotes; ranges include both ends.

    Raise `UsageError` if a value is empty or listed twice, a range is empty, or there are too many values.

    >>> values("seed", "1..3,7"), values("seed", "0..100..50"), values("sizes", "[8, 16],[32]"), values("seed", "5")
    (['1', '2', '3', '7'], ['0', '50', '100'], ['[8, 16]', '[32]'], ['5'])
    """
    found = [value for part in _parts(text) for value in _expanded(name, part.strip())]
    if "" in found and len(found) > 1:
        raise UsageError(
            f"--{_typed(name)} {text}: a value is empty",
            hint=f"remove the empty item, for example --{_typed(name)} a,b,c",
        )
    if twice := sorted({value for value in found if found.count(value) > 1}):
        raise UsageError(f"--{_typed(name)} {text}: {twice[0]} is listed twice", hint=f"remove the second {twice[0]}")
    return found


def grid(axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return every combination; the last axis changes fastest. Raise `UsageError` if there are more points than a sweep may have.

    >>> grid({"a": ["1", "2"], "b": ["x", "y"]})[:2]
    [{'a': '1', 'b': 'x'}, {'a': '1', 'b': 'y'}]
    """
    _require_few(prod(map(len, axes.values())))
    return [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]


def read_points(path: Path, spell: Callable[[str, Any], str | None] = lambda _, __: None) -> list[dict[str, str]]:
    """Read points from a file with a `[[points]]` table per point.

    `spell` returns a setting's value as text for the command line, or `None` if the setting's type is unknown. Raise `DocumentError` if
    the file contains anything but `[[points]]` tables, `UsageError` if it has too many points.
    """
    points = [{name.replace("-", "_"): value for name, value in point.items()} for point in _tables(path)]
    return [{name: spell(name, value) or _text(value) for name, value in point.items()} for point in points]


def _tables(path: Path) -> list[dict[str, Any]]:
    """Return the `[[points]]` tables of a file, which must contain nothing else."""
    content = parse_toml(read_text(path), where=str(path))
    found = content.get("points")
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found) and len(content) == 1:
        _require_few(len(found))
        return found
    others = listed(name for name in content if name != "points") or "points = ..." if content else "nothing"
    message = f"{path}: expected a [[points]] table for each point and nothing else, found {others}"
    raise DocumentError(
        message,
        hint="write [[points]] and below it name = value, one per line; pass options that all points share on the command line",
    )


def crossed(points: Sequence[Mapping[str, str]], axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return each point combined with each combination of the axes.

    Raise `UsageError` if two points are equal, a setting is both in a point and an axis, or there are too many points.
    """
    if both := sorted({name for point in points for name in point} & axes.keys()):
        raise UsageError(
            f"{both[0]} is given in the file of points and as --{_typed(both[0])}",
            hint=f"remove --{_typed(both[0])}, or {both[0]} from the file",
        )
    _require_few(len(points))
    made = [{**point, **combination} for point in points for combination in grid(axes)]
    _require_few(len(made))
    for number, one in enumerate(made):
        if one in made[:number]:
            raise UsageError(f"point {number + 1} repeats point {made.index(one) + 1}", hint="remove one of them")
    return made


def require_distinct(points: Sequence[Mapping[str, str]], meant: Sequence[object]) -> None:
    """Raise `UsageError` if two points have equal values, even if they are written differently. `meant` are the values of each point."""
    first: dict[str, int] = {}
    for number, document in enumerate(meant):
        before = first.setdefault(digest_of_document(document), number)
        if before == number:
            continue
        one, other = points[before], points[number]
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        named = ", ".join(
            f"{name} {one.get(name, '(not given)')} and {other.get(name, '(not given)')}" for name in names
        )
        message = f"points {before + 1} and {number + 1} are equal: {named} are the same value"
        raise UsageError(message, hint="give each value once")


def _require_few(count: int) -> None:
    if count > MOST:
        raise UsageError(
            f"the grid has {count} points; a sweep has at most {MOST}", hint="split it into several sweeps"
        )


def _parts(text: str) -> Iterator[str]:
    depth, start, quote = 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in _QUOTES and (depth > 0 or not text[start:place].strip()) and letter in text[place + 1 :]:
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth <= 0 and not quote:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _expanded(name: str, part: str) -> list[str]:
    found = _RANGE.fullmatch(part)
    if found is None:
        return [part]
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if last < first or step == 0:
        raise UsageError(f"--{_typed(name)} {part}: this range is empty", hint="write FIRST..LAST or FIRST..LAST..STEP")
    _require_few((last - first) // step + 1)
    return [str(value) for value in range(first, last + 1, step)]


def _text(value: Any) -> str:
    if isinstance(value, bool | list | dict):
        return json.dumps(value, default=str)
    return value if isinstance(value, str) else str(value)


def _typed(name: str) -> str:
    return name.replace("_", "-")
