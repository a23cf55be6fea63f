"""A sweep: one experiment at several points, all of one source in one image; its form, and how points are written.

Knows how lists, ranges and files become points, and the document that a sweep goes on from. Refuses to know what a setting means, and to
say how a point stands: its run's record does.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from trainer.base.digest import Digest, canonical, digest_of_document
from trainer.base.document import Document, parse_toml
from trainer.base.errors import DocumentError, UsageError
from trainer.base.plain_text import read_text
from trainer.base.run_files import SWEEPS
from trainer.base.suggestions import listed
from trainer.runs.record import RUN_ID
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

FOLDER: Final = SWEEPS
"""Below the folder of runs: a folder for each sweep."""
FILE: Final = "sweep.json"
FORMAT: Final = "reprise.sweep/1"
MOST: Final = 1000
_RANGE: Final = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(\d{1,9}))?")
_OPENING, _CLOSING, _QUOTES = "[{(", "]})", "\"'"

RunId = Annotated[str, StringConstraints(pattern=rf"^{RUN_ID.pattern}$")]


class Point(Document):
    """Settings to train with, as they would be typed, and the runs that were made of them."""

    settings: dict[str, str]
    runs: list[RunId] = []
    """The last one counts; before it stand those that ended without a record that could be gone on from."""
    code: int | None = None
    """The exit code of its last process; none while it was never seen to end."""

    @property
    def run(self) -> str | None:
        """The run that counts."""
        return self.runs[-1] if self.runs else None

    def words(self) -> list[str]:
        """The options of `train`."""
        return [f"--{name.replace('_', '-')}={text}" for name, text in self.settings.items()]

    def __str__(self) -> str:
        """As a person would name it."""
        return " ".join(f"{name}={text}" for name, text in self.settings.items()) or "(no settings)"


class Asked(Document):
    """What was asked for: equal for the same command, wherever and whenever it is typed."""

    experiment: str
    """As records name it."""
    words: list[str] = []
    """Options that every point is given."""
    environment: dict[str, str] = {}
    """Settings of the environment, REPRISE_SETTING_..., but for secrets."""
    secrets: list[str] = []
    """Names of secret settings of the environment, which is asked for them each time."""
    file: str | None = None
    """The text of the settings file."""
    axes: list[str] = []
    """The settings that differ between points, in the order in which they were typed."""
    points: list[dict[str, str]] = Field(min_length=1, max_length=MOST)

    @property
    def digest(self) -> str:
        """By which the same command is known again."""
        return digest_of_document(self.model_dump(mode="json"))


class Sweep(Document):
    """The whole document: what was frozen at the start, and how far it came."""

    format: Literal["reprise.sweep/1"] = "reprise.sweep/1"
    id: RunId
    created: datetime
    asked: Asked
    source: Digest
    captured: Source
    """What the record of each run says of the source."""
    image: dict[str, str] = {}
    """What containers are told of the image that was frozen; empty where points are processes."""
    layers: list[Digest] | None = None
    """The image's, by which another one is known."""
    points: list[Point]

    def to_json(self) -> bytes:
        """Write it; equal sweeps have equal bytes."""
        return canonical(self.model_dump(mode="json")) + b"\n"

    @property
    def frozen(self) -> str:
        """The digest of what was frozen at the start: everything but how far it came."""
        return digest_of_document(self.model_dump(mode="json", exclude={"points"}))

    def with_point(self, number: int, point: Point) -> Sweep:
        """The sweep with another state of one point."""
        points = [*self.points[:number], point, *self.points[number + 1 :]]
        return self.model_copy(update={"points": points})


def values(name: str, text: str) -> list[str]:
    """Split what was typed for a setting into its values: at commas outside of brackets and quotes; a range has both ends.

    >>> values("seed", "1..3,7"), values("seed", "0..100..50"), values("sizes", "[8, 16],[32]"), values("seed", "5")
    (['1', '2', '3', '7'], ['0', '50', '100'], ['[8, 16]', '[32]'], ['5'])
    """
    found = [value for part in _parts(text) for value in _expanded(name, part.strip())]
    if "" in found and len(found) > 1:
        raise UsageError(f"--{_typed(name)} {text}: a value is empty", hint="write a,b,c")
    if twice := sorted({value for value in found if found.count(value) > 1}):
        raise UsageError(f"--{_typed(name)} {text}: {twice[0]} is listed twice", hint="give each value once")
    return found


