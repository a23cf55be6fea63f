"""Capturing a checkout, with real git and real files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.source.checkouts import git, paths, run_folder
from trainer.base.digest import digest_of_file
from trainer.base.errors import SourceError
from trainer.base.git import repository_of_worktree
from trainer.source.capture import ARCHIVE, COPY, capture, freeze
from trainer.source.copy import lay_out
from trainer.source.project import FOLDER
from trainer.source.read_folder import ALLOWED

ROOT = Path(__file__).parents[2]
SECRET = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE"


def test_tracked_and_untracked_files_are_captured_and_ignored_ones_are_not(make_checkout: Path) -> None:
    (make_checkout / "new.py").write_text("y = 2\n")
    bundle = capture(make_checkout)
    assert paths(bundle) == [".gitignore", "code.py", "deep/er.txt", "do", "new.py"]
    assert bundle.source.dirty
    assert len(bundle.source.commit) == 40


def test_a_clean_checkout_is_recorded_as_clean(make_checkout: Path) -> None:
    source = capture(make_checkout).source
    # in a container of an image, `tmp_path` is not mounted
    how = "baked" if Path("/opt/reprise/image.json").exists() else "mounted"
    assert (source.dirty, source.left_out, source.files, source.how) == (False, [], 4, how)


def test_the_digest_names_paths_contents_and_executable_bits_only(make_checkout: Path) -> None:
    before = capture(make_checkout).digest
    os.utime(make_checkout / "code.py", (1, 1))
    git(make_checkout, "commit", "-q", "--allow-empty", "-m", "second")
    assert capture(make_checkout).digest == before
    (make_checkout / "do").chmod(0o644)
    changed = capture(make_checkout).digest
    assert changed != before
    (make_checkout / "code.py").write_text("x = 2\n")
    assert capture(make_checkout).digest not in {before, changed}


def test_the_archive_depends_on_the_bundle_alone(make_checkout: Path, tmp_path: Path) -> None:
    first, second = run_folder(tmp_path), run_folder(tmp_path, "two")
    freeze(make_checkout, first)
    os.utime(make_checkout / "code.py", (1, 1))
    freeze(make_checkout, second)
    assert digest_of_file(first / ARCHIVE) == digest_of_file(second / ARCHIVE)


def test_the_archive_and_the_copy_agree(make_checkout: Path, tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    bundle = freeze(make_checkout, folder)
    with tarfile.open(folder / ARCHIVE) as tar:
        packed = {entry.name: (tar.extractfile(entry) or pytest.fail("no file")).read() for entry in tar}
    assert packed == {file.path: file.data for file in bundle.files}
    assert packed == {
        path.relative_to(folder / COPY).as_posix(): path.read_bytes()
        for path in (folder / COPY).rglob("*")
        if path.is_file()
    }
    assert os.access(folder / COPY / "do", os.X_OK)
    assert capture(folder / COPY).digest == bundle.digest


def test_a_git_worktree_and_a_folder_inside_a_repository_are_captured(make_checkout: Path, tmp_path: Path) -> None:
    git(make_checkout, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert capture(tmp_path / "tree").digest == capture(make_checkout).digest
    (make_checkout / "deep" / "new.txt").write_text("n")
    assert paths(capture(make_checkout / "deep")) == ["er.txt", "new.txt"]


def test_only_the_repository_of_a_worktree_is_found(make_checkout: Path, tmp_path: Path) -> None:
    git(make_checkout, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert repository_of_worktree(tmp_path / "tree") == make_checkout / ".git"
    assert repository_of_worktree(make_checkout) is None
    assert repository_of_worktree(tmp_path) is None


def test_a_repository_before_its_first_commit_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("")
    assert (capture(tmp_path).source.commit, paths(capture(tmp_path))) == ("unknown", ["a.py"])


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give the checkout to another user")
def test_a_checkout_of_another_user_is_captured_by_git(make_checkout: Path) -> None:
    os.chown(make_checkout, 4321, 4321)
    os.chown(make_checkout / ".git", 4321, 4321)
    git_config = make_checkout / ".git" / "config"
    git_config.write_text(git_config.read_text() + f"[core]\n\tfsmonitor = touch {make_checkout}/ran\n")
    assert len(capture(make_checkout).source.commit) == 40
    assert not (make_checkout / "ran").exists()


def test_the_users_git_configuration_does_not_change_the_source(
    make_checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (make_checkout / "notes.txt").write_text("n")
    before = capture(make_checkout).digest
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("notes.txt\n")
    (home / ".gitconfig").write_text(f"[core]\n\tworktree = {tmp_path}\n[status]\n\trelativePaths = true\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert capture(make_checkout).digest == before


def test_a_file_from_outside_can_be_added(make_checkout: Path, tmp_path: Path) -> None:
    script = tmp_path / "try.py"
    script.write_text("z = 3\n")
    bundle = capture(make_checkout, extra={"outside/try.py": script})
    assert "outside/try.py" in paths(bundle)
    with pytest.raises(SourceError, match="No such file"):
        capture(make_checkout, extra={"outside/try.py": tmp_path / "gone.py"})


def test_a_runs_folder_of_another_name_is_never_captured(make_checkout: Path) -> None:
    folder = make_checkout / "elsewhere" / "one"
    folder.mkdir(parents=True)
    (make_checkout / "elsewhere" / "old.txt").write_text("a former run")
    freeze(make_checkout, folder)
    assert not (folder / COPY / "elsewhere").exists()


_COUNT = """
import sys
from collections import Counter
from trainer.source.capture import archive, capture
seen = Counter()
sys.addaudithook(lambda event, _: seen.update([event]))
bundle = capture(ROOT)
archive(bundle)
print(bundle.source.files, seen["open"], seen["os.scandir"] + seen["os.listdir"])
"""


def test_capturing_this_repository_reads_each_file_twice_and_no_ignored_folder() -> None:
    """The test counts opened files instead of measuring time, which depends on other processes. Measured: 2,676 for 1,317 files."""
    code = _COUNT.replace("ROOT", f"__import__('pathlib').Path({str(ROOT)!r})")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files, opened, listed = map(int, done.stdout.split())
    assert opened < 2 * files + 200
    assert listed < files


# --- submodules


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a repository with a submodule."""
    for name in ("deepest", "library"):
        git(make(tmp_path / name, f"{name}.py"), "init", "-q", "-b", "main")
    git(tmp_path / "deepest", "add", "-A")
    git(tmp_path / "deepest", "commit", "-q", "-m", "first")
    add_submodule(tmp_path / "library", tmp_path / "deepest", "inner")
    return tmp_path / "library"


