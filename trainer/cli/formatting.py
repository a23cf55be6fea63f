"""Format cells, values and durations for a terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.cells import cell_len

from trainer.cli.output import one_line
from trainer.runs.attempts import total_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.runs.record import Record


def columns(cells: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield each row of cells as a line, with aligned columns."""
    rows = [tuple(map(one_line, row)) for row in cells]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for line in rows:
        yield "  ".join(padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Pad a string with spaces, on the right or on the left, to a width on the terminal, where an East Asian letter takes two columns.

    >>> padded("ab", 5), padded("고양", 5), padded("ab", 5, right=True)
    ('ab   ', '고양 ', '   ab')
    """
    blanks = " " * (width - cell_len(text))
    return f"{blanks}{text}" if right else f"{text}{blanks}"


def value_text(value: object) -> str:
    """Return a value as text: a float with six significant digits, a list of strings, such as a script's arguments, as a command line.

    >>> [value_text(some) for some in (1 / 3, None, ["--out", "a b"], [1, 2])]
    ['0.333333', 'none', "--out 'a b'", '[1, 2]']
    """
    if value is None:
        return "none"
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return shlex.join(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """Return a duration in seconds, minutes or hours, with units; an empty string for None.

    >>> [duration(some) for some in (3.21, 75, 3725)]
    ['3.2 s', '1 min 15 s', '1 h 02 min']
    """
    if seconds is None:
        return ""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


def duration_text(records: Sequence[Record], *, died: bool = False) -> str:
    """Return the total duration of a run's attempts, with their number if there are several."""
    if not records:
        return ""
    total = total_duration(records, died=died)
    if total.attempts == 1:
        return duration(records[-1].circumstances.timing.seconds)
    return f"{'' if total.known else 'over '}{duration(total.seconds)} in {total.attempts} attempts"
