"""The results of a script: the numbers of a JSON, JSON Lines or CSV file, or the scalars of TensorBoard's event files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from trainer.base.document import json_value
from trainer.base.errors import DocumentError
from trainer.base.plain_text import read_text
from trainer.base.suggestions import listed, nearest, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

EVENTS: Final = "events.out.tfevents."
"""The beginning of the name of an event file."""
_NAMES: Final = ("results.json", "metrics.json", "results.csv", "metrics.csv", "metrics.jsonl")
_NOT_FINITE: Final = re.compile(r'"(?:\\.|[^"\\])*"|NaN|-?Infinity')
"""A JSON string, or Python's spelling of a number that JSON cannot represent."""
_WORDS: Final = ("NaN", "Infinity", "-Infinity")
_STEPS: Final = ("step", "global_step", "iteration", "epoch")
_LARGEST: Final = 1 << 28
_MOST: Final = 1_000
"""The maximum number of results of a run."""


class Scalar(NamedTuple):
    """A scalar in TensorBoard's event files."""

    name: str
    step: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptResults:
    """The results of a script, and the values that it logged while it ran."""

    file: str | None = None
    """The output file that holds the results."""
    metrics: dict[str, float] = field(default_factory=dict)
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """The step and the values of each logged row."""
    fault: str | None = None
    """Why there are no results: the file cannot be read, or no file has the given name."""


def read_results(output: Path, name: str | None) -> ScriptResults:
    """Read the results from the output `name`, or from the first output with a usual name.

    If no output has the name `name`, `fault` of the returned value lists the existing outputs. Raise `DocumentError` if the file cannot be
    read or holds too many numbers.
    """
    files = sorted(path for path in output.rglob("*") if path.is_file() and not path.is_symlink())
    if (path := _find(files, output, name)) is None:
        return ScriptResults(fault=name and _missing(name, [each.relative_to(output).as_posix() for each in files]))
    if path.name.startswith(EVENTS):
        return _of_rows(_by_step(scalars_of(path.parent)), file=path, output=output)
    text = read_text(path, most=_LARGEST)
    if path.suffix != ".csv":
        text = _NOT_FINITE.sub(lambda found: found[0] if found[0][0] == '"' else f'"{found[0]}"', text)
    if path.suffix == ".csv":
        return _of_rows(_csv_rows(text), file=path, output=output)
    if path.suffix == ".jsonl":
        lines = [json_value(line, where=str(path)) for line in text.splitlines() if line.strip()]
        return _of_rows(map(_numbers, lines), file=path, output=output)
    content = json_value(text, where=str(path))
    if isinstance(content, list):
        return _of_rows(map(_numbers, content), file=path, output=output)
    return ScriptResults(file=path.relative_to(output).as_posix(), metrics=_limited(_numbers(content), path))


def _find(files: Sequence[Path], output: Path, name: str | None) -> Path | None:
    if name is not None:
        return next((path for path in files if path.relative_to(output).as_posix() == name), None)
    usual = [path for each in _NAMES for path in files if path.name == each]
    return next(iter([*usual, *(path for path in files if path.name.startswith(EVENTS))]), None)


def _missing(name: str, found: Sequence[str]) -> str:
    """Return why there are no results: the existing outputs, and similar names."""
    wrote = f"it wrote {listed(found)}" if found else "it wrote no output"
    near = nearest(name, found)
    return f"the script did not write {short(name)}, which --results names; {wrote}" + (
        f"; did you mean {' or '.join(map(short, near))}?" if near else ""
    )


def _csv_rows(text: str) -> Iterator[dict[str, float]]:
    """Yield the numbers of each row. The columns are separated as those of the first line; after a semicolon, a comma is a decimal sign."""
    first = text.partition("\n")[0]
    separator = max(",;\t", key=lambda mark: sum(map(len, csv.reader([first], delimiter=mark))))
    for row in csv.DictReader(io.StringIO(text), delimiter=separator):
        cells = {
            name: value.replace(",", ".") if separator == ";" else value
            for name, value in row.items()
            if name and value
        }
        yield {name: number for name, value in cells.items() if (number := _number(value)) is not None}


def _of_rows(rows: Iterable[Mapping[str, float]], *, file: Path, output: Path) -> ScriptResults:
    """Return the rows, and the last value of each column as the results; a row without a step gets its number, counted from 0."""
    metrics: dict[str, float] = {}
    logged = []
    for number, row in enumerate(rows):
        step = next((row[name] for name in _STEPS if name in row), number)
        values = {name: value for name, value in row.items() if name not in _STEPS}
        metrics |= values
        logged.append((int(step) if math.isfinite(step) else number, values))
    return ScriptResults(file=file.relative_to(output).as_posix(), metrics=_limited(metrics, file), logged=logged)


def _by_step(scalars: Sequence[Scalar]) -> list[dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for each in scalars:
        rows.setdefault(each.step, {"step": float(each.step)})[each.name] = each.value
    return [rows[step] for step in sorted(rows)]


def scalars_of(folder: Path) -> list[Scalar]:
    """Return the scalars in the event files of a folder, sorted by name and step; if a step occurs twice, the value written last.

    A truncated file is read up to its last complete event.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[tuple[str, int], float] = {}
    for path in sorted(folder.glob(f"{EVENTS}*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if (
                    value.HasField("tensor")
                    and (array := make_ndarray(value.tensor)).size == 1
                    and array.dtype.kind in "fiu"
                ):
                    found[value.tag, event.step] = float(array.reshape(()))
    return [Scalar(name, step, value) for (name, step), value in sorted(found.items())]


def _numbers(content: Any, prefix: str = "") -> dict[str, float]:
    """Return the numbers of a JSON value, named by their keys joined with `/`."""
    if isinstance(content, dict):
        return {
            name: number
            for key, value in content.items()
            for name, number in _numbers(value, f"{prefix}/{key}").items()
        }
    number = None if isinstance(content, str) and content not in _WORDS else _number(content)
    return {} if number is None or not prefix else {prefix[1:]: number}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):  # Python reads `1_000`
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _limited(metrics: dict[str, float], file: Path) -> dict[str, float]:
    if len(metrics) > _MOST:
        message = f"{file.name} has {len(metrics):,} numbers; a run has at most {_MOST:,} results"
        raise DocumentError(message, hint="write the results into a separate file, and add --results FILE")
    return metrics


def metric_lines(results: ScriptResults) -> bytes:
    """Return the logged rows as lines of metrics.jsonl, which curves and the search for the first differing step use."""
    rows = (
        {"step": step, **{name: value for name, value in row.items() if math.isfinite(value)}}
        for step, row in results.logged
    )
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
