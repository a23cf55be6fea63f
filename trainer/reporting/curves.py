"""Curves: the values that a run logged by step, read from its files.

The files metrics.jsonl, telemetry.jsonl and trace.jsonl contain lines of JSON with a `step`. A line that cannot be parsed is skipped, since
the last line of a killed run is often incomplete.
"""

from __future__ import annotations

import io
import json
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import UnsafePathError
from trainer.base.run_files import open_run_file
from trainer.comparison.trace_lines import numbers_of
from trainer.comparison.verdict import number_of
from trainer.reporting.drawing import PlotLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TELEMETRY: Final = "telemetry.jsonl"
LEARNING_RATE: Final = "learning_rate"
"""The name of the first optimizer's learning rate in telemetry; other names are this name, `_` and a suffix."""
LARGEST: Final = 256 << 20
"""The maximum size, in bytes, of a file whose curves are read."""
_MOST: Final = 200
"""The maximum number of curves per file."""
_NO_CURVE: Final = frozenset({"step", "epoch"})
RATE: Final = "learning rate"
NORM: Final = "gradient norm"

Curves = dict[str, PlotLine]


def read_curves(path: Path) -> Curves:
    """Read the numbers in a file of JSON lines, by name; the result is empty if the file cannot be read or is too large."""
    return _curves(
        (row["step"], {name: value for name, value in row.items() if name not in _NO_CURVE}) for row in _rows(path)
    )


def read_telemetry(attempts: Iterable[Path]) -> Curves:
    """Read the telemetry of a run's attempts, in order. A later attempt replaces the values of the steps that it repeated."""
    curves: Curves = {}
    for attempt in attempts:
        for name, line in read_curves(attempt / TELEMETRY).items():
            earlier = curves.get(name, PlotLine(name=name, x=[], y=[]))
            count = next((index for index, x in enumerate(earlier.x) if x >= line.x[0]), len(earlier.x))
            curves[name] = PlotLine(name=name, x=[*earlier.x[:count], *line.x], y=[*earlier.y[:count], *line.y])
    return curves


def read_schedule(trace: Path) -> Curves:
    """Read, from a trace, the learning rate of each parameter group and the norm of the gradients at each step."""
    rows = _rows(trace, marked='"loss"', header=True)
    names = next(rows, {}).get("schedule")
    names = [str(name) for name in names] if isinstance(names, list) else []
    groups = {index: name.partition(".")[0] for index, name in enumerate(names) if name.endswith(".lr")}
    return _curves((row["step"], dict(_scheduled(row, groups))) for row in rows)


def _scheduled(row: dict[str, Any], groups: dict[int, str]) -> Iterator[tuple[str, Any]]:
    values = row.get("schedule")
    for index, group in groups.items():
        if isinstance(values, list) and index < len(values):
            yield RATE if len(groups) == 1 else f"{RATE}, group {group}", values[index]
    with suppress(KeyError, ValueError, IndexError, struct.error):
        yield NORM, numbers_of(str(row["gradient"]))[0]


def _curves(rows: Iterable[tuple[int, dict[str, Any]]]) -> Curves:
    found: dict[str, tuple[list[float], list[float]]] = {}
    for step, values in rows:
        for name, value in values.items():
            number = number_of(value)
            if number is not None and (name in found or len(found) < _MOST):
                xs, ys = found.setdefault(name, ([], []))
                xs.append(step)
                ys.append(number)
    return {name: PlotLine(name=name, x=xs, y=ys) for name, (xs, ys) in found.items()}


def _rows(path: Path, *, marked: str = "", header: bool = False) -> Iterator[dict[str, Any]]:
    """Yield each line that contains `marked` and is an object with a step. With `header`, the first line is always yielded."""
    try:
        with io.TextIOWrapper(open_run_file(path), encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_size > LARGEST:
                return
            for number, line in enumerate(file):
                is_header = header and number == 0
                if is_header or marked in line:
                    row = _object(line)
                    if is_header or (type(row.get("step")) is int and 0 <= row["step"] < 1 << 53):
                        yield row
    except (OSError, UnsafePathError):
        return


def _object(line: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        value = json.loads(line)
        return value if isinstance(value, dict) else {}
    return {}
