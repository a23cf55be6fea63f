"""Someone else's code, before it is run: what it is, how it differs from what is here, and the question.

Knows when a record is somebody else's: it was pulled, or lies outside of this checkout's runs. Refuses to take silence for an answer.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING

from trainer.actions.pull_run import PULLED
from trainer.digest import digest_of_file
from trainer.errors import ForeignCodeError
from trainer.suggest import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.host.source import SourceBundle, SourceFile
    from trainer.record import Record

_SHOWN = 400
"""Lines of a difference that are shown; the whole source lies in the run's folder."""


def is_foreign(folder: Path, *, runs: Path) -> bool:
    """Whether a run was made elsewhere: it was pulled, or is none of this checkout's."""
    return (folder / PULLED).exists() or folder.resolve().parent != runs.resolve()


def ask(record: Record, bundle: SourceBundle, *, checkout: Path, trusted: bool, isolation: str) -> None:
    """Show somebody else's source and ask. Raises `ForeignCodeError` where the answer is no, or nobody can be asked."""
    print("\n".join(page(record, bundle, checkout=checkout)), file=sys.stderr)
    if trusted:
        return
    hint = f"read it in the run's folder, then: reprise reproduce {record.run} --trust"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ForeignCodeError(
            f"run {record.run} was made by somebody else, and nobody said to run its code", hint=hint
        )
    print(f"Run it ({isolation})? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ForeignCodeError(f"the code of run {record.run} was not run", hint=hint)


def page(record: Record, bundle: SourceBundle, *, checkout: Path) -> Iterator[str]:
    """What the source is, file by file where it is not what this checkout holds."""
    around = record.circumstances
    yield f"run {record.run} was made by somebody else, on {around.host.name}"
    size = sum(len(file.data) for file in bundle.files)
    yield f"its source: {counted(len(bundle.files), 'file')}, {size / 1e6:.1f} MB, commit {around.source.commit}"
    other = [file for file in bundle.files if not _is_here(file, checkout)]
    if not other:
        yield "every file is the one of this checkout"
        return
    yield f"not as in this checkout: {counted(len(other), 'file')}"
    yield from (f"  {file.path}  {counted(len(file.data), 'byte')}" for file in other)
    lines = [line for file in other for line in _difference(file, checkout)]
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"... and {counted(len(lines) - _SHOWN, 'more line')}"


def _is_here(file: SourceFile, checkout: Path) -> bool:
    path = checkout / file.path
    return path.is_file() and digest_of_file(path) == file.sha256


def _difference(file: SourceFile, checkout: Path) -> Iterator[str]:
    path = checkout / file.path
    try:
        theirs = file.data.decode().splitlines()
        ours = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except (UnicodeDecodeError, OSError):
        return
    yield from difflib.unified_diff(ours, theirs, "here/" + file.path, "theirs/" + file.path, lineterm="")