def grid(axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination; the last axis changes fastest. Raises `UsageError` for more than a sweep may have.

    >>> grid({"a": ["1", "2"], "b": ["x", "y"]})[:2]
    [{'a': '1', 'b': 'x'}, {'a': '1', 'b': 'y'}]
    """
    count = 1
    for each in axes.values():
        count *= len(each)
    _require_few(count)
    return [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]


def read_points(path: Path, spell: Callable[[str, Any], str | None] = lambda _, __: None) -> list[dict[str, str]]:
    """The points in a file: a `[[points]]` table each. Raises `DocumentError`, `UsageError`.

    `spell` gives the text that would be typed for a setting's value, if it knows the setting's type.
    """
    points = [{name.replace("-", "_"): value for name, value in point.items()} for point in _tables(path)]
    return [{name: spell(name, value) or _text(value) for name, value in point.items()} for point in points]


def _tables(path: Path) -> list[dict[str, Any]]:
    """The `[[points]]` of a file, which holds nothing else."""
    content = parse_toml(read_text(path), where=str(path))
    found = content.get("points")
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found) and len(content) == 1:
        _require_few(len(found))
        return found
    others = listed(name for name in content if name != "points") or "points = ..." if content else "nothing"
    said = f"{path}: expected a [[points]] table for each point and nothing else, found {others}"
    raise DocumentError(
        said, hint="write [[points]] and below it name = value, one a line; options that all points have are typed"
    )


def crossed(points: Sequence[Mapping[str, str]], axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Each of the points with each combination of the axes. Raises `UsageError` where two are one, or a setting is in both."""
    if both := sorted({name for point in points for name in point} & axes.keys()):
        raise UsageError(f"{both[0]} is given in the file of points and as --{_typed(both[0])}", hint="give it once")
    _require_few(len(points))
    made = [{**point, **combination} for point in points for combination in grid(axes)]
    _require_few(len(made))
    for number, one in enumerate(made):
        if one in made[:number]:
            raise UsageError(f"point {number + 1} is point {made.index(one) + 1} again", hint="leave one out")
    return made


def require_distinct(points: Sequence[Mapping[str, str]], meant: Sequence[object]) -> None:
    """Raise `UsageError` if two points are written in two ways and mean the same: `meant` are the points' documents."""
    first: dict[str, int] = {}
    for number, document in enumerate(meant):
        before = first.setdefault(digest_of_document(document), number)
        if before == number:
            continue
        one, other = points[before], points[number]
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        told = ", ".join(
            f"{name} {one.get(name, '(not given)')} and {other.get(name, '(not given)')}" for name in names
        )
        said = f"points {before + 1} and {number + 1} are one: {told} are the same value"
        raise UsageError(said, hint="give each value once")


def _require_few(count: int) -> None:
    if count > MOST:
        raise UsageError(f"these are {count} points; a sweep has at most {MOST}", hint="split it")


def _parts(text: str) -> Iterator[str]:
    depth, begun, quote = 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in _QUOTES and (depth > 0 or not text[begun:place].strip()) and letter in text[place + 1 :]:
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth <= 0 and not quote:
            yield text[begun:place]
            begun = place + 1
    yield text[begun:]


def _expanded(name: str, part: str) -> list[str]:
    found = _RANGE.fullmatch(part)
    if found is None:
        return [part]
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if last < first or step == 0:
        raise UsageError(
            f"--{_typed(name)} {part}: this range holds nothing", hint="write FIRST..LAST or FIRST..LAST..STEP"
        )
    _require_few((last - first) // step + 1)
    return [str(value) for value in range(first, last + 1, step)]


def _text(value: Any) -> str:
    """A value of a TOML file as it would be typed."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, default=str)
    return value if isinstance(value, str) else str(value)


def _typed(name: str) -> str:
    return name.replace("_", "-")
