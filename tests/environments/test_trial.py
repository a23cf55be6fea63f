"""A change that is tried in a copy: the checkout gets the whole change or nothing, also after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.base.errors import DocumentError, SourceError
from trainer.environments.trial import applied, changeable_files, restore_interrupted, trial_checkout

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {"pyproject.toml": "project = 2\n", "uv.lock": "lock = 2\n", "environments/cpu.toml": "cpu = 2\n"}
KILLED_AT_RENAME = """
import os, signal, sys
from pathlib import Path
from trainer.environments.trial import applied, changeable_files
left = int(sys.argv[2])
def hook(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
root = Path(sys.argv[1])
changes = {name: text.replace("1", "2") for name, text in changeable_files(root).items() if name != "environments/other.toml"}
sys.addaudithook(hook)
with applied(changes, changeable_files(root), root=root):
    print("applied", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a checkout with a file of each kind."""
    for folder in ("environments", ".reprise"):
        (tmp_path / folder).mkdir()
    for name, text in CHANGES.items():
        (tmp_path / name).write_text(text.replace("2", "1"))
    (tmp_path / "environments" / "other.toml").write_text("other = 1\n")
    (tmp_path / "environments" / "cpu.pin.toml").write_text("pin = 1\n")
    return tmp_path


def test_a_pin_is_no_part_of_a_change(root: Path) -> None:
    assert [*changeable_files(root)] == [
        "pyproject.toml",
        "uv.lock",
        "environments/cpu.toml",
        "environments/other.toml",
    ]


def test_a_change_is_applied_as_a_whole(root: Path) -> None:
    with applied(CHANGES, changeable_files(root), root=root):
        pass
    assert {name: (root / name).read_text() for name in CHANGES} == CHANGES
    assert list((root / ".reprise").iterdir()) == []


def test_a_failure_afterwards_restores_every_file(root: Path) -> None:
    before = changeable_files(root)
    with pytest.raises(KeyboardInterrupt), applied(CHANGES, before, root=root):
        raise KeyboardInterrupt
    assert changeable_files(root) == before
    assert restore_interrupted(root) == []


def test_a_file_that_changed_meanwhile_is_not_overwritten(root: Path) -> None:
    before = changeable_files(root)
    (root / "uv.lock").write_text("theirs = 1\n")
    with (
        pytest.raises(SourceError, match=r"another process changed uv\.lock"),
        applied(CHANGES, before, root=root),
    ):
        pytest.fail("the change was applied")
    assert changeable_files(root) == before | {"uv.lock": "theirs = 1\n"}


@pytest.mark.parametrize("rename", range(1, 6))
def test_after_a_kill_at_any_file_the_checkout_has_all_or_nothing(root: Path, rename: int) -> None:
    before = changeable_files(root)
    words = [sys.executable, "-c", KILLED_AT_RENAME, str(root), str(rename)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL if rename < 5 else 0, "")
    restored = restore_interrupted(root)
    assert restored == list(CHANGES)[: max(0, rename - 2)] if rename < 5 else restored == []
    assert changeable_files(root) == (before if rename < 5 else before | CHANGES)
    assert not (root / ".reprise" / "changed-files.json").exists()


def test_a_kill_after_the_last_file_leaves_the_change(root: Path) -> None:
    journal = {name: {"before": (root / name).read_text(), "after": text} for name, text in CHANGES.items()}
    (root / ".reprise" / "changed-files.json").write_text(json.dumps({"files": journal}))
    for name, text in CHANGES.items():
        (root / name).write_text(text)
    assert restore_interrupted(root) == []
    assert {name: (root / name).read_text() for name in CHANGES} == CHANGES


def test_an_edit_after_a_kill_is_kept(root: Path) -> None:
    journal = {name: {"before": (root / name).read_text(), "after": text} for name, text in CHANGES.items()}
    (root / ".reprise" / "changed-files.json").write_text(json.dumps({"files": journal}))
    (root / "pyproject.toml").write_text("project = 3\n")
    (root / "uv.lock").write_text(CHANGES["uv.lock"])
    assert restore_interrupted(root) == ["uv.lock"]
    assert (root / "pyproject.toml").read_text() == "project = 3\n"


def test_a_journal_names_no_other_file(root: Path) -> None:
    text = {"before": "x", "after": "lock = 1\n"}
    (root / ".reprise" / "changed-files.json").write_text(json.dumps({"files": {"../uv.lock": text}}))
    with pytest.raises(DocumentError):
        restore_interrupted(root)


def test_a_trial_has_what_locks_and_builds_and_shares_the_fetched_uv(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for folder in ("docker", "environments", "scripts", "trainer/environments"):
        shutil.copytree(ROOT / folder, root / folder)
    for name in (".dockerignore", "pyproject.toml", "uv.lock", "trainer/__init__.py"):
        shutil.copy(ROOT / name, root / name)
    (root / ".env").write_text("SECRET=1\n")
    with trial_checkout(root) as trial:
        assert changeable_files(trial) == changeable_files(root)
        assert (trial / ".reprise").resolve() == root / ".reprise"
        assert not (trial / ".env").exists()
        assert (trial / ".dockerignore").read_bytes() == (ROOT / ".dockerignore").read_bytes()
        (trial / "uv.lock").write_text("changed")
        (trial / ".reprise" / "file").touch()
    assert not trial.exists()
    assert changeable_files(root)["uv.lock"] == (ROOT / "uv.lock").read_text()
    assert (root / ".reprise" / "file").exists()


TRIED = """
import os, signal, sys
from pathlib import Path
from trainer.environments.trial import trial_checkout
with trial_checkout(Path(sys.argv[1])) as trial:
    print(trial, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_the_trial_of_a_killed_command_is_removed_by_the_next_one(root: Path, tmp_path: Path) -> None:
    for name in ("docker", "scripts", "trainer/environments", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "trainer/__init__.py").touch()

    def start(end: str) -> tuple[subprocess.Popen[str], Path]:
        environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
        words = [sys.executable, "-c", TRIED, str(root), end]
        process = subprocess.Popen(
            words, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    killed, abandoned = start("killed")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    living, used = start("waits")
    for folder in (abandoned, used):
        os.utime(folder, (0, 0))
    last, _ = start("waits")
    assert not abandoned.exists()
    assert used.exists(), "another command uses it"
    for process in (living, last):
        process.communicate()
