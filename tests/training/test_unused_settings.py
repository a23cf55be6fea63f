"""Settings that are certainly unused, found from the text only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.declared_settings import sketched
from trainer.training.unused_settings import parameter, unused_given_settings

if TYPE_CHECKING:
    from trainer.base.errors import SettingError

PACKAGE = Path(__file__).parents[2] / "trainer" / "training"
HEAD = """
from torch import nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier
"""
SETTINGS = """
class Settings(ClassificationSettings):
    dataset = "digits"
    classes = 10
    width: int = 3
    \"\"\"Units; not the width of a lamp.\"\"\"
"""


def unused_settings(*words: str, before: str = "", after: str = "") -> list[SettingError]:
    """Return the given settings that are certainly unused."""
    text = f"{HEAD}{before}{SETTINGS}{after}"
    sketch = sketched(text)
    assert sketch is not None
    resolved = resolve(sketch.settings, Origins(options=parse_options(words), environ={}))
    return list(unused_given_settings(resolved, text, package=PACKAGE))


def test_a_given_setting_that_the_experiment_never_mentions_is_rejected() -> None:
    (error,) = unused_settings("--width", "5")
    assert error.message == "setting width is given (command line), but nothing in this run uses it"
    assert "no parameter in the experiment is named width" in str(error.hint)
    assert unused_settings() == []


def test_a_given_setting_of_an_unselected_choice_is_rejected() -> None:
    (error,) = unused_settings("--momentum", "0.5")
    assert error.hint == "it is used with --optimizer sgd; otherwise omit it"
    assert unused_settings("--momentum", "0.5", "--optimizer", "sgd") == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "class Net(Classifier):\n    def __init__(self, width): pass"),
        ("", "def make(settings): return settings.width"),
        ("", "def make(settings): return getattr(settings, 'width')"),
        ("import mine", ""),
        ("from trainer.experiments.digits import Net", ""),
        ("from . import mine", ""),
    ],
)
def test_a_setting_that_may_be_used_is_left_to_the_ledger(before: str, after: str) -> None:
    assert unused_settings("--width", "5", before=before, after=after) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--learning-rate", "0.1"),
        ("--label-smoothing", "0.1"),
        ("--seed", "3"),
        ("--max-epochs", "1", "--max-steps", "3", "--accumulate", "2", "--clip-norm", "1", "--precision", "64-true"),
        ("--warmup-steps", "3", "--schedule", "cosine", "--weight-decay", "0.1", "--batch-size", "4"),
        ("--monitor", "val_loss", "--monitor-mode", "min"),
        ("--no-progress", "--workers", "2", "--threads", "1", "--determinism", "off"),
    ],
)
def test_a_used_setting_is_never_rejected(words: tuple[str, ...]) -> None:
    assert unused_settings(*words) == []


def test_a_parameter_without_a_setting_is_rejected_with_the_line_to_add() -> None:
    text = "class Net:\n    def __init__(self, a, dropout=0.1, *, width: int = 3): pass"
    assert parameter(text, "dropout") == ("dropout: float = 0.1", 2)
    assert parameter(text, "width") == ("width: int = 3", 2)
    assert parameter(text, "a") is None
