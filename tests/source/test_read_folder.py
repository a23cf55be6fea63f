"""The files of a folder that belong to a source, with real git and real files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.source.checkouts import git, paths
from trainer.base.errors import SourceError
from trainer.source.capture import capture

SECRET = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE"


def test_bytecode_that_git_does_not_ignore_is_no_source(make_checkout: Path) -> None:
    before = capture(make_checkout)
    for folder in ("__pycache__", "deep/__pycache__"):
        (make_checkout / folder).mkdir(parents=True)
        (make_checkout / folder / "a.cpython-311.pyc").write_bytes(b"1")
    assert capture(make_checkout).digest == before.digest


def test_committed_bytecode_is_no_source_and_its_change_is_no_edit(make_checkout: Path) -> None:
    before = capture(make_checkout)
    written = make_checkout / "deep/__pycache__/a b.cpython-311.pyc"
    written.parent.mkdir()
    written.write_bytes(b"1")
    git(make_checkout, "add", "--force", "deep")
    git(make_checkout, "commit", "-q", "-m", "bytecode")
    written.write_bytes(b"2")
    after = capture(make_checkout)
    assert (after.digest, after.source.dirty) == (before.digest, False)


def test_secrets_are_excluded_and_listed(make_checkout: Path) -> None:
    (make_checkout / "server.key").write_text("x")
    (make_checkout / "deploy.py").write_text(f'key = """{SECRET}"""')
    (make_checkout / "empty.pem").write_text("")
    bundle = capture(make_checkout)
    assert "empty.pem" in paths(bundle)
    remedy = "if it holds no secret, list it in .reprise-no-secrets"
    assert bundle.left_out == [
        f"deploy.py: it contains a private key; {remedy}",
        f"server.key: its name is that of a secret; {remedy}",
    ]


def test_a_file_that_only_looks_like_a_secret_is_allowed_by_name(make_checkout: Path) -> None:
    (make_checkout / "deploy.py").write_text(f'key = """{SECRET}"""')
    (make_checkout / "server.key").write_text("x")
    (make_checkout / ".reprise-no-secrets").write_text("# a test's own\n./deploy.py  # made up\n")
    bundle = capture(make_checkout)
    assert "deploy.py" in paths(bundle)
    assert [line.partition(":")[0] for line in bundle.left_out] == ["server.key"]


def test_links_inside_become_files_and_links_outside_are_excluded(make_checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("private")
    (make_checkout / ".env").write_text("TOKEN=1")
    for name, target in {
        "in.py": "code.py",
        "out.py": "../outside",
        "dir": "deep",
        "deep/up": "..",
        "none": "gone",
        "me": "me",
        "e.txt": ".env",
    }.items():
        (make_checkout / name).symlink_to(target)
    bundle = capture(make_checkout)
    assert {file.path: file.data for file in bundle.files}["in.py"] == b"x = 1\n"
    assert {line.split(":")[0] for line in bundle.left_out} == {
        "out.py",
        "deep/up",
        "dir/up",
        "none",
        "me",
        "e.txt",
    }
    assert (
        "out.py: a link out of the checkout, to ../outside: copy the target here, or publish data as a dataset"
        in bundle.left_out
    )
    assert {file.path: file.data for file in bundle.files}["dir/er.txt"] == "ü\n".encode()
    assert "none: a link to gone, which does not exist: remove or fix the link" in bundle.left_out


def test_special_files_do_not_block_the_capture(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    os.mkfifo(tmp_path / "pipe")
    bundle = capture(tmp_path)
    assert paths(bundle) == ["a.py"]
    assert "pipe: not a regular file" in bundle.left_out


def test_names_that_are_not_utf8_are_excluded_and_listed(make_checkout: Path) -> None:
    Path(os.fsdecode(os.fsencode(make_checkout) + b"/caf\xe9.py")).write_text("")
    assert capture(make_checkout).left_out == ["'caf\\udce9.py': not UTF-8"]


def test_too_much_source_is_rejected_with_the_largest_files(make_checkout: Path) -> None:
    (make_checkout / "data.bin").write_bytes(bytes(3 << 20))
    with pytest.raises(
        SourceError, match=r"found|is 3\.0 MiB; expected at most 2\.0 MiB; largest files: data\.bin"
    ) as error:
        capture(make_checkout, largest=2 << 20)
    assert "gitignore" in str(error.value.hint)


def test_deleted_files_are_not_captured(make_checkout: Path) -> None:
    (make_checkout / "code.py").unlink()
    bundle = capture(make_checkout)
    assert "code.py" not in paths(bundle)
    assert bundle.source.dirty


def test_without_git_build_leftovers_are_excluded_with_a_note(tmp_path: Path) -> None:
    for path in [
        "a.py",
        "sub/b.py",
        "__pycache__/a.pyc",
        "env/pyvenv.cfg",
        "env/x.py",
        ".c/CACHEDIR.TAG",
        ".c/y",
        "runs/1/z",
        "sub/runs/ok.py",
    ]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    bundle = capture(tmp_path)
    assert paths(bundle) == ["a.py", "sub/b.py", "sub/runs/ok.py"]
    assert "git cannot list" in bundle.left_out[0]
    assert (bundle.source.commit, bundle.source.dirty) == ("unknown", None)


@pytest.mark.parametrize("there", ["an archive", "a worktree without its repository"])
def test_ignored_files_are_excluded_even_if_git_cannot_list_the_folder(
    make_checkout: Path, tmp_path: Path, there: str
) -> None:
    whole, tree = capture(make_checkout), tmp_path / "tree"
    if there == "an archive":
        shutil.copytree(make_checkout, tree, ignore=shutil.ignore_patterns(".git"))
    else:
        git(make_checkout, "worktree", "add", "-q", str(tree))
        shutil.copytree(make_checkout / "out", tree / "out")
        (make_checkout / ".git").rename(tmp_path / "moved")
    found = capture(tree)
    assert (found.digest, found.source.commit) == (whole.digest, "unknown")
    assert ".gitignore" in found.left_out[0]


def test_a_nested_repository_is_excluded_and_listed(make_checkout: Path) -> None:
    (make_checkout / "vendored").mkdir()
    git(make_checkout / "vendored", "init", "-q")
    (make_checkout / "vendored" / "v.py").write_text("")
    assert [line.split(":")[0] for line in capture(make_checkout).left_out] == ["vendored/"]


def test_a_file_named_like_a_leftover_folder_is_captured(tmp_path: Path) -> None:
    for name in ("scripts/machine/venv", "build", "venv/x.py", "a/.git", "b.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [file.path for file in capture(tmp_path).files] == ["build", "scripts/machine/venv"]


def test_a_pointer_of_git_lfs_is_named(make_checkout: Path) -> None:
    (make_checkout / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:11\nsize 3\n")
    assert capture(make_checkout).left_out == ["weights.bin: a Git LFS pointer without its content: git lfs pull"]


def test_a_sparse_checkout_is_captured_as_on_the_disk(make_checkout: Path) -> None:
    git(make_checkout, "sparse-checkout", "set", "--no-cone", "/code.py")
    assert paths(capture(make_checkout)) == ["code.py"]
