"""A new experiment from the file of another experiment, with comments that say what to change.

The new file trains like the original, except for a dataset that the user names.
"""

from __future__ import annotations

import ast
import keyword
import re
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ExperimentError, NotWritableError
from trainer.base.plain_text import read_python
from trainer.base.suggestions import short
from trainer.data.reader import Images

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.declaration import Dataset

_SETTINGS: Final = """\
# Each setting is an option too, as `--learning-rate 1e-4`; `train --exp NAME --help` lists all. Any can be overridden here by a value
# alone; one of your own has a type, a value and, in the line below, its meaning."""
_DATASET: Final = "# One of `reprise data ls`; docs/tutorial/your-own-data.md publishes your own."
_NET: Final = """\
# A parameter called like a setting gets its value. Loss, metrics, optimizer and figures are the task's:
# docs/how-to/experiments.md says what of it may be overridden here."""
_LONGEST: Final = 63
"""Maximum length of a name, in characters."""
_CODING: Final = re.compile(r"[ \t\f]*#.*?coding[:=]")
"""A comment with a file's encoding in its first two lines (PEP 263)."""
_FORWARD: Final = "# The net is tried on two samples before the first step; errors name what does not fit the task."


def new_experiment(file: Path, *, like: Path, dataset: Dataset | None = None) -> list[str]:
    """Write `file` after the model of `like`; return the changes that remain for the user; raise `ExperimentError` if `file` exists."""
    check_name(file.stem)
    try:
        text = renamed_copy(read_python(like), name=file.stem, like=like.stem, dataset=dataset)
    except (OSError, SyntaxError, ValueError) as fault:
        reason = fault.msg if isinstance(fault, SyntaxError) else str(fault)
        said = f"{like} is not a Python file to begin from: {reason.partition(' for ')[0]}"
        raise ExperimentError(said, hint="correct it, or name another one: --like digits") from fault
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as page:
            page.write(text)
    except FileExistsError as fault:
        raise ExperimentError(f"{file} exists already", hint="choose another name, or change that one") from fault
    except OSError as fault:
        said = f"{file} cannot be written: {fault.strerror}"
        raise NotWritableError(said, hint="type it in a checkout of your own: scripts/reprise new") from fault
    changes = {"classes =": "how many classes the dataset has"} if dataset and not _classes(dataset) else {}
    changes |= {"def forward": "the input and output sizes of the net"}
    return [
        f"{file.name}:{number}: {change}"
        for number, line in enumerate(text.splitlines(), start=1)
        for words, change in changes.items()
        if line.strip().startswith(words)
    ]


def renamed_copy(text: str, *, name: str, like: str, dataset: Dataset | None = None) -> str:
    """Return the text under its new name; a comment that is already there is not repeated."""
    lines = text.splitlines()
    for at, end, new in sorted(_edits(ast.parse(text), name, like, dataset), reverse=True):
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
    said = f"{short(name)!r} cannot be an experiment's name: expected 1 to {_LONGEST} of a-z, 0-9 and _, a letter first"
    raise ExperimentError(said, hint=f"for example {near or 'my_idea'}")


_Edit = tuple[int, int, list[str]]
"""A replacement of the lines `[at:end]`."""


def _edits(page: ast.Module, name: str, like: str, dataset: Dataset | None) -> list[_Edit]:
    said = f'"""{name.replace("_", " ").capitalize()}: say in a sentence what is learned from what. Begun as a copy of {like}."""'
    first = page.body[0] if page.body and ast.get_docstring(page) is not None else None
    found = [(0, 0, [said]) if first is None else (first.lineno - 1, first.end_lineno or 1, [said])]
    for node in page.body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            found += [_above(node, _SETTINGS), *_of_dataset(node, dataset)]
        elif isinstance(node, ast.ClassDef):
            found.append(_above(node, _NET))
            found += [_above(part, _FORWARD) for part in node.body if getattr(part, "name", "") == "forward"]
    return found


def _above(node: ast.stmt, comment: str) -> _Edit:
    marks = [mark.lineno for mark in getattr(node, "decorator_list", ())]
    at = min([node.lineno, *marks]) - 1
    return at, at, [f"{' ' * node.col_offset}{line}" for line in comment.splitlines()]


def _of_dataset(settings: ast.ClassDef, dataset: Dataset | None) -> list[_Edit]:
    """Add a comment to the dataset's line, and insert the dataset and its number of classes."""
    values = {} if dataset is None else {"dataset": repr(dataset.name).replace("'", '"'), "classes": _classes(dataset)}
    found: list[_Edit] = []
    for line in settings.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)]) if name == "dataset" or values.get(name):
                indent = " " * line.col_offset
                comment = [f"{indent}{_DATASET}"] if name == "dataset" else []
                value = values.get(name) or ast.unparse(line.value).replace("'", '"')
                found.append((line.lineno - 1, line.end_lineno or line.lineno, [*comment, f"{indent}{name} = {value}"]))
            case ast.Expr(value=ast.Constant(value=str())) if line is settings.body[0] and dataset is not None:
                meaning = f'{" " * line.col_offset}"""What this experiment can be given."""'
                found.append((line.lineno - 1, line.end_lineno or line.lineno, [meaning]))
    return found


def _classes(dataset: Dataset) -> str | None:
    if isinstance(dataset.reader, Images) and len(dataset.reader.classes) > 1:
        return str(len(dataset.reader.classes))
    counts = [field.classes for field in dataset.twin.values() if field.classes]
    return str(counts[0]) if len(counts) == 1 else None