def make(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).write_text("y = 2\n")
    return folder


def add_submodule(where: Path, what: Path, path: str) -> None:
    git(where, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(what), path)
    git(where, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", "--recursive")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "a submodule")


def test_files_of_submodules_are_captured_and_their_commits_recorded(make_checkout: Path, library: Path) -> None:
    add_submodule(make_checkout, library, "vendor/lib")
    bundle = capture(make_checkout)
    assert {"vendor/lib/library.py", "vendor/lib/inner/deepest.py", ".gitmodules"} <= set(paths(bundle))
    assert list(bundle.source.submodules) == ["vendor/lib", "vendor/lib/inner"]
    assert all(len(commit) == 40 for commit in bundle.source.submodules.values())
    assert (bundle.source.dirty, bundle.left_out) == (False, [])


def test_an_edit_inside_a_submodule_is_captured_and_reported(make_checkout: Path, library: Path) -> None:
    add_submodule(make_checkout, library, "lib")
    before = capture(make_checkout)
    (make_checkout / "lib" / "new.py").write_text("z = 3\n")
    after = capture(make_checkout)
    assert "lib/new.py" in paths(after)
    assert after.source.dirty
    assert after.digest != before.digest


def test_a_submodule_on_another_commit_is_reported(make_checkout: Path, library: Path) -> None:
    add_submodule(make_checkout, library, "lib")
    (make_checkout / "lib" / "new.py").write_text("z = 3\n")
    git(make_checkout / "lib", "add", "-A")
    git(make_checkout / "lib", "commit", "-q", "-m", "second")
    assert capture(make_checkout).source.dirty


def test_a_submodule_without_files_is_an_error_with_a_hint(make_checkout: Path, library: Path, tmp_path: Path) -> None:
    add_submodule(make_checkout, library, "lib")
    git(tmp_path, "clone", "-q", str(make_checkout), str(tmp_path / "clone"))
    bundle = capture(tmp_path / "clone")
    assert bundle.left_out == ["lib: a submodule without files: git submodule update --init --recursive"]


def test_a_submodule_with_an_unreadable_history_is_captured(make_checkout: Path, library: Path) -> None:
    add_submodule(make_checkout, library, "lib")
    (make_checkout / "lib" / ".git").write_text("gitdir: /elsewhere/on/the/host\n")
    bundle = capture(make_checkout)
    assert "lib/library.py" in paths(bundle)
    assert (bundle.source.submodules["lib"], bundle.source.dirty) == ("unknown", True)


def test_a_copy_of_a_source_with_submodules_has_the_same_digest(
    make_checkout: Path, library: Path, tmp_path: Path
) -> None:
    add_submodule(make_checkout, library, "lib")
    bundle = freeze(make_checkout, run_folder(tmp_path))
    lay_out(bundle, tmp_path / "again")
    assert capture(tmp_path / "again").digest == bundle.digest


# --- line endings


def test_a_clone_on_windows_has_the_same_source_as_any_other(make_checkout: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitattributes", make_checkout)
    (make_checkout / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\n")
    git(make_checkout, "add", "-A")
    git(make_checkout, "commit", "-q", "-m", "attributes")
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "-q", str(make_checkout), str(tmp_path / "windows"))
    assert (tmp_path / "windows" / "do").read_bytes() == b"#!/bin/sh\n"
    assert capture(tmp_path / "windows").digest == capture(make_checkout).digest


def test_every_text_file_of_this_repository_has_lf_in_every_clone() -> None:
    words = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "--eol"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line for line in lines if "eol=lf" not in line and "-text" not in line] == []
    assert [line for line in lines if line.startswith(("i/crlf", "i/mixed"))] == []


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return another repository, with an ignored file, a file that looks like a secret but is not, and an untracked file."""
    root = tmp_path / "theirs"
    for path, text in {
        "src/models/net.py": "x = 1\n",
        "runs/plot.py": "",
        ".gitignore": "data/\n",
        "data/big.bin": "ignored",
        "test.key": "no secret",
        ALLOWED: "test.key\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    (root / "src/models/mnist.py").write_text("import src.models.net\n")
    return root


def test_a_project_is_captured_by_the_rules_of_a_checkout(make_checkout: Path, theirs: Path) -> None:
    (theirs / "server.key").write_text("x")
    bundle = capture(make_checkout, extra={FOLDER: theirs})
    names = [".gitignore", ALLOWED, "runs/plot.py", "src/models/mnist.py", "src/models/net.py", "test.key"]
    assert [path for path in paths(bundle) if path.startswith(FOLDER)] == [f"{FOLDER}/{name}" for name in names]
    assert [line.partition(":")[0] for line in bundle.left_out] == [f"{FOLDER}/server.key"]
    project = bundle.source.project
    assert project is not None
    assert (project.path, project.files, project.dirty, len(project.commit)) == (FOLDER, 6, True, 40)
    assert project.commit != bundle.source.commit
    assert not bundle.source.dirty


def test_a_source_with_a_project_is_captured_again_to_the_same_digest(
    make_checkout: Path, theirs: Path, tmp_path: Path
) -> None:
    bundle = capture(make_checkout, extra={FOLDER: theirs})
    shutil.rmtree(theirs)
    lay_out(bundle, tmp_path / "again")
    assert capture(tmp_path / "again").digest == bundle.digest


def test_checkout_and_project_share_the_largest_size(make_checkout: Path, theirs: Path) -> None:
    alone = capture(make_checkout).source.bytes
    with pytest.raises(SourceError, match=f"the source of {theirs} is .* expected at most"):
        capture(make_checkout, extra={FOLDER: theirs}, largest=alone + 10)


def test_a_checkout_in_a_project_is_captured_once(make_checkout: Path, theirs: Path) -> None:
    inner = theirs / "checkout"
    shutil.move(make_checkout, inner)
    bundle = capture(inner, extra={FOLDER: theirs})
    assert not [path for path in paths(bundle) if path.startswith(f"{FOLDER}/checkout")]
    assert bundle.left_out == []


def test_a_folder_of_the_checkout_in_the_projects_place_is_an_error(make_checkout: Path, theirs: Path) -> None:
    (make_checkout / FOLDER).mkdir(parents=True)
    (make_checkout / FOLDER / "mine.py").write_text("")
    with pytest.raises(SourceError, match=f"the checkout has {FOLDER}/mine.py"):
        capture(make_checkout, extra={FOLDER: theirs})


def test_a_project_that_git_cannot_list_is_walked(make_checkout: Path, theirs: Path) -> None:
    shutil.rmtree(theirs / ".git")
    bundle = capture(make_checkout, extra={FOLDER: theirs})
    assert f"{FOLDER}/src/models/mnist.py" in paths(bundle)
    assert bundle.left_out[0].startswith(f"{FOLDER}: (git cannot list this folder")
    assert bundle.source.project is not None
    assert (bundle.source.project.commit, bundle.source.project.dirty) == ("unknown", None)
