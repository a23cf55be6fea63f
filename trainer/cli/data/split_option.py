"""`--split NAME=SAMPLES`: rows, a range in percent, a folder, or a list of files; and other NAME=VALUE options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from trainer.base.errors import DocumentError, UsageError
from trainer.base.paths import path_fault
from trainer.base.plain_text import read_text
from trainer.base.suggestions import short

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_SPELLING: Final = "1 to 63 of a-z, A-Z, 0-9, -, _ and ., starting with a letter or a digit"
_NUMBER: Final = r"[0-9]{1,15}"
_PERCENT: Final = r"[0-9]{1,3}(?:\.[0-9]{1,9})?"
_FRACTION: Final = r"0?\.[0-9]{1,9}"
_HINTS: Final = (
    (r".*[*?\[].*", "list the files: (cd DIR && ls {word}) > {name}.txt, then --split {name}=@{name}.txt"),
    (rf"{_NUMBER}(-|\.\.\.?){_NUMBER}", "use --split {name}={first}:{last}"),
    (rf"{_PERCENT}:{_PERCENT}%|{_PERCENT}%:{_PERCENT}", "use --split {name}={first}%:{last}%"),
    (rf"{_PERCENT}%", "give the start as well: --split {name}=0%:{word}"),
    (rf"({_FRACTION}|0):{_FRACTION}|{_FRACTION}", "use percent, for example --split {name}=0%:80%"),
    (rf":{_NUMBER}", "use --split {name}=0{word}"),
    (rf"{_NUMBER}:", "give the end as well: --split {name}={first}:END"),
    (r"@", "give the file that lists the samples: --split {name}=@FILE"),
    (
        r"[^:%@\s]*[^\W\d][^:%@\s]*",
        "for a folder: --split {name}={word}/; for a list of files: --split {name}=@{word}",
    ),
)
"""Patterns of near misses, and a hint for each."""
_FORMS: Final = "rows as 0:800, a range as 0%:80%, a folder as train/, or a list of files as @FILE"


def parse_split(word: str, *, seed: int) -> tuple[str, Any]:
    """Return the name of a split, and its samples in the form of a declaration. Raises `UsageError`."""
    name, samples = parse_pair(word, "NAME=SAMPLES, for example train=0:800", option="--split")
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            f"--split {short(name)!r}: expected a name of {_SPELLING}", hint="for example --split train=0:800"
        )
    if samples.startswith("@") and len(samples) > 1:
        return name, {"files": read_file_list(Path(samples[1:]))}
    if samples.endswith("/"):
        return name, {"prefix": _prefix(name, samples)}
    if rows := re.fullmatch(f"({_NUMBER}):({_NUMBER})", samples):
        first, last = int(rows[1]), int(rows[2])
        if first < last:
            return name, [first, last]
        raise UsageError(
            f"--split {short(word)}: expected FIRST:END with FIRST below END, found rows from {first} to before {last}",
            hint=f"for example --split {name}={min(first, last)}:{max(first, last) or 800}",
        )
    if percent := re.fullmatch(f"({_PERCENT})%:({_PERCENT})%", samples):
        if 0 <= float(percent[1]) < float(percent[2]) <= 100:  # noqa: PLR2004 - the bounds of a percentage
            return name, {"percent": [percent[1], percent[2]], "seed": seed}
        raise UsageError(
            f"--split {short(word)}: expected FROM%:TO% with FROM below TO, from 0% to 100%",
            hint=f"for example --split {name}=0%:80%",
        )
    raise UsageError(f"--split {short(word)}: expected {_FORMS}", hint=_hint(name, samples))


def _prefix(name: str, samples: str) -> str:
    folder = samples.removeprefix("./")
    if folder and (fault := path_fault(folder[:-1])):
        message = f"--split {name}={short(samples)}: expected a folder inside the published folder ({fault})"
        raise UsageError(message, hint=f"for example --split {name}=train/")
    if not folder:
        raise UsageError(
            f"--split {name}={samples}: expected a folder", hint=f"for all samples: --split {name}=0%:100%"
        )
    return folder


def _hint(name: str, samples: str) -> str:
    template = next((hint for form, hint in _HINTS if re.fullmatch(form, samples)), None)
    if template is None:
        return f"for example --split {name}=0:800"
    first, last = (*re.split(r":|-|\.\.+", samples.replace("%", ""), maxsplit=1), "")[:2]
    return template.format(name=name, word=short(samples), first=first, last=last)


def read_file_list(path: Path) -> list[str]:
    """Return the paths in a text file, one on each line; blank lines are ignored. Raises `UsageError` with the line."""
    lines: dict[str, int] = {}
    try:
        text = read_text(path)
    except DocumentError as fault:
        message = f"--split: {path} cannot be read as a list of files: {fault.message}"
        raise UsageError(message, hint=f"{fault.hint}; write one path on each line") from fault
    for number, line in enumerate(text.split("\n"), start=1):
        file = line.strip().removeprefix("./")
        if not file:
            continue
        at = f"{path}, line {number}: {short(file)!r}"
        if "\\" in file:
            raise UsageError(f"{at} contains a backslash", hint=f"use /: {short(file.replace(chr(92), '/'))}")
        if problem := path_fault(file.removesuffix("/")):
            hint = "write paths relative to the published folder, for example train/0001.png"
            raise UsageError(f"{at} is not a path inside the dataset ({problem})", hint=hint)
        if file.endswith("/"):
            hint = f"to use a folder as a split: --split NAME={short(file)}"
            raise UsageError(f"{at} is a folder; expected a file", hint=hint)
        if file in lines:
            raise UsageError(f"{at} is already listed in line {lines[file]}", hint="remove one of the lines")
        lines[file] = number
    if not lines:
        raise UsageError(f"{path} lists no files", hint="write one path on each line, for example train/0001.png")
    return list(lines)


def parse_pair(word: str, form: str, *, option: str = "") -> tuple[str, str]:
    """Return the two sides of `NAME=VALUE`. Raises `UsageError` with the expected form."""
    name, equals, value = word.partition("=")
    if not (name.strip() == name and name and equals and value):
        raise UsageError(
            f"{option} expected {form}, found {short(word)!r}".lstrip(), hint="write it in this form, without blanks"
        )
    return name, value


def parse_distinct(words: list[str], parse: Callable[[str], tuple[str, T]]) -> dict[str, T]:
    """Parse `NAME=VALUE` words into a mapping. Raises `UsageError` if a name is repeated."""
    values: dict[str, T] = {}
    for word in words:
        name, value = parse(word)
        if name in values:
            raise UsageError(
                f"{short(name)!r} is given twice: {short(word)!r} is the second", hint="remove one of them"
            )
        values[name] = value
    return values
