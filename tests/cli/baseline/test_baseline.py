"""What `reprise baseline check` says of a checkout's own changes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from trainer.cli.baseline import local_changes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh checkout."""
    for path in ("trainer/net.py", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    return tmp_path


def test_a_fresh_checkout_has_changed_nothing(clone: Path) -> None:
    (clone / "README.md").write_text("no code\n")
    assert local_changes(clone) == [
        "this checkout has no local changes: commits have changed the code since the baseline was written"
    ]


def test_the_files_that_a_checkout_changed_are_named(clone: Path) -> None:
    (clone / "trainer/net.py").write_text("x = 2\n")
    for number in range(4):
        (clone / f"trainer/new{number}.py").write_text("")
    named = "trainer/net.py, trainer/new0.py, trainer/new1.py, trainer/new2.py"
    assert local_changes(clone) == [f"local changes: {named} and 1 more"]


def test_without_git_nothing_is_said(tmp_path: Path) -> None:
    assert local_changes(tmp_path) == []
