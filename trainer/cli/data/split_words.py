"""`--split NAME=SAMPLES` as it is typed: rows, a part in percent, a folder, or a list of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from trainer.base.errors import DocumentError, UsageError
from trainer.base.paths import path_fault
from trainer.base.plain_text import read_text
from trainer.base.suggestions import short

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_SPELLING: Final = "1 to 63 of a-z, A-Z, 0-9, -, _ and ., a letter or a digit first"
_NUMBER: Final = r"[0-9]{1,15}"
_PERCENT: Final = r"[0-9]{1,3}(?:\.[0-9]{1,9})?"
_PART: Final = r"0?\.[0-9]{1,9}"
_HINTS: Final = (
    (r".*[*?\[].*", "list the files: (cd DIR && ls {word}) > {name}.txt, then --split {name}=@{name}.txt"),
    (rf"{_NUMBER}(-|\.\.\.?){_NUMBER}", "as --split {name}={first}:{last}"),
    (rf"{_PERCENT}:{_PERCENT}%|{_PERCENT}%:{_PERCENT}", "as --split {name}={first}%:{last}%"),
    (rf"{_PERCENT}%", "a part begins and ends: --split {name}=0%:{word}"),
    (rf"({_PART}|0):{_PART}|{_PART}", "parts are given in percent, as --split {name}=0%:80%"),
    (rf":{_NUMBER}", "as --split {name}=0{word}"),
    (rf"{_NUMBER}:", "a span has an end too: --split {name}={first}:END"),
    (r"@", "name the file that lists them: --split {name}=@FILE"),
    (
        r"[^:%@\s]*[^\W\d][^:%@\s]*",
        "of a folder: --split {name}={word}/; of a list of files: --split {name}=@{word}",
    ),
)
"""How words look that are nearly a split, and what to type."""
_FORMS: Final = "rows as 0:800, a part as 0%:80%, a folder as train/, or a list of files as @FILE"


def parse_split(word: str, *, seed: int) -> tuple[str, Any]:
    """The name of a split, and its samples as they are declared. Raises `UsageError`, which names the forms."""
    name, samples = pair(word, "NAME=SAMPLES, as train=0:800", option="--split")
    if not re.fullmatch(_NAME, name):
        raise UsageError(f"--split {short(name)!r}: a split's name is {_SPELLING}", hint="as --split train=0:800")
    if samples.startswith("@") and len(samples) > 1:
        return name, {"files": listed_files(Path(samples[1:]))}
    if samples.endswith("/"):
        return name, {"prefix": _prefix(name, samples)}
    if rows := re.fullmatch(f"({_NUMBER}):({_NUMBER})", samples):
        first, last = int(rows[1]), int(rows[2])
        if first < last:
            return name, [first, last]
        raise UsageError(
            f"--split {short(word)}: rows begin at {first} and end before {last}, so there are none; expected FIRST:END with "
            "FIRST below END",
            hint=f"as --split {name}={min(first, last)}:{max(first, last) or 800}",
        )
    if part := re.fullmatch(f"({_PERCENT})%:({_PERCENT})%", samples):
        if 0 <= float(part[1]) < float(part[2]) <= 100:  # noqa: PLR2004 - that is what a percentage is
            return name, {"percent": [part[1], part[2]], "seed": seed}
        raise UsageError(
            f"--split {short(word)}: expected FROM%:TO% with FROM below TO, from 0% to 100%",
            hint=f"as --split {name}=0%:80%",
        )
    raise UsageError(f"--split {short(word)}: expected {_FORMS}", hint=_hint(name, samples))


def _prefix(name: str, samples: str) -> str:
    """The folder of a split, inside the dataset."""
    folder = samples.removeprefix("./")
    if folder and (fault := path_fault(folder[:-1])):
        sentence = f"--split {name}={short(samples)}: expected a folder inside the one that is published ({fault})"
        raise UsageError(sentence, hint=f"as --split {name}=train/")
    if not folder:
        raise UsageError(f"--split {name}={samples}: expected a folder", hint=f"of all samples: --split {name}=0%:100%")
    return folder


def _hint(name: str, samples: str) -> str:
    found = next(((form, hint) for form, hint in _HINTS if re.fullmatch(form, samples)), None)
    if found is None:
        return f"as --split {name}=0:800"
    first, last = (*re.split(r":|-|\.\.+", samples.replace("%", ""), maxsplit=1), "")[:2]
    return found[1].format(name=name, word=short(samples), first=first, last=last)


def listed_files(path: Path) -> list[str]:
    """The files that a text file lists, one a line; blank lines are ignored. Raises `UsageError` with the line."""
    lines: dict[str, int] = {}
    try:
        text = read_text(path)
    except DocumentError as fault:
        sentence = f"--split: {path} cannot be read as a list of files: {fault.message}"
        raise UsageError(sentence, hint=f"{fault.hint}; a list has one path a line") from fault
    for number, line in enumerate(text.split("\n"), start=1):
        file = line.strip().removeprefix("./")
        if not file:
            continue
        if "\\" in file:
            hint = f"write / for \\: {short(file.replace(chr(92), '/'))}"
            raise UsageError(f"{path}, line {number}: {short(file)!r} contains a backslash", hint=hint)
        if wrong := path_fault(file.removesuffix("/")):
            sentence = f"{path}, line {number}: {short(file)!r} is no path inside the dataset ({wrong})"
            raise UsageError(
                sentence, hint="write paths as they are below the folder that is published: train/0001.png"
            )
        if file.endswith("/"):
            hint = f"one folder as a split: --split NAME={short(file)}"
            raise UsageError(f"{path}, line {number}: {short(file)!r} is a folder; expected a file", hint=hint)
        if file in lines:
            raise UsageError(
                f"{path}, line {number}: {short(file)!r} is listed already in line {lines[file]}",
                hint="remove one of the lines",
            )
        lines[file] = number
    if not lines:
        raise UsageError(f"{path} lists no files", hint="write one path a line, as train/0001.png")
    return list(lines)


def pair(word: str, form: str, *, option: str = "") -> tuple[str, str]:
    """The two sides of `NAME=VALUE`. Raises `UsageError` with the form that is expected."""
    name, equals, value = word.partition("=")
    if not (name.strip() == name and name and equals and value):
        raise UsageError(
            f"{option} expected {form}, found {short(word)!r}".lstrip(), hint="write it so, without blanks"
        )
    return name, value
