"""What `reprise baseline check` reports about changes of a checkout."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DocumentError, ExperimentError
from trainer.cli import baseline
from trainer.cli.baseline import code_changes, main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for path in ("trainer/net.py", "tests/baselines/dots.json", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text("x = 1\n")
    subprocess.run(["git", "-C", str(tmp_path), "init", "--quiet"], check=True)
    commit_all(tmp_path)
    return tmp_path


def commit_all(folder: Path) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    when = {**os.environ, "GIT_COMMITTER_DATE": "2026-11-20T12:00:00Z"}
    for words in (("add", "."), (*who, "commit", "--quiet", "-m", "x")):
        subprocess.run(["git", "-C", str(folder), *words], env=when, check=True)


def change_lines(clone: Path) -> list[str]:
    return [re.sub(r"commit [0-9a-f]{7,}", "commit X", line) for line in code_changes(clone, "dots")]


WROTE = "commit X of 2026-11-20 wrote the baseline"


def test_commits_since_the_baseline_are_counted(clone: Path) -> None:
    for text in ("x = 2\n", "x = 3\n"):
        (clone / "trainer/net.py").write_text(text)
        (clone / "README.md").write_text(text)
        commit_all(clone)
    (clone / "README.md").write_text("no code\n")
    commit_all(clone)
    assert change_lines(clone) == [
        f"{WROTE}; 2 commits since then changed trainer or datasets",
        "this checkout has no local changes",
    ]


def test_a_baseline_whose_code_differs_from_its_commit_is_reported(clone: Path) -> None:
    assert (
        change_lines(clone)[0]
        == f"{WROTE}, but for different code than it contains: no commit since then has changed the code"
    )


def test_changed_files_of_the_checkout_are_listed(clone: Path) -> None:
    (clone / "trainer/net.py").write_text("x = 2\n")
    for number in range(4):
        (clone / f"trainer/new{number}.py").write_text("")
    named = "trainer/net.py, trainer/new0.py, trainer/new1.py, trainer/new2.py"
    assert change_lines(clone) == [
        f"{WROTE}; 0 commits since then changed trainer or datasets",
        f"local changes: {named} and 1 more",
    ]


def test_facts_that_git_cannot_provide_are_omitted(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shallow = tmp_path_factory.mktemp("shallow")
    words = ["git", "clone", "--quiet", "--depth", "1", f"file://{clone}", str(shallow)]
    subprocess.run(words, check=True)
    assert change_lines(shallow) == ["this checkout has no local changes"]
    assert change_lines(tmp_path_factory.mktemp("none")) == []


@pytest.mark.parametrize("name", ["nope", "../x", 300 * "x", "-", "README.md", "benchmarks/history.py"])
def test_an_unknown_experiment_is_rejected_before_anything_starts(name: str) -> None:
    with pytest.raises(ExperimentError):
        main(["check", name])


def test_an_experiment_without_a_baseline_is_rejected_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainer/experiments").mkdir(parents=True)
    (tmp_path / "trainer/experiments/idea.py").touch()
    monkeypatch.setattr(baseline, "CHECKOUT", tmp_path)
    with pytest.raises(DocumentError, match="idea has no baseline") as error:
        main(["check", "idea"])
    assert error.value.hint == "reprise baseline refresh idea --why 'it is new'"
