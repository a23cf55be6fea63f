"""Command-line arguments: argparse, with errors in our own words and codes."""

from __future__ import annotations

import argparse
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never

from trainer.base.errors import UsageError
from trainer.base.suggestions import did_you_mean, short

if TYPE_CHECKING:
    from collections.abc import Sequence

_MISSING: Final = re.compile(r"the following arguments are required: (.*)")
_NO_VALUE: Final = re.compile(r"argument (?:-\w/)?(--[\w-]+): expected (?:one|at least one) argument")


class Arguments(argparse.ArgumentParser):
    """An argument parser whose faults are `UsageError`s with the nearest known word; no abbreviations of options."""

    def __init__(self, prog: str, description: str) -> None:
        """Describe the command `prog`."""
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self._typed: list[str] = []

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override] # Any covers its overloads
        """As argparse does it; an empty word, as of a shell variable that is not set, is an error, and so are two values of one option."""
        self._typed = list(sys.argv[1:] if args is None else args)
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            given = getattr(found, action.dest, None)
            if action.default != "" and self._is_empty(given):
                name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
                self.error(f"{name}: found an empty word")
            if action.nargs is None and action.option_strings and not isinstance(given, list):
                self._require_one_value(action.option_strings)
        return found, rest

    def _require_one_value(self, spellings: Sequence[str]) -> None:
        """Raise `UsageError` for an option that was given twice with two values: argparse would take the last one silently."""
        typed = self._typed[: self._typed.index("--")] if "--" in self._typed else self._typed
        values = dict.fromkeys(
            word.partition("=")[2] if "=" in word else following
            for word, following in pairwise([*typed, ""])
            if word.partition("=")[0] in spellings
        )
        if len(values) > 1:
            self.error(f"{spellings[-1]} is given twice: {' and '.join(map(short, values))}")

    def commands(self, *, dest: str = "command") -> argparse._SubParsersAction[Verb]:
        """Begin the list of this command's verbs; each is a `Verb`."""
        return self.add_subparsers(dest=dest, required=True, metavar="COMMAND", parser_class=Verb)

    def error(self, message: str) -> Never:
        """Raise, instead of printing the usage and exiting."""
        odd = next((word for word in self._typed if word.startswith("-") and not self._is_option(word)), None)
        if odd is not None and (missing := _MISSING.fullmatch(message)):
            said = f"{self.prog}: {missing[1]} is missing: {short(odd)!r} is read as an option, since it begins with a dash"
            raise UsageError(said, hint=f"write it before all options, without a dash; see `{self.prog} --help`")
        raise UsageError(f"{self.prog}: {message}", hint=self._hint(message))

    def _hint(self, message: str) -> str:
        option = _NO_VALUE.fullmatch(message)
        if option and (value := self._after(option[1])):
            return f"a value that begins with a dash is written {option[1]}={short(value)}"
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if unknown:
            return did_you_mean(unknown[1], self._options())
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            return did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        if message.endswith("found an empty word"):
            return "give a value; a shell variable that is not set gives an empty word"
        if " is given twice: " in message:
            return "give it once"
        return f"see `{self.prog} --help`"

    def _options(self) -> list[str]:
        """The options of this command, or of the verb that was typed."""
        verbs = {name: each for action in self._actions for name, each in (_verbs(action) or {}).items()}
        verb = next((verbs[word] for word in self._typed if word in verbs), None)
        return [*(self if verb is None else verb)._option_string_actions]  # noqa: SLF001 - of its own class

    def _is_empty(self, given: object) -> bool:
        """Whether a value was given as an empty word, which the type may have made a path of."""
        values = given if isinstance(given, list) else [given]
        empty = any(word == "" or word.endswith("=") for word in self._typed)
        return empty and any(value in {"", Path()} for value in values if isinstance(value, str | Path))

    def _is_option(self, word: str) -> bool:
        return word.partition("=")[0] in self._option_string_actions

    def _after(self, option: str) -> str | None:
        """The word after an option, if it begins with a dash and is no option itself."""
        places = [place for place, word in enumerate(self._typed[:-1]) if word == option]
        word = self._typed[places[0] + 1] if places else ""
        return word if word.startswith("-") and not self._is_option(word) else None


def _verbs(action: argparse.Action) -> dict[str, Arguments] | None:
    return action.choices if isinstance(action, argparse._SubParsersAction) else None  # noqa: SLF001 - argparse has no other name for it


class Verb(Arguments):
    """One verb of a command."""

    def __init__(self, *, prog: str, help: str | None = None, description: str | None = None) -> None:  # noqa: A002 - argparse's own name
        """Describe the verb; argparse gives `prog`."""
        super().__init__(prog, description or help or "")
