"""Command-line arguments: argparse, with errors in our own words and codes."""

from __future__ import annotations

import argparse
import re
from typing import Never

from trainer.errors import UsageError
from trainer.suggest import did_you_mean


class Arguments(argparse.ArgumentParser):
    """An argument parser whose faults are `UsageError`s with the nearest known word; no abbreviations of options."""

    def __init__(self, prog: str, description: str) -> None:
        """Describe the command `prog`."""
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def commands(self, *, dest: str = "command") -> argparse._SubParsersAction[Verb]:
        """Begin the list of this command's verbs; each is a `Verb`."""
        return self.add_subparsers(dest=dest, required=True, metavar="COMMAND", parser_class=Verb)

    def error(self, message: str) -> Never:
        """Raise, instead of printing the usage and exiting."""
        raise UsageError(f"{self.prog}: {message}", hint=self._hint(message))

    def _hint(self, message: str) -> str:
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if unknown:
            return did_you_mean(unknown[1], self._option_string_actions)
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            return did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        return f"see `{self.prog} --help`"


class Verb(Arguments):
    """One verb of a command."""

    def __init__(self, *, prog: str, help: str | None = None, description: str | None = None) -> None:  # noqa: A002 - argparse's own name
        """Describe the verb; argparse gives `prog`."""
        super().__init__(prog, description or help or "")
