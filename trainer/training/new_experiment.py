"""Create an experiment from the file of another experiment, with comments that mark the places to change.

The new file trains like the original, except for a dataset that the user names.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import ExperimentError, NotWritableError
from trainer.base.plain_text import read_python
from trainer.base.suggestions import short
from trainer.training.dataset_settings import COUNTS, SHAPE, DatasetSettings, settings_for
from trainer.training.declared_settings import sketched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trainer.data.declaration import Dataset

_SETTINGS: Final = """\
# Each setting is also an option, such as `--learning-rate 1e-4`; `train --exp NAME --help` lists all settings. To override a setting,
# assign a value without a type here; a new setting has a type, a value and, in the line below, its description."""
_DATASET: Final = (
    "# A dataset that `reprise data ls` lists; docs/tutorial/your-own-data.md shows how to publish your own."
)
_NET: Final = """\
# A parameter with the name of a setting receives its value. The task defines loss, metrics, optimizer and figures;
# docs/how-to/experiments.md lists what can be overridden here."""
_LONGEST: Final = 63
"""Maximum length of a name, in characters."""
_CODING: Final = re.compile(r"[ \t\f]*#.*?coding[:=]")
"""A comment with a file's encoding in its first two lines (PEP 263)."""
_FORWARD: Final = "# The net is tried on two samples before the first step; errors name what does not fit the task."


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExperiment:
    """A written experiment."""

    filled: dict[str, Any]
    """The settings that got their values from the dataset."""
    changes: list[str]
    """The edits that remain for the user, with file and line."""


def new_experiment(file: Path, *, like: Path, dataset: Dataset | None = None) -> NewExperiment:
    """Write a copy of the experiment `like` to `file`, with the settings that follow from `dataset`.

    Raise `ExperimentError` if `file` exists or has an invalid name, or if `like` cannot be parsed; `DatasetError` if the dataset does not
    fit the experiment; `NotWritableError` if `file` cannot be written.
    """
    check_name(file.stem)
    try:
        original = read_python(like)
        found = dataset_settings(original, dataset, like=like.stem)
        text = renamed_copy(original, name=file.stem, like=like.stem, values=found.values)
    except (OSError, SyntaxError, ValueError) as fault:
        reason = fault.msg if isinstance(fault, SyntaxError) else str(fault)
        message = f"{like} is not a Python file that can be copied: {reason.partition(' for ')[0]}"
        raise ExperimentError(message, hint="correct the file, or copy another experiment: --like digits") from fault
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as page:
            page.write(text)
    except FileExistsError as fault:
        raise ExperimentError(f"{file} already exists", hint="choose another name, or edit that file") from fault
    except OSError as fault:
        message = f"{file} cannot be written: {fault.strerror}"
        raise NotWritableError(message, hint="run it in your own checkout: scripts/reprise new") from fault
    return NewExperiment(filled=found.values, changes=[*_changes(text, file.name, found)])


def _changes(text: str, file: str, found: DatasetSettings) -> Iterator[str]:
    """Yield the edits that remain, with file and line: settings without a known value, and sizes in the net."""
    lines = text.splitlines()
    notes = {rf"{name}\s*[:=]": note for name, note in found.notes.items()}
    if not {SHAPE, COUNTS} & found.values.keys():
        notes["def forward"] = "the input and output sizes of the net"
    for pattern, note in notes.items():
        number = next((number for number, line in enumerate(lines, start=1) if re.match(pattern, line.strip())), None)
        name = "" if pattern == "def forward" else f"{pattern.partition(chr(92))[0]}: "
        if number is not None:
            yield f"{file}:{number}: {name}{note}"
        elif name:
            yield f"{file}: add {pattern.partition(chr(92))[0]} to Settings: {note}"


def dataset_settings(text: str, dataset: Dataset | None, *, like: str) -> DatasetSettings:
    """Return the values of an experiment's settings for a dataset. Raise `DatasetError` if the dataset does not fit its task."""
    if dataset is None:
        return DatasetSettings()
    sketch = sketched(text)
    if sketch is None:
        return settings_for(dataset, dict(_assigned(ast.parse(text))), like=like)
    defaults = {name: info.default for name, info in sketch.settings.__pydantic_fields__.items()}
    task = sketch.settings if sketch.reads_fields else None
    return settings_for(dataset, defaults, task=task, like=like, has_input_fields=sketch.has_input_fields)


