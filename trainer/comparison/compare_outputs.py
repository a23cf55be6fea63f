"""Compare the outputs of two runs of scripts: the outputs that differ, and the first line that differs in a text file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DigestMismatchError, DocumentError, UnsafePathError
from trainer.base.run_files import read_run_file, read_run_json
from trainer.runs.outputs import FILE, FOLDER, OutputTable

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST: Final = 1 << 22
"""The maximum size, in bytes, of a text file whose lines are compared."""
_LONGEST: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDifference:
    """An output that differs between two runs."""

    path: str
    detail: str


def compare_outputs(a: Path, b: Path, *, digests: tuple[str | None, str | None]) -> tuple[int, list[OutputDifference]]:
    """Return the number of outputs of both attempts, and the outputs that differ.

    Raise `DocumentError` if a table has another format, `DigestMismatchError` if it does not match its digest in `digests`.
    """
    one, other = (_table(attempt, digest) for attempt, digest in zip((a, b), digests, strict=True))
    paths = sorted({*one, *other})
    differences = [
        OutputDifference(path=path, detail=_detail(path, a, b, known=(path in one, path in other)))
        for path in paths
        if one.get(path) != other.get(path)
    ]
    return len(paths), differences


def _table(attempt: Path, digest: str | None) -> dict[str, str]:
    table = read_run_json(attempt / FILE, OutputTable)
    if table.digest != digest:
        message = f"{attempt / FILE} lists outputs with digest {table.digest}; the record has {digest}"
        raise DigestMismatchError(message, hint="it was altered: pull the run again")
    return table.compared


def _detail(path: str, a: Path, b: Path, *, known: tuple[bool, bool]) -> str:
    if False in known:
        return f"absent in {'AB'[known.index(False)]}"
    try:
        texts = [read_run_file(attempt / FOLDER / path, most=_LARGEST).decode() for attempt in (a, b)]
    except (DocumentError, UnsafePathError, UnicodeDecodeError):
        return "its contents differ"
    lines = zip_longest(*(text.splitlines() for text in texts))
    number, pair = next(((number, pair) for number, pair in enumerate(lines, start=1) if pair[0] != pair[1]), (0, None))
    if pair is None:
        return "its contents differ"
    return f"line {number}: {_shown(pair[0])} in A, {_shown(pair[1])} in B"


def _shown(line: str | None) -> str:
    if line is None:
        return "no line"
    return repr(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")
