"""Sources: values from the environment and a settings file by name, and suggestions for similar names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DocumentError, SettingError, UsageError
from trainer.settings.fields import LaunchSettings
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.settings.settings_file import read_settings_file
from trainer.settings.sources import of_environment

if TYPE_CHECKING:
    from pathlib import Path


class Settings(LaunchSettings):
    learning_rate: float = 0.1
    final_rate: float = 0.1
    sizes: list[int] = []


def test_variable_names_are_case_insensitive() -> None:
    environ = {"REPRISE_SETTING_SIZES": "[8]", "REPRISE_SETTING_learning_rate": "1", "REPRISE_STORE": "s3://b"}
    assert of_environment(environ) == {"sizes": "[8]", "learning_rate": "1"}


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("REPRISE_SETTINGS_SEED", "write REPRISE_SETTING_SEED, or unset REPRISE_SETTINGS_SEED"),
        ("reprise_setting_seed", "write REPRISE_SETTING_SEED, or unset reprise_setting_seed"),
        ("REPRISE_SETTINGSEED", "write REPRISE_SETTING_SEED, or unset REPRISE_SETTINGSEED"),
        ("REPRISE_SETTING_", "write REPRISE_SETTING_NAME, or unset REPRISE_SETTING_"),
    ],
)
def test_a_variable_with_a_misspelled_prefix_is_reported(variable: str, hint: str) -> None:
    with pytest.raises(SettingError, match=f"unknown environment variable {variable}") as caught:
        of_environment({variable: "1"})
    assert caught.value.hint == hint


def test_two_variables_that_differ_in_case_are_reported() -> None:
    with pytest.raises(SettingError, match="setting seed is given by two environment variables"):
        of_environment({"REPRISE_SETTING_SEED": "1", "REPRISE_SETTING_seed": "2"})


def test_a_misspelled_name_in_a_variable_is_reported_with_the_variable() -> None:
    environ = {"REPRISE_SETTING_LERNING_RATE": "1", "REPRISE_SETTING_SIZES": "8,16"}
    with pytest.raises(SettingError) as caught:
        resolve(Settings, Origins(options=parse_options([]), environ=environ))
    message = str(caught.value.hint)
    assert "given by the environment variable REPRISE_SETTING_LERNING_RATE (did you mean learning_rate?)" in message
    assert "given by the environment variable REPRISE_SETTING_SIZES: expected a list of integers" in message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[train]\nlearning_rate = 1\n", "a settings file has no sections: write learning_rate = ... without [train]"),
        ("[[points]]\nlearning_rate = 1\n", "`reprise sweep EXPERIMENT --points FILE` reads points"),
        ("LEARNING_RATE = 1\n", "did you mean learning_rate?"),
        ("x = 1\n", "lists every setting"),
    ],
)
def test_an_unknown_name_in_a_file_is_reported(tmp_path: Path, text: str, hint: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(SettingError, match="unknown setting") as caught:
        resolve(Settings, Origins(options=parse_options([]), environ={}, files=(tmp_path / "s.toml",)))
    assert hint in str(caught.value.hint)


def test_dotted_keys_and_tables_of_a_file_are_one_setting(tmp_path: Path) -> None:
    for text in ("m.a = 1\nm.b = 2\n", "[m]\na = 1\nb = 2\n", "m = {a = 1, b = 2}\n"):
        (tmp_path / "s.toml").write_text(text)
        assert read_settings_file(tmp_path / "s.toml") == {"m": {"a": 1, "b": 2}}
    (tmp_path / "s.toml").write_text("[m]\na = 1\n[m]\nb = 2\n")
    with pytest.raises(DocumentError, match=r"twice .*line 3"):
        read_settings_file(tmp_path / "s.toml")


def test_spaces_around_an_equals_sign_are_reported() -> None:
    with pytest.raises(UsageError, match="found '3' where an option was expected") as caught:
        parse_options(["--seed", "=", "3"])
    assert caught.value.hint == "write --seed=3, without spaces around ="
