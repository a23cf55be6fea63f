"""The launcher: command lines, which are read and checked before torch or an experiment is imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainer import cli
from trainer.base.errors import (
    DatasetError,
    ExperimentError,
    RepriseError,
    SettingError,
    UsageError,
)
from trainer.cli.experiments import copy_into_run, experiment_names, find_experiment
from trainer.cli.train import main
from trainer.cli.train.command_line import parse_train_request
from trainer.cli.train.edit_arguments import from_checkout

ROOT = Path(__file__).parents[3]


def test_an_unknown_experiment_suggests_the_nearest_name() -> None:
    with pytest.raises(ExperimentError, match="unknown experiment 'digitz'") as caught:
        find_experiment("digitz", checkout=ROOT, here=ROOT)
    assert caught.value.hint == "did you mean digits?"


def test_the_launcher_imports_no_torch() -> None:
    code = "import sys, trainer.cli.train; print(sorted({'torch', 'lightning', 'numpy', 'boto3'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_a_path_of_a_file_is_an_experiment(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.touch()
    place = find_experiment("mine.py", checkout=ROOT, here=tmp_path)
    assert (place.name, place.outside) == ("experiment/mine.py", mine)
    assert find_experiment("trainer/experiments/digits.py", checkout=ROOT, here=ROOT).name == "digits"


def test_in_the_container_paths_are_relative_to_the_checkouts_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "trainer" / "experiments")
    words = ["--seed", "2", "--exp", "digits.py", "--settings=../../pyproject.toml"]
    request = replace(parse_train_request([*words, "--help"]), argv=words)
    assert from_checkout(request) == ["--seed", "2", "--exp", "digits", "--settings=pyproject.toml"]
    with pytest.raises(UsageError, match="outside the checkout"):
        from_checkout(replace(request, origins=replace(request.origins, files=(tmp_path / "mine.toml",))))


@pytest.mark.parametrize("text", ["none.py", "docs/", "README.md/x"])
def test_a_path_without_a_file_is_rejected(text: str) -> None:
    with pytest.raises(ExperimentError, match="is not a file"):
        find_experiment(text, checkout=ROOT, here=ROOT)


def test_train_without_an_experiment_lists_them() -> None:
    with pytest.raises(UsageError, match="--exp NAME") as caught:
        main([])
    assert all(name in str(caught.value.hint) for name in experiment_names(ROOT))


@pytest.mark.parametrize(
    ("argv", "kind", "message"),
    [
        (["--learning-rat", "1"], SettingError, "unknown setting --learning-rat"),
        (["--lr", "1"], SettingError, "unknown setting --lr"),
        (["--learning-rate", "abc"], SettingError, "expected a number, found 'abc'"),
        (["--momentum", "0.5"], SettingError, "momentum is given .command line., but nothing in this run uses it"),
        (["--patience", "3"], SettingError, "patience is given, but nothing is monitored"),
        (["--dataset", "digitz"], DatasetError, "dataset 'digitz' is not declared"),
        (["--dataset", "diabetes"], SettingError, "the fields of dataset diabetes are features, target"),
    ],
)
def test_an_error_visible_in_the_source_text_is_rejected_at_once(
    argv: list[str], kind: type[RepriseError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        main(["--exp", "digits", *argv])


@pytest.mark.parametrize(
    ("encoding", "head"), [("utf-8-sig", ""), ("latin-1", "# -*- coding: latin-1 -*-\n"), ("utf-8", "")]
)
def test_an_experiment_is_decoded_as_python_decodes_it(tmp_path: Path, encoding: str, head: str) -> None:
    text = (ROOT / "trainer/experiments/digits.py").read_text().replace("Handwritten", "Ècrits à la main")
    (tmp_path / "idea.py").write_text(head + text, encoding=encoding)
    with pytest.raises(SettingError, match="unknown setting --learning-rat"):
        main(["--exp", str(tmp_path / "idea.py"), "--learning-rat", "1"])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_an_experiment_that_python_cannot_parse_is_rejected_at_once(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "idea.py").write_bytes("x = 'é'\n".encode(encoding))
    with pytest.raises(ExperimentError, match=r"idea\.py is not readable as Python text") as error:
        main(["--exp", str(tmp_path / "idea.py")])
    assert error.value.hint == "save it as UTF-8"


def test_a_setting_without_a_type_is_rejected_with_the_line_to_write(tmp_path: Path) -> None:
    mine = tmp_path / "idea.py"
    mine.write_text(
        "from trainer.training.tasks.classification import ClassificationSettings\n"
        "class Settings(ClassificationSettings):\n    dropout = 0.1\n"
    )
    with pytest.raises(ExperimentError, match=r"^idea\.py:3: setting dropout has no type") as caught:
        main(["--exp", str(mine)])
    assert caught.value.hint == "give `dropout` a type, e.g. `dropout: float = 0.1`"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["digits"], "did you mean --exp digits?"),
        (["digitz", "--max-epochs", "1"], "did you mean --exp digits?"),
        (["--max-epochs", "1", "my/idea.py"], "did you mean --exp my/idea.py?"),
        (["--exp", "digits", "digits"], "options are written --name value: --digits"),
        (["qqq"], "options are written --name value: --qqq"),
    ],
)
def test_an_experiment_may_be_given_without_exp(argv: list[str], hint: str) -> None:
    with pytest.raises(UsageError, match="where an option was expected") as caught:
        main(argv)
    assert caught.value.hint == hint


def test_an_experiment_may_be_given_in_place_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert (cli.main(["digits"]), cli.main(["run"]), cli.main(["-e", "A=1"])) == (2, 2, 2)
    stderr = capsys.readouterr().err
    assert "docker compose run -e NAME=VALUE --rm train" in stderr
    assert "train --exp digits\n" in stderr
    assert "did you mean runs" in stderr


def test_a_file_outside_the_checkout_is_copied_into_the_mounted_folder(tmp_path: Path) -> None:
    mine, run = tmp_path / "idea.py", tmp_path / "run"
    mine.write_text("x = 1\n")
    run.mkdir()
    experiment = find_experiment(str(mine), checkout=ROOT, here=ROOT)
    copy_into_run(experiment, run)
    place = find_experiment(experiment.name, checkout=ROOT, here=ROOT, copies=run)
    assert (experiment.name, place.file.as_posix()) == ("experiment/idea.py", "experiment/idea.py")
    assert place.outside is not None
    assert place.outside.read_text() == "x = 1\n"


def test_a_constructor_parameter_without_a_setting_gets_a_hint_to_declare_one(tmp_path: Path) -> None:
    mine = tmp_path / "idea.py"
    mine.write_text(
        "from trainer.training.tasks.classification import ClassificationSettings, Classifier\n"
        "class Settings(ClassificationSettings):\n    dataset = 'digits'\n    classes = 10\n"
        "class Net(Classifier):\n    def __init__(self, *, dropout=0.1) -> None: ...\n"
    )
    with pytest.raises(SettingError, match="unknown setting --dropout") as caught:
        main(["--exp", str(mine), "--dropout", "0.5"])
    assert (
        caught.value.hint == "idea.py:6 has a parameter of that name: declare it in Settings as `dropout: float = 0.1`"
    )
