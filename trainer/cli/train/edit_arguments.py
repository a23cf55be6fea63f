"""Edits of the arguments of `train`: the form in which they were typed, additional options, and paths of the checkout."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.document import json_value
from trainer.base.errors import DocumentError, UsageError
from trainer.cli.configuration import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.cli.experiments import ExperimentFile
    from trainer.cli.train.command_line import TrainRequest


_ARGUMENTS: Final = "--arguments="


def with_arguments(argv: list[str]) -> list[str]:
    """Return a command line with the words after `--`, a script's arguments, as the value of the setting `arguments`.

    Raise `UsageError` for `--` without `--script`.

    >>> with_arguments(["--script", "a.py", "--", "--lr", "0.1"])
    ['--script', 'a.py', '--arguments=["--lr", "0.1"]']
    """
    if "--" not in argv:
        return argv
    at = argv.index("--")
    if not any(word.partition("=")[0] == "--script" for word in argv[:at]):
        message = "found -- without --script; the words after -- are a script's arguments"
        raise UsageError(message, hint="write --script FILE -- ARGUMENTS")
    return [*argv[:at], f"{_ARGUMENTS}{json.dumps(argv[at + 1 :], ensure_ascii=False)}"]


def as_typed(argv: Sequence[str]) -> list[str]:
    """Return a command line with a script's arguments as the words after `--`: the inverse of `with_arguments`."""
    argument = next((word for word in argv if word.startswith(_ARGUMENTS)), None)
    with suppress(DocumentError):
        words = json_value(argument.removeprefix(_ARGUMENTS), where=_ARGUMENTS) if argument else None
        if isinstance(words, list):
            return [*(word for word in argv if word != argument), "--", *map(str, words)]
    return [*argv]


def with_paths_of_project(argv: list[str], data: str | None, experiment: ExperimentFile) -> list[str]:
    """Return the command line with `--data` relative to the experiment's project, so that the record is independent of its path."""
    path, colon, name = (data or "").partition(":")
    file = (Path.cwd() / path).resolve()
    if experiment.project is None or not path.endswith(".py") or not file.is_relative_to(experiment.project):
        return argv
    return with_option(argv, "data", f"{file.relative_to(experiment.project).as_posix()}{colon}{name}")


def from_checkout(request: TrainRequest) -> list[str]:
    """Return the command line with paths relative to the checkout, where the container starts.

    Raise `UsageError` for a settings file outside the checkout.
    """
    files = [file.resolve() for file in request.origins.files]
    for file in files:
        if not file.is_relative_to(CHECKOUT):
            raise UsageError(
                f"--settings {file} is outside the checkout; only the checkout is mounted",
                hint="copy the file into the checkout",
            )
    argv = with_option(request.argv, "script" if request.is_script else "exp", request.experiment.name)
    return with_settings_files(argv, [_as_path(file.relative_to(CHECKOUT)) for file in files])


def _as_path(file: Path) -> str:
    """Return a path as a word that is not read as the name of a group: a file may lack the suffix `.toml`."""
    return file.as_posix() if file.suffix else f"./{file.as_posix()}"


def with_option(argv: list[str], option: str, *values: str) -> list[str]:
    """Return the command line with the values of an existing option replaced, in order."""
    replaced: list[str] = []
    words, following = iter(argv), iter(values)
    for word in words:
        if word == f"--{option}":
            next(words)
            replaced += [word, next(following)]
        else:
            replaced.append(f"--{option}={next(following)}" if word.startswith(f"--{option}=") else word)
    return replaced


def with_settings_files(argv: list[str], files: Iterable[Path | str]) -> list[str]:
    """Return the command line with each settings file replaced by the path at its position in `files`."""
    return with_option(argv, "settings", *map(str, files))
