"""Origins: their precedence, and the error for a wrong value from each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import PositiveFloat, SecretStr

from trainer.base.errors import DocumentError, RepriseError, SettingError, UsageError
from trainer.settings.fields import LaunchSettings, Origin
from trainer.settings.origins import Origins, Resolved, parse_options, resolve

if TYPE_CHECKING:
    from pathlib import Path


class Base(LaunchSettings):
    """What the package declares."""

    learning_rate: PositiveFloat = 1e-3
    """The step size."""
    progress: bool = True
    """Show a bar."""
    sizes: list[int] = []
    """Sizes."""
    limit: int | None = 5
    """A limit."""
    token: SecretStr | None = None
    """The key of another service."""


class Settings(Base):
    learning_rate = 3e-4  # type: ignore[pydantic-field]  # pydantic's mypy plugin does not support an override without an annotation


def resolve_words(*argv: str, **given_by: str) -> Resolved[Settings]:
    """Resolve a command line, and settings from environment variables, given as keyword arguments."""
    environ = {f"REPRISE_SETTING_{name.upper()}": value for name, value in given_by.items()}
    return resolve(Settings, Origins(options=parse_options(argv), environ=environ))


def test_a_later_origin_overrides_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("learning_rate = 0.1\nlimit = 1\nsizes = [1]\nprogress = false\nthreads = 3\n")
    environ = {"REPRISE_SETTING_LIMIT": "2", "REPRISE_SETTING_SIZES": "[2]", "REPRISE_SETTING_THREADS": "4"}
    record = {"sizes": [3], "threads": 5}
    found = resolve(
        Settings, Origins(options=parse_options(["--threads", "6"]), environ=environ, files=(file,), record=record)
    )
    values = [found.settings.value_of(name) for name in ("learning_rate", "limit", "sizes", "threads")]
    assert values == [0.1, 2, [3], 6]
    assert [found.origins[name] for name in ("devices", "learning_rate", "limit", "sizes", "threads")] == [
        Origin.DEFAULT,
        Origin.FILE,
        Origin.ENVIRONMENT,
        Origin.RECORD,
        Origin.COMMAND_LINE,
    ]
    assert resolve_words().origins["learning_rate"] is Origin.EXPERIMENT


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--learning-rate", "1e-2"], "learning_rate", 0.01),
        (["--learning_rate=1e-2"], "learning_rate", 0.01),
        (["--no-progress"], "progress", False),
        (["--progress"], "progress", True),
        (["--sizes", "[1, 2]"], "sizes", [1, 2]),
        (["--limit", "-3"], "limit", -3),
        (["--limit=none"], "limit", None),
    ],
)
def test_every_spelling_of_an_option_is_parsed(argv: list[str], name: str, value: object) -> None:
    assert resolve_words(*argv).settings.value_of(name) == value


@pytest.mark.parametrize(
    ("argv", "kind", "message", "hint"),
    [
        (
            ["--learning-rat", "1"],
            SettingError,
            "unknown setting --learning-rat, given on the command line",
            "did you mean --learning-rate?",
        ),
        (
            ["--learning-rate", "abc"],
            SettingError,
            "learning_rate, given on the command line: expected a number, found 'abc'",
            "step size",
        ),
        (["--learning-rate", "-1"], SettingError, "expected more than 0, found '-1'", "step size"),
        (["--limit", "1.5"], SettingError, "expected an integer or none, found '1.5'", "limit"),
        (["--determinism", "much"], SettingError, "expected 'off', 'machine' or 'portable', found 'much'", "identical"),
        (["--limit"], SettingError, "--limit has no value", "--limit VALUE"),
        (["--limit", "1", "--limit", "2"], UsageError, "--limit is given twice", "remove the second --limit"),
        (["limit", "1"], UsageError, "found 'limit' where an option was expected", "--limit"),
        (
            ["--sizes", "1"],
            SettingError,
            "expected a list of integers, found '1'",
            "write --sizes '[1]'; sizes: Sizes",
        ),
    ],
)
def test_an_error_has_setting_origin_found_and_expected_value(
    argv: list[str], kind: type[RepriseError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        resolve_words(*argv)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
    assert "\n" not in caught.value.message


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(
        SettingError, match="unknown setting limt, given by the environment variable REPRISE_SETTING_LIMT"
    ):
        resolve_words(limt="3")


@pytest.mark.parametrize("argv", [["--token", "hush"], ["--token=hush"]])
def test_a_secret_is_rejected_on_the_command_line(argv: list[str]) -> None:
    with pytest.raises(SettingError, match="setting token is a secret") as caught:
        resolve_words(*argv)
    assert "REPRISE_SETTING_TOKEN" in str(caught.value.hint)
    assert "hush" not in f"{caught.value.message}{caught.value.hint}"
    given_by = {"token": "hush"}
    assert resolve_words(**given_by).settings.value_of("token").get_secret_value() == "hush"


@pytest.mark.parametrize(
    ("text", "message"),
    [("limt = 3", "unknown setting limt, given in"), ("limit = ", "not valid TOML"), ("[limit]", "limit, given in")],
)
def test_an_error_in_a_file_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises((SettingError, DocumentError), match=message) as caught:
        resolve(Settings, Origins(options=parse_options([]), environ={}, files=(file,)))
    assert "a.toml" in caught.value.message


def test_the_launcher_ignores_unknown_settings() -> None:
    words = parse_options(["--width", "3", "--threads", "2"])
    assert resolve(LaunchSettings, Origins(options=words, environ={}), ignore_unknown=True).settings.threads == 2


@given(some.floats(min_value=1e-300, max_value=1e300))
def test_a_number_round_trips_through_the_command_line(number: float) -> None:
    """Law: the float that Python writes is parsed as the same float, bit for bit."""
    assert resolve_words(f"--learning-rate={number!r}").settings.value_of("learning_rate") == number


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(SettingError, match=r"^3 settings are wrong$") as caught:
        resolve_words("--learning-rat", "1", "--limit", "x", threads="0")
    message = str(caught.value.hint).splitlines()
    assert "--learning-rat, given on the command line (did you mean --learning-rate?)" in message[0]
    assert "threads, given by the environment variable REPRISE_SETTING_THREADS" in "".join(message)
    assert "limit, given on the command line: expected an integer or none, found 'x'" in "".join(message)
