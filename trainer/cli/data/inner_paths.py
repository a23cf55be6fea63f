"""Paths inside a dataset as they are typed: they begin in the folder that is published."""

from __future__ import annotations

from pathlib import Path

from trainer.base.errors import UsageError
from trainer.base.paths import path_fault
from trainer.base.suggestions import short


def inner_path(word: str, *, folder: Path, before: str) -> str:
    """The path of a file or folder inside `folder`. Raises `UsageError` for one that lies elsewhere, with the path to type.

    `before` is what is typed before the path: an option and a blank, or `--array FIELD=`.
    """
    inner = word.removeprefix("./").rstrip("/")
    fault = path_fault(inner)
    if fault is None:
        return inner
    raise UsageError(
        f"{before}{short(word)}: expected a path inside {folder} ({fault})", hint=_hint(word, folder, before)
    )


def _hint(word: str, folder: Path, before: str) -> str:
    try:
        inside = Path(word).resolve().relative_to(folder.resolve()).as_posix()
    except (ValueError, OSError, RuntimeError):
        return f"copy it into {folder}; a version holds every file that its reader needs"
    return f"type {before}{inside}"
