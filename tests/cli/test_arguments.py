"""Command lines that argparse cannot parse: the error names the wrong word and has a hint."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from trainer import cli
from trainer.base.errors import UsageError
from trainer.cli.arguments import Arguments


def _seed(text: str) -> int:
    raise argparse.ArgumentTypeError(f"found {text!r}; expected a seed")


def parser() -> Arguments:
    arguments = Arguments("reprise x", "x")
    arguments.add_argument("name", metavar="NAME")
    arguments.add_argument("more", nargs="*", default=[])
    arguments.add_argument("--into", type=Path)
    arguments.add_argument("--at")
    arguments.add_argument("--count", type=int, metavar="N")
    arguments.add_argument("--mode", choices=["min", "max"])
    arguments.add_argument("--seed", type=_seed)
    either = arguments.add_mutually_exclusive_group()
    either.add_argument("--yes", action="store_true")
    either.add_argument("-n", "--no", action="store_true")
    return arguments


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ["-x"],
            "reprise x: NAME is missing: '-x' begins with a dash and is read as an option",
            "write NAME before all options",
        ),
        (["a", "--at", "-x"], "reprise x: --at has no value", "write --at=-x"),
        (["a", "--at", "--into", "b"], "reprise x: --at has no value", "write --at AT"),
        ([], "reprise x: NAME is missing", "reprise x NAME; see `reprise x --help`"),
        (["a", "--count", "y"], "reprise x: --count is 'y'; expected an integer", "write --count N"),
        (["a", "--mode", "mim"], "reprise x: --mode is 'mim'; expected min or max", "did you mean min"),
        (["a", "--mode", "best"], "reprise x: --mode is 'best'; expected min or max", "write --mode min"),
        (["a", "--seed", "y"], "reprise x: --seed: found 'y'; expected a seed", "see `reprise x --help`"),
        (["a", "--yes", "-n"], "reprise x: --no cannot be used with --yes", "remove --no or --yes"),
        (["a", "--coutn=3"], "reprise x: unknown option --coutn", "did you mean --count?"),
        ([""], "NAME: found an empty argument", "an unset shell variable"),
        (["a", "b", ""], "more: found an empty argument", "an unset shell variable"),
        (["a", "--into", ""], "--into: found an empty argument", "an unset shell variable"),
        (["a", "--at="], "--at: found an empty argument", "an unset shell variable"),
        (["a", "--at", "1", "--at", "2"], "reprise x: --at is given twice: 1 and 2", "remove the second --at"),
        (["--at=1", "a", "--at", "2"], "reprise x: --at is given twice: 1 and 2", "remove the second --at"),
    ],
)
def test_an_error_names_the_invalid_argument(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        parser().parse_args(words)
    assert message in error.value.message
    assert hint in (error.value.hint or "")


def test_a_dot_is_not_an_empty_argument() -> None:
    assert parser().parse_args(["a", "--into", "."]).into == Path()


def test_the_same_value_twice_is_one_value() -> None:
    arguments = parser()
    arguments.add_argument("--each", action="append")
    found = arguments.parse_args(["--at", "1", "--at=1", "--each", "1", "--each", "2", "--", "a", "--at", "2"])
    assert (found.at, found.each, found.more) == ("1", ["1", "2"], ["--at", "2"])


def test_an_unknown_option_suggests_the_nearest_option_of_the_command() -> None:
    arguments = Arguments("reprise x", "x")
    arguments.commands().add_parser("build", help="").add_argument("--no-cache", action="store_true")
    with pytest.raises(UsageError, match="unknown option --no-cahce") as error:
        arguments.parse_args(["build", "--no-cahce"])
    assert error.value.hint == "did you mean --no-cache?"


def test_an_unknown_subcommand_and_a_further_word_are_named() -> None:
    arguments = Arguments("reprise x", "x")
    arguments.commands().add_parser("build", help="")
    with pytest.raises(UsageError, match="reprise x: unknown command 'biuld'; expected build") as error:
        arguments.parse_args(["biuld"])
    assert error.value.hint == "did you mean build?"
    with pytest.raises(UsageError, match="reprise x: COMMAND is missing"):
        arguments.parse_args([])
    with pytest.raises(UsageError, match="found 'more', which is one argument too many"):
        arguments.parse_args(["build", "more"])


def test_help_is_not_wrapped_at_hyphens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    arguments = Arguments("reprise x", "The exit codes of this command are in docs/reference/exit-codes.md.")
    arguments.add_argument("--at", help="the place of this option is left of a path: docs/reference/exit-codes.md")
    with pytest.raises(SystemExit):
        arguments.parse_args(["--help"])
    assert capsys.readouterr().out.count("docs/reference/exit-codes.md") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --exp digits --trust", "found --trust without --resume"),
        ("train --exp digits --grant=network", "found --grant without --resume"),
        ("train --exp digits --allow dataset", "found --allow without --resume"),
        ("check digits --resume latest", "--resume is an option of `scripts/reprise train`, not of"),
        ("bench digits --print-settings", "--print-settings is an option of `scripts/reprise train`, not of"),
        ("submit digits --to lab --trust", "--trust is an option of `scripts/reprise train`, not of"),
        ("runs ls --local --store x", "--store cannot be used with --local"),
        ("packages ls --local --store x", "--store cannot be used with --local"),
        ("compare a b --all --limit 3", "--limit cannot be used with --all"),
        ("report latest -o - --json", "--json has no effect with --output -"),
        ("predict latest x.png --output x.jsonl --json", "--json has no effect with --output"),
        ("sweep --show latest --jobs 2", "--show only prints results: it cannot be used with --jobs"),
        ("sweep --show latest --continue latest", "--show only prints results: it cannot be used with --continue"),
        ("setup --development", "--development has no effect without --build"),
    ],
)
@pytest.mark.host
def test_an_option_that_would_have_no_effect_is_rejected(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == 2
    assert message in capsys.readouterr().err
