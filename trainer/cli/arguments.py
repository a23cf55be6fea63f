"""Command-line parsers whose errors are `UsageError`s with hints."""

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


class _Formatter(argparse.HelpFormatter):
    """Wraps lines at spaces only, so that a path or an option with a hyphen stays whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        from textwrap import wrap

        return wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in self._split_lines(text, width - len(indent)))


class Arguments(argparse.ArgumentParser):
    """An argument parser that raises `UsageError` with the nearest known word and takes no abbreviated options."""

    def __init__(self, prog: str, description: str) -> None:
        """Create the parser of the command `prog`."""
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_Formatter)
        self._typed: list[str] = []

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override] # Any covers argparse's overloads
        """Parse as argparse does.

        Raise `UsageError` for an empty argument, such as an unset shell variable, and for an option with two different values.
        """
        self._typed = list(sys.argv[1:] if args is None else args)
        namespace, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(namespace, action.dest, None)
            if action.default != "" and self._is_empty(value):
                name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
                self.error(f"{name}: found an empty argument")
            if action.nargs is None and action.option_strings and not isinstance(value, list):
                self._require_one_value(action.option_strings)
        return namespace, rest

    def _require_one_value(self, spellings: Sequence[str]) -> None:
        """Raise `UsageError` for an option with two different values; argparse would silently use the last value."""
        typed = self._typed[: self._typed.index("--")] if "--" in self._typed else self._typed
        values = dict.fromkeys(
            word.partition("=")[2] if "=" in word else following
            for word, following in pairwise([*typed, ""])
            if word.partition("=")[0] in spellings
        )
        if len(values) > 1:
            self.error(f"{spellings[-1]} is given twice: {' and '.join(map(short, values))}")

    def commands(self, *, dest: str = "command") -> argparse._SubParsersAction[Verb]:
        """Return the action to which this command's subcommands are added."""
        return self.add_subparsers(dest=dest, required=True, metavar="COMMAND", parser_class=Verb, action=_Subcommands)

    def error(self, message: str) -> Never:
        """Raise `UsageError`, instead of printing the usage and exiting."""
        unknown = next((word for word in self._typed if word.startswith("-") and not self._is_option(word)), None)
        if unknown is not None and (missing := _MISSING.fullmatch(message)):
            raise UsageError(
                f"{self.prog}: {missing[1]} is missing: {short(unknown)!r} begins with a dash and is read as an option",
                hint=f"write {missing[1]} before all options, without a dash; see `{self.prog} --help`",
            )
        raise UsageError(f"{self.prog}: {message}", hint=self._hint(message))

    def _hint(self, message: str) -> str:
        option = _NO_VALUE.fullmatch(message)
        if option and (value := self._after(option[1])):
            return f"for a value that begins with a dash, write {option[1]}={short(value)}"
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if unknown:
            return did_you_mean(unknown[1], self._options())
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            return did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        if message.endswith("found an empty argument"):
            return "pass a value; an unset shell variable is an empty argument"
        if " is given twice: " in message:
            return f"remove the second {message.partition(' ')[0]}"
        return f"see `{self.prog} --help`"

    def _options(self) -> list[str]:
        """Return the options of this command, or of the subcommand on the command line."""
        verbs = {
            name: verb
            for action in self._actions
            if isinstance(action, _Subcommands)
            for name, verb in action.choices.items()
        }
        verb = next((verbs[word] for word in self._typed if word in verbs), None)
        return [*(self if verb is None else verb)._option_string_actions]  # noqa: SLF001 - an attribute of this class

    def _is_empty(self, value: object) -> bool:
        """Return whether the value is an empty argument, which `type` may have converted to `Path()`."""
        values = value if isinstance(value, list) else [value]
        empty = any(word == "" or word.endswith("=") for word in self._typed)
        return empty and any(value in {"", Path()} for value in values if isinstance(value, str | Path))

    def _is_option(self, word: str) -> bool:
        return word.partition("=")[0] in self._option_string_actions

    def _after(self, option: str) -> str | None:
        """Return the word after an option, if the word begins with a dash and is not an option itself."""
        positions = [position for position, word in enumerate(self._typed[:-1]) if word == option]
        word = self._typed[positions[0] + 1] if positions else ""
        return word if word.startswith("-") and not self._is_option(word) else None


class Verb(Arguments):
    """The parser of a subcommand."""

    def __init__(self, *, prog: str, description: str = "") -> None:
        """Create the parser; argparse passes `prog`."""
        super().__init__(prog, description)


class _Subcommands(argparse._SubParsersAction):  # type: ignore[type-arg] # noqa: SLF001 - generic in stubs only, no public name
    """The subcommands of a command; a subcommand's summary opens its `--help`."""

    def add_parser(self, name: str, *, help: str = "", description: str | None = None) -> Verb:  # type: ignore[override] # noqa: A002 - argparse's name
        """Add a subcommand."""
        summary = f"{help[:1].upper()}{help[1:]}."
        verb: Verb = super().add_parser(name, help=help, description=description or summary)
        return verb
