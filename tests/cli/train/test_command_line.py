from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import SettingError, UsageError
from trainer.cli.train.command_line import parse_train_request, report_shared_options

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """from trainer.training.tasks.classification import ClassificationSettings, Classifier


class Settings(ClassificationSettings):
    dataset = "digits"
    classes = 10
    steps: int = 3


class Net(Classifier):
    def __init__(self, *, steps: int) -> None:
        super().__init__()
"""


@pytest.mark.parametrize(
    ("command", "argv", "message"),
    [
        (
            "check",
            ["mine.py", "--steps", "9"],
            "--steps is an option of `reprise check` here, not the experiment's setting; to set steps of mine.py",
        ),
        ("bench", ["mine.py", "--steps=9"], "--steps is an option of `reprise bench` here"),
        ("check", ["mine.py", "--classes", "9"], ""),
        ("noise", ["mine.py", "--steps", "9"], ""),
        ("check", ["absent.py", "--steps", "9"], ""),
    ],
)
def test_an_option_that_is_a_setting_too_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    report_shared_options(command, argv, argv[0])
    err = capsys.readouterr().err
    assert message in err
    assert bool(err) == bool(message)


@pytest.mark.parametrize("command", ["check", "noise", "certify", "bench"])
def test_the_value_of_a_setting_is_not_an_experiment(command: str) -> None:
    with pytest.raises(UsageError, match=f"reprise {command} needs an experiment; 1 is the value of --seed") as error:
        report_shared_options(command, ["--seed", "1"], "1")
    assert error.value.hint == f"write reprise {command} EXPERIMENT --seed 1"


def test_an_experiment_may_follow_a_flag() -> None:
    report_shared_options("check", ["--no-publish", "digits"], "digits")
    report_shared_options("check", ["--seed=2", "1"], "1")


@pytest.mark.parametrize(
    ("command", "word", "hint"),
    [
        ("certify", "--step", "did you mean --steps?"),
        ("sweep", "--dry-runn", "did you mean --dry-run?"),
        ("bench", "--warm", "did you mean --warmup"),
        ("train", "--resum", "did you mean --resume?"),
        ("train", "--learning-rat", "did you mean --learning-rate"),
    ],
)
def test_a_misspelled_option_of_the_command_itself_is_suggested(command: str, word: str, hint: str) -> None:
    with pytest.raises(SettingError, match=f"unknown setting {word}") as caught:
        parse_train_request(["--exp", "digits", word, "1"], command=command)
    assert str(caught.value.hint).startswith(hint)
