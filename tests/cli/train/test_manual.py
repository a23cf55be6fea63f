"""The manual: every setting with type, default and meaning."""

from __future__ import annotations

import pytest

from trainer.actions.resume import KINDS
from trainer.cli.train.manual import experiment_help, launch_help, resume_help
from trainer.settings import LaunchSettings
from trainer.training.settings import TrainingSettings


class Mine(TrainingSettings):
    """An experiment of mine."""

    dataset = "digits"  # type: ignore[pydantic-field]  # what the package makes possible, pydantic's plugin does not know
    width: int = 8
    """Units of the layer."""


@pytest.mark.parametrize("name", Mine.model_fields)
def test_every_setting_is_listed_with_its_meaning(name: str) -> None:
    """None is left out, and none is without a meaning."""
    text, field = experiment_help("mine", Mine), Mine.model_fields[name]
    assert f"--{name.replace('_', '-')}  (" in text
    assert field.description
    assert " ".join(field.description.split()) in text


def test_an_experiments_own_settings_come_first() -> None:
    """With type and default."""
    text = experiment_help("mine", Mine)
    assert text.index("--width  (int; default 8)") < text.index("--determinism")


def test_the_launchers_manual_knows_its_settings_only() -> None:
    """It is printed without importing an experiment, and names them."""
    text = launch_help(["digits"])
    assert all(name in text for name in LaunchSettings.model_fields)
    assert "--learning-rate" not in text


def test_the_manual_of_going_on_lists_what_it_takes_and_nothing_else() -> None:
    """What bears on the execution, and the kinds that can be allowed; the launcher's settings are the run's own."""
    text = resume_help()
    assert "--workers  (int, 0 or more)\n" in text
    assert all(f" {kind} " in text for kind in KINDS.keys() - {"experiment", "source"})
    assert not any(f"--{name}" in text for name in ("threads", "determinism", "learning-rate"))
