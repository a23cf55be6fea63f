"""The manual lists every setting with type, default and meaning."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr

from trainer.cli.train.manual import experiment_help, launch_help, resume_help
from trainer.runs.resume import KINDS
from trainer.settings.fields import LaunchSettings
from trainer.training.settings import TrainingSettings


class Mine(TrainingSettings):
    """An experiment of mine."""

    dataset = "digits"  # type: ignore[pydantic-field]  # pydantic's mypy plugin does not support overriding a field without an annotation
    width: int = 8
    """Units of the layer."""
    rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """A rate."""
    sizes: list[int] = [8, 16]
    """Sizes."""
    mode: Literal["fast", "slow"] = "fast"
    """A mode."""
    full: bool = True
    """Whether it is full."""
    label: str = ""
    """A label."""
    classes: Annotated[int, Field(ge=2)]
    """Classes."""
    token: SecretStr | None = SecretStr("hush")
    """A key."""


@pytest.mark.parametrize("name", Mine.model_fields)
def test_every_setting_is_listed_with_its_meaning(name: str) -> None:
    text, field = _flat(experiment_help("mine", Mine)), Mine.model_fields[name]
    assert re.search(rf" --{name.replace('_', '-')}(, --no-[a-z-]+)? \(", text)
    assert field.description
    assert _flat(field.description) in text


def _flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    "line",
    [
        "--width  (an integer; default 8)",
        "--rate  (a number or none, more than 0, less than 1; default none)",
        "--sizes  (a list of integers; default [8, 16])",
        "--mode  (fast or slow; default fast)",
        "--full, --no-full  (true or false; default true)",
        '--label  (a string; default "")',
        "--classes  (an integer, 2 or more; required)",
        "--token  (a string or none; default none)",
    ],
)
def test_a_setting_is_shown_with_its_type_its_bounds_and_its_default(line: str) -> None:
    assert line in experiment_help("mine", Mine)


def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for text in (experiment_help("mine", Mine), launch_help([f"e{number}" for number in range(40)]), resume_help()):
        assert max(map(len, text.splitlines())) <= 80


def test_an_experiments_own_settings_come_first() -> None:
    text = experiment_help("mine", Mine)
    assert text.index("--width  (") < text.index("--determinism")


def test_the_launchers_help_lists_its_own_settings_only() -> None:
    text = launch_help(["digits"])
    assert all(name in text for name in LaunchSettings.model_fields)
    assert "--learning-rate" not in text


def test_the_help_of_resume_lists_only_the_settings_that_resume_accepts() -> None:
    text = resume_help()
    assert "--workers  (an integer, 0 or more)\n" in text
    assert all(f" {kind} " in text for kind in KINDS.keys() - {"experiment", "source"})
    assert not any(f"--{name}" in text for name in ("threads", "determinism", "learning-rate", "init-from "))


def test_the_weights_of_a_run_are_listed_as_a_setting_that_changes_the_result() -> None:
    text = experiment_help("mine", Mine)
    assert text.index("Settings that change the result") < text.index("--init-from") < text.index("change only how")