def _assigned(page: ast.Module) -> Iterator[tuple[str, Any]]:
    """Yield the settings to which the class `Settings` assigns a literal, with their values."""
    for name, value in _values(page):
        with suppress(ValueError):
            yield name, ast.literal_eval(value)


def _values(page: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in page.body:
        for line in node.body if isinstance(node, ast.ClassDef) and node.name == "Settings" else ():
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    yield name, value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    yield name, value


def renamed_copy(text: str, *, name: str, like: str, values: Mapping[str, Any] | None = None) -> str:
    """Return the text with a new name and the settings `values`; a comment that the text already has is not repeated."""
    lines = _with_values(text, values or {}).splitlines()
    for at, end, new in sorted(
        _edits(ast.parse("\n".join(lines)), name, like, has_other_dataset=bool(values)), reverse=True
    ):
        lines[at:end] = [line for line in new if not (line.lstrip().startswith("# ") and line in lines)]
    lines[:2] = [line for line in lines[:2] if not _CODING.match(line)]  # the new file is UTF-8
    return "\n".join(lines) + "\n"


def check_name(name: str) -> None:
    """Raise `ExperimentError` for a name that is not a valid Python module name, or is too long."""
    if re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", name) and not keyword.iskeyword(name) and len(name) <= _LONGEST:
        return
    near = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")[:_LONGEST].strip("_")
    if keyword.iskeyword(near):
        near = f"{near}_net"
    if near and not near[0].isalpha():
        near = f"net_{near}"[:_LONGEST]
    message = f"{short(name)!r} cannot be an experiment's name: expected 1 to {_LONGEST} of a-z, 0-9 and _, beginning with a letter"
    raise ExperimentError(message, hint=f"for example {near or 'my_idea'}")


_Edit = tuple[int, int, list[str]]
"""A replacement of the lines `[at:end]`."""


def _edits(page: ast.Module, name: str, like: str, *, has_other_dataset: bool) -> list[_Edit]:
    message = f'"""{name.replace("_", " ").capitalize()}: describe in one sentence what the net predicts. Copied from {like}."""'
    first = page.body[0] if page.body and ast.get_docstring(page) is not None else None
    found = [(0, 0, [message]) if first is None else (first.lineno - 1, first.end_lineno or 1, [message])]
    for node in page.body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            found += [_above(node, _SETTINGS), *_of_dataset(node, has_other_dataset=has_other_dataset)]
        elif isinstance(node, ast.ClassDef):
            found.append(_above(node, _NET))
            found += [_above(part, _FORWARD) for part in node.body if getattr(part, "name", "") == "forward"]
    return found


def _above(node: ast.stmt, comment: str) -> _Edit:
    marks = [mark.lineno for mark in getattr(node, "decorator_list", ())]
    at = min([node.lineno, *marks]) - 1
    return at, at, [f"{' ' * node.col_offset}{line}" for line in comment.splitlines()]


def _of_dataset(settings: ast.ClassDef, *, has_other_dataset: bool) -> list[_Edit]:
    """Return the edits that add a comment above `dataset`, and replace the description of `Settings` if the dataset changes."""
    found: list[_Edit] = []
    for line in settings.body:
        match line:
            case ast.Assign(targets=[ast.Name(id="dataset")]):
                found.append(_above(line, _DATASET))
            case ast.Expr(value=ast.Constant(value=str())) if line is settings.body[0] and has_other_dataset:
                meaning = f'{" " * line.col_offset}"""Settings of this experiment."""'
                found.append((line.lineno - 1, line.end_lineno or line.lineno, [meaning]))
    return found


def _with_values(text: str, values: Mapping[str, Any]) -> str:
    """Return the text with other values of settings; a setting that `Settings` only inherits is added below `dataset`."""
    if not values:
        return text
    lines, places = text.splitlines(), dict(_values(ast.parse(text)))
    added = [name for name in values if name not in places]
    for name, node in sorted(places.items(), key=lambda each: each[1].lineno, reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        if name in values:
            before = lines[first].encode()[: node.col_offset].decode()
            lines[first : last + 1] = [
                before + _literal(values[name]) + lines[last].encode()[node.end_col_offset :].decode()
            ]
            last = first
        if name == "dataset":
            indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
            lines[last + 1 : last + 1] = [f"{indent}{each} = {_literal(values[each])}" for each in added]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
