"""The command `reprise sweep`: requests, which are read and checked before anything is frozen or started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import ExperimentError, RunNotFoundError, SettingError, UsageError
from trainer.cli.sweep import main
from trainer.cli.sweep.request import parse_request

if TYPE_CHECKING:
    from pathlib import Path


OWN = """
from datetime import date
from enum import Enum
from typing import Literal
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Kernel(Enum):
    SMALL = "small"
    LARGE = "large"

class Settings(ClassificationSettings):
    dataset = "digits"
    classes = 10
    depth: Literal[1, 2] = 1
    day: date = date(2026, 1, 31)
    kernel: Kernel = Kernel.SMALL

class Net(Classifier):
    def __init__(self, *, depth: int, day: date, kernel: Kernel) -> None:
        super().__init__()
"""


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["digits"], UsageError, "settings that differ between points"),
        (["digits", "--seed", "3"], UsageError, "settings that differ between points"),
        (["--seed", "1..3"], UsageError, "needs an experiment"),
        (["digits", "--exp", "faces", "--seed", "1..3"], UsageError, "the experiment is the first argument"),
        (["--exp", "faces", "--seed", "1..3"], UsageError, "the experiment is the first argument"),
        (["digitz", "--seed", "1..3"], ExperimentError, "digitz"),
        (["digits", "--seed", "1..3", "--jobs", "0"], UsageError, "1 or more"),
        (["digits", "--seed", "1..3", "--mode", "best"], UsageError, "--mode is 'best'; expected min or max"),
        (["digits", "--seed", "3..1"], UsageError, "this range is empty"),
        (["digits", "--init-from", "latest", "--seed", "1,2"], SettingError, "would be another run at each point"),
        (["digits", "--learning-rat", "1,1"], SettingError, "unknown setting --learning-rat"),
        (["--continue", "latest", "--seed", "1..3"], UsageError, "takes no experiment, settings, --points or --again"),
        (["--continue", "latest"], RunNotFoundError, "no sweep is called 'latest'"),
        (["--show", "2026"], RunNotFoundError, "no sweep is called '2026'"),
    ],
)
def test_invalid_options_are_rejected(runs: Path, words: list[str], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        main(words)
    assert not (runs / "sweeps").exists()


def test_all_errors_of_all_points_are_reported_at_once(runs: Path) -> None:
    with pytest.raises(SettingError, match="4 settings are wrong") as caught:
        main(["digits", "--weight-decya", "0.1", "--seed", "1,x", "--learning-rate", "-1,1e-3", "--optimizer", "adamv"])
    hint = str(caught.value.hint)
    assert "did you mean --weight-decay?" in hint
    assert "expected more than 0, found '-1' [point seed=1 learning_rate=-1 and 1 more]" in hint
    assert "found 'x' [point seed=x learning_rate=-1 and 1 more]" in hint
    assert "found 'adamv' (" in hint
    assert not (runs / "sweeps").exists()


def test_a_misspelled_setting_is_not_an_axis(runs: Path) -> None:
    with pytest.raises(SettingError, match="2 settings are wrong") as caught:
        main(["digits", "--learning-rat", "1,2", "--batch-size", "8,0"])
    hint = str(caught.value.hint)
    assert (
        "unknown setting --learning-rat, given on the command line (did you mean --learning-rate or --learning-rates?)"
        in hint
    )
    assert "[point batch_size=0]" in hint
    assert not (runs / "sweeps").exists()


def test_a_setting_that_is_unused_at_some_points_is_rejected(runs: Path) -> None:
    """Only sgd uses momentum: the points with adamw would all be equal."""
    with pytest.raises(SettingError, match="momentum is given") as caught:
        main(["digits", "--optimizer", "adamw,sgd", "--momentum", "0.5,0.9"])
    assert "[point optimizer=adamw momentum=0.5 and 1 more]" in caught.value.message
    assert not (runs / "sweeps").exists()


def test_points_of_a_file_are_crossed_with_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "points.toml"
    file.write_text("[[points]]\nlearning_rate = 1e-4\n[[points]]\noptimizer = 'sgd'\nmomentum = 0.5\n")
    monkeypatch.setenv("REPRISE_SETTING_MAX_EPOCHS", "3")
    found = parse_request("digits", ["--seed", "1..2", "--no-publish", "--batch-size", "16"], points=str(file)).request
    assert found.words == ["--batch-size=16", "--no-publish"]
    assert [point.get("optimizer") for point in found.points] == [None, None, "sgd", "sgd"]
    assert (found.axes, found.environment) == (["seed"], {"REPRISE_SETTING_MAX_EPOCHS": "3"})
    with pytest.raises(UsageError, match="optimizer is given for every point"):
        parse_request("digits", ["--optimizer", "sgd"], points=str(file))


@pytest.mark.parametrize(
    ("rest", "is_checked"),
    [
        (["--seed", "1,2"], True),
        (["--day", "2026-01-31,2026-02-01"], True),
        (["--kernel", "small,large"], False),
        (["--seed", "1,2", "--kernel", "small"], False),
        (["--seed", "1,2", "--settings", "s.toml"], False),
    ],
)
def test_an_experiment_is_imported_first_if_its_text_makes_a_given_settings_type_uncertain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, rest: list[str], is_checked: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text("kernel = 'small'\n")
    (tmp_path / "mine.py").write_text(OWN)
    assert parse_request("mine.py", rest, points=None).is_checked is is_checked


def test_a_value_that_its_type_would_change_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(SettingError, match=r"expected 1 or 2, found '2\.0' \[point depth=2\.0\]"):
        parse_request("mine.py", ["--depth", "1,2.0"], points=None)
    with pytest.raises(SettingError, match=r"expected a date .*, found '5' \[point day=5\]"):
        parse_request("mine.py", ["--day", "2026-01-31,5"], points=None)


def test_a_sweep_saves_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tmp_path / "secretive.py"
    experiment.write_text(
        "from pydantic import SecretStr\n"
        "from trainer.training.tasks.classification import ClassificationSettings, Classifier\n"
        "class Settings(ClassificationSettings):\n"
        "    dataset = 'digits'\n    classes = 10\n    token: SecretStr | None = None\n"
        "class Net(Classifier):\n"
        "    def __init__(self, *, token): ...\n"
    )
    monkeypatch.setenv("REPRISE_SETTING_TOKEN", "hush")
    found = parse_request(str(experiment), ["--seed", "1..2"], points=None)
    assert (found.request.secrets, found.request.environment) == (["REPRISE_SETTING_TOKEN"], {})
    assert "hush" not in found.request.model_dump_json()
    (tmp_path / "settings.toml").write_text('token = "hush"\n')
    with pytest.raises(SettingError, match="token is a secret") as caught:
        parse_request(str(experiment), ["--seed", "1..2", "--settings", str(tmp_path / "settings.toml")], points=None)
    assert "REPRISE_SETTING_TOKEN" in str(caught.value.hint)


def write_experiment(folder: Path, *lines: str) -> str:
    file = folder / "mine.py"
    body = "".join(f"    {line}\n" for line in lines)
    file.write_text(
        "from typing import Literal\n"
        "from trainer.training.tasks.classification import ClassificationSettings, Classifier\n"
        f"class Settings(ClassificationSettings):\n    dataset = 'digits'\n    classes = 10\n{body}"
        "class Net(Classifier):\n    def __init__(self, *, u=0, kind=0, name=0): ...\n"
    )
    return str(file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--learning-rate", "1e-4,0.0001"],
            "points 1 and 2 are equal: learning_rate 1e-4 and 0.0001 are the same value",
        ),
        (
            ["--learning-rate", "1e-3,1.0e-3", "--seed", "1,2"],
            "points 1 and 3 are equal: learning_rate 1e-3 and 1.0e-3",
        ),
        (["--max-steps", "1_000,1000"], "max_steps 1_000 and 1000 are the same value"),
        (["--monitor", "none,null"], "monitor none and null are the same value"),
        (["--seed", "1,1"], "1 is listed twice"),
    ],
)
def test_two_spellings_of_one_value_are_one_point(runs: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_request("digits", words, points=None)
    assert not (runs / "sweeps").exists()


def test_lists_and_tables_are_compared_by_value(tmp_path: Path) -> None:
    name = write_experiment(tmp_path, "u: list[float] = []", "kind: dict[str, int] = {}")
    for words in (["--u", "[8,16],[8, 16.0]"], ["--kind", '{"a":1,"b":2},{"b": 2, "a": 1}']):
        with pytest.raises(UsageError, match="points 1 and 2 are equal"):
            parse_request(name, words, points=None)


def test_a_point_with_an_explicit_default_equals_the_point_without_it(tmp_path: Path) -> None:
    (tmp_path / "points.toml").write_text("[[points]]\nseed = 0\n[[points]]\nbatch_size = 32\n")
    with pytest.raises(UsageError, match=r"points 1 and 2 are equal: seed 0 and \(not given\), batch_size"):
        parse_request("digits", [], points=str(tmp_path / "points.toml"))


def test_a_string_in_a_points_file_stays_a_string(tmp_path: Path) -> None:
    name = write_experiment(tmp_path, "u: int | str = 1", "name: str = 'a'", "kind: Literal[1, '1'] = 1")
    lines = ["u = 5", "u = '5'", "name = 'none'", "name = '\"q\"'", "kind = '1'", "learning_rate = 1e-4", "u = 'x,y'"]
    (tmp_path / "points.toml").write_text("".join(f"[[points]]\n{line}\n" for line in lines))
    points = parse_request(name, [], points=str(tmp_path / "points.toml")).request.points
    assert [next(iter(point.values())) for point in points] == ["5", '"5"', "none", '"q"', '"1"', "0.0001", "x,y"]


def test_a_sweep_saves_settings_files_of_any_encoding_in_order(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes("batch-size = 16\r\n".encode("utf-16"))
    (tmp_path / "a.toml").write_text("batch-size = 8\n")
    words = [word for name in ("s.toml", "a.toml") for word in ("--settings", str(tmp_path / name))]
    found = parse_request("digits", ["--seed", "1,2", *words], points=None).request
    assert list(found.settings_files.items()) == [
        ("settings/s.toml", "batch-size = 16\n"),
        ("settings/a.toml", "batch-size = 8\n"),
    ]
    other = parse_request("digits", ["--seed", "1,2", *words[2:], *words[:2]], points=None).request
    assert other.digest != found.digest


def test_another_dataset_is_an_axis() -> None:
    with pytest.raises(SettingError, match="input_field is 'image', the default of this experiment"):
        parse_request("digits", ["--dataset", "digits,diabetes"], points=None)
    assert parse_request("digits", ["--dataset", "digits,faces"], points=None).request.axes == ["dataset"]
