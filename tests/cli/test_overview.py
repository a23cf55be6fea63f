"""`reprise --help`, and the hint for an unknown command."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from trainer import cli
from trainer.cli import COMMANDS, GROUPS, SUBCOMMANDS


def test_the_overview_shows_every_command_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)
    assert all(any(line.startswith(f"  {name}  ") for line in lines) for name in COMMANDS)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_subcommands_of_hints_are_those_of_the_parsers(name: str) -> None:
    usage = import_module(f"trainer.cli.{name}")._parser().format_help()
    assert re.findall(r"^    ([a-z][a-z-]*)(?:  |$)", usage, flags=re.MULTILINE) == list(SUBCOMMANDS[name])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("fetch", "did you mean `scripts/reprise data fetch`?"),
        ("publish", "did you mean `scripts/reprise runs publish` or `scripts/reprise data publish`?"),
        ("trust", "`scripts/reprise --help` lists the commands"),
        ("rusn", "did you mean runs?"),
    ],
)
def test_an_unknown_command_is_answered_with_what_was_meant(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word]) == 2
    assert hint in capsys.readouterr().err.replace("-> `reprise", "-> `scripts/reprise")


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["help", "runs", "show"], "usage: reprise runs show "),
        (["help", "doctor", "store"], "usage: reprise doctor store "),
        (["help", "train", "--resume", "x"], "usage: reprise train --resume RUN "),
        (["--help", "why"], "usage: reprise why "),
        (["help", "help"], "usage: reprise COMMAND "),
    ],
)
def test_help_shows_the_help_of_the_named_command(
    words: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(words)
    except SystemExit as ended:  # argparse
        code = int(ended.code or 0)
    assert code == 0
    assert capsys.readouterr().out.startswith(usage)


def test_help_for_an_unknown_command_suggests_the_nearest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "rusn"]) == 2
    assert "unknown command 'rusn'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_printed(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([option]) == 0
    assert re.fullmatch(r"reprise \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        ("reproduce", (0, 10, 11, 20, 30)),
        ("compare", (0, 10, 11, 20, 30)),
        ("retest", (0, 10, 20, 30)),
        ("verify", (0, 10, 11, 20, 30, 49)),
        ("certify", (0, 10, 11, 20)),
        ("why", (0, 30)),
        ("check", (0, 20, 89)),
        ("baseline", (0, 20)),
        ("package", (0, 91)),
        ("predict", (0, 44)),
        ("sweep", (0, 80)),
        ("doctor", (0, 84)),
        ("doctor store", (0, 50)),
    ],
)
def test_help_states_the_exit_codes(words: str, codes: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*words.split(), "--help"])
    stated = (
        " ".join(capsys.readouterr().out.split())
        .partition("Exit codes")[2]
        .partition("docs/reference/exit-codes.md")[0]
    )
    assert {int(code) for code in re.findall(r"\b\d+\b", stated)} == {*codes}
