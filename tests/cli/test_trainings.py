"""All runs of a command use the source as it is at the start of the command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import InterruptedRunError, MachineError, SourceError
from trainer.cli.containers import copy_unmounted_files
from trainer.cli.train import source_of
from trainer.cli.train.command_line import parse_train_request
from trainer.cli.train.edit_arguments import from_checkout
from trainer.cli.trainings import explaining_stop, freeze, start
from trainer.runs.run import new_run
from trainer.source.capture import COPY, take_placed_source

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.cli.trainings import Recipe

IDEA = "from trainer.training.tasks.classification import ClassificationSettings, Classifier\n"


@pytest.fixture
def experiment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an experiment from outside the checkout, with a settings file beside it."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "idea.py").write_text(IDEA)
    (tmp_path / "idea.toml").write_text("seed = 1\n")
    return tmp_path / "idea.py"


def freeze_experiment(idea: Path) -> Recipe:
    words = ["--exp", str(idea), f"--settings={idea.with_suffix('.toml')}"]
    return freeze(parse_train_request(words))


def test_edits_after_the_start_are_in_no_training(experiment_file: Path, tmp_path: Path) -> None:
    recipe = freeze_experiment(experiment_file)
    experiment_file.write_text("syntax error\n")
    experiment_file.with_suffix(".toml").write_text("seed = 2\n")
    for _ in range(2):
        run, folder = new_run(tmp_path / "runs")
        words = recipe.place_source(folder)
        assert (folder / "settings/idea.toml").read_text() == "seed = 1\n"
        assert words == ["--exp", "experiment/idea.py", f"--settings={folder / 'settings/idea.toml'}"]
        place = parse_train_request(words, root=source_of(folder)).experiment
        assert (place.file.as_posix(), place.outside) == ("experiment/idea.py", None)
        bundle = take_placed_source(folder)
        assert bundle is not None
        assert (bundle.digest, run) == (recipe.source.digest, folder.name)
        assert (folder / COPY / place.file).read_text() == IDEA


def test_the_project_of_an_experiment_is_captured_on_the_host_for_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    theirs = tmp_path / "theirs"
    (theirs / "src/data").mkdir(parents=True)
    for path in ("pyproject.toml", "src/idea.py", "src/data/points.py"):
        (theirs / path).write_text(IDEA if path == "src/idea.py" else "")
    (theirs / ".git").mkdir()
    words = ["--exp", str(theirs / "src/idea.py"), "--data", f"{theirs}/src/data/points.py:Points", "--help"]
    request = parse_train_request(words)
    _, folder = new_run(tmp_path / "runs")
    copy_unmounted_files(request.experiment, folder)
    shutil.rmtree(theirs)
    inside = from_checkout(request)
    assert inside == ["--exp", "experiment/project/src/idea.py", "--data", "src/data/points.py:Points", "--help"]
    place = parse_train_request(inside, root=source_of(folder)).experiment
    assert (place.file.as_posix(), place.project) == ("experiment/project/src/idea.py", None)
    bundle = take_placed_source(folder)
    assert bundle is not None
    assert bundle.source.project is not None
    assert bundle.source.project.files == 3


def test_an_experiment_outside_the_source_is_rejected_before_anything_starts(experiment_file: Path) -> None:
    experiment_file.write_text(IDEA + f'key = "hf_{34 * "x"}"\n')
    with pytest.raises(SourceError, match="cannot be captured"):
        freeze_experiment(experiment_file)


def test_a_run_that_fails_to_start_leaves_no_folder(experiment_file: Path, tmp_path: Path) -> None:
    recipe = freeze_experiment(experiment_file)
    first, second = recipe.source.files[:2]
    files = (replace(first, path="a"), replace(second, path="a/b"))
    broken = replace(recipe, source=replace(recipe.source, files=files))
    with pytest.raises(MachineError, match=r"is a file, of uid \d+; expected a folder"):
        start([], purpose="noise", recipe=broken)
    assert list((tmp_path / "runs").iterdir()) == []


def test_ctrl_c_in_a_command_that_trains_several_runs_says_how_to_continue() -> None:
    with pytest.raises(InterruptedRunError, match="stopped by Ctrl-C") as caught, explaining_stop("repeat the command"):
        raise KeyboardInterrupt
    assert caught.value.hint == "repeat the command"
