"""Command-line parsers whose errors are `UsageError`s with hints."""

from __future__ import annotations

import argparse
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never

from trainer.base.errors import UsageError
from trainer.base.suggestions import did_you_mean, listed, nearest, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MISSING: Final = re.compile(r"the following arguments are required: (.*)")
_UNKNOWN: Final = re.compile(r"unrecognized arguments: (\S+)")
_CONFLICT: Final = re.compile(r"argument (\S+): not allowed with argument (\S+)")
_MANY: Final = 3
_TYPES: Final[Mapping[object, str]] = {int: "an integer", float: "a number"}


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
                self.error(f"{_name_of(action)}: found an empty argument")
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
        sentence, hint = self._explained(message)
        raise UsageError(f"{self.prog}: {sentence}", hint=hint or f"see `{self.prog} --help`")

    def _explained(self, message: str) -> tuple[str, str | None]:
        """Return the sentence for a message of argparse or of this class, and its hint."""
        if missing := _MISSING.fullmatch(message):
            names = missing[1].split(", ")
            sentence = f"{listed(names)} {'is' if len(names) == 1 else 'are'} missing"
            required = [each for each in self._actions if not each.option_strings and each.nargs not in {"?", "*"}]
            options = [each for each in self._actions if each.option_strings and each.required]
            words = [*map(_name_of, required), *map(_example_of, options)]
            return sentence, f"{self.prog} {' '.join(words)}; see `{self.prog} --help`"
        if unknown := _UNKNOWN.match(message):
            return self._unexpected(unknown[1])
        if conflict := _CONFLICT.match(message):
            first, second = (each.rpartition("/")[2] for each in conflict.groups())
            return f"{first} cannot be used with {second}", f"remove {first} or {second}"
        hint = None
        if message.endswith("found an empty argument"):
            hint = "pass a value; an unset shell variable is an empty argument"
        elif " is given twice: " in message:
            hint = f"remove the second {message.partition(' ')[0]}"
        return message.removeprefix("argument "), hint

    def _unexpected(self, word: str) -> tuple[str, str | None]:
        """Return the sentence about a word that no argument takes, and its hint."""
        if not word.startswith("-"):
            return f"found {short(word)!r}, which is one argument too many", None
        name = word.partition("=")[0]
        return f"unknown option {short(name)}", did_you_mean(name, self._options())

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert a text to an argument's type. Raise `UsageError` for a text of another form."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as fault:
            name, expected = _name_of(action), _TYPES.get(action.type)
            if expected is None:
                self.error(f"{name}: {fault.message}")
            example = f"{name} {action.metavar or 'N'}" if action.option_strings else str(action.metavar or "N")
            message = f"{self.prog}: {name} is {short(arg_string)!r}; expected {expected}"
            raise UsageError(message, hint=f"write {example}; see `{self.prog} --help`") from fault

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise `UsageError` for a value that is none of an argument's choices."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(each) for each in action.choices]
        near = nearest(str(value), choices)
        name = f"{_name_of(action)} " if action.option_strings else ""
        hint = f"did you mean {' or '.join(near)}?" if near else f"write {name}{choices[0]}"
        found = "unknown command" if isinstance(action, _Subcommands) else f"{_name_of(action)} is"
        expected = " or ".join(choices) if len(choices) < _MANY else listed(choices)
        raise UsageError(f"{self.prog}: {found} {short(str(value))!r}; expected {expected}", hint=hint)

    def _match_argument(self, action: argparse.Action, arg_strings_pattern: str) -> int:
        """Return how many words an argument takes. Raise `UsageError` for an option without a value."""
        try:
            return super()._match_argument(action, arg_strings_pattern)
        except argparse.ArgumentError as fault:
            name = _name_of(action)
            if (value := self._after(name)) is not None:
                hint = f"for a value that begins with a dash, write {name}={short(value)}"
            else:
                hint = f"write {name} {action.metavar or action.dest.upper()}"
            raise UsageError(f"{self.prog}: {name} has no value", hint=hint) from fault

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


def _example_of(option: argparse.Action) -> str:
    """Return an option as it could be typed: with its first choice, or the placeholder of its value."""
    value = next(iter(option.choices or ()), option.metavar or "")
    return f"{_name_of(option)} {value}".strip()


def _name_of(action: argparse.Action) -> str:
    """Return the name of an argument, as a user knows it."""
    return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)


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
