"""Files and folders that are there whole or not at all, for whoever owns the folder around them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.flushed import flushes
from trainer.beneath import Root
from trainer.errors import MachineError, UnsafePathError
from trainer.host.atomic import disk_faults, give_like, make_below, make_folder, sync_folder, write_below, write_whole

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user, which root alone can")
OTHER = 4321


def files_open() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_written_with_its_mode_and_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    write_whole(tmp_path / "a", b"new", mode=0o600)
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "a").stat().st_mode & 0o777) == (b"new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_the_system_says_is_worded(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"a/b could not be written: No such file"):
        write_whole(tmp_path / "a/b", b"")
    with (
        pytest.raises(MachineError, match=r"x could not be removed: No such file"),
        disk_faults(tmp_path / "x", done="removed"),
    ):
        (tmp_path / "x").unlink()


def test_a_folder_is_flushed_and_not_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = flushes(monkeypatch, tmp_path), files_open()
    sync_folder(tmp_path)
    assert (found, files_open()) == ([("folder", 0)], before)


def test_a_file_below_a_root_comes_with_its_folder(tmp_path: Path) -> None:
    """Again into the same one; not into one that is a link."""
    with Root.at(tmp_path) as root:
        write_below(root, "top", b"0")
        for number in (b"1", b"2"):
            write_below(root, "in/deep/file", number)
        assert (root.read("in/deep/file"), root.read("top")) == (b"2", b"0")
        (tmp_path / "link").symlink_to("in")
        with pytest.raises(UnsafePathError, match="link is a symbolic link"):
            write_below(root, "link/file", b"3")
        with pytest.raises(UnsafePathError, match="link is a symbolic link"):
            make_below(root, "link")
    assert not (tmp_path / "in/file").exists()


@needs_root
def test_what_root_makes_is_the_owners_of_the_folder_around_it(tmp_path: Path) -> None:
    """What was there keeps its owner, and so does what a link leads to."""
    os.chown(tmp_path, OTHER, OTHER)
    (tmp_path / "mine").mkdir()
    with Root.at(tmp_path) as root:
        make_below(root, "new")
        make_below(root, "mine")
        write_below(root, "folder/deep/file", b"x")
    make_folder(tmp_path / "made")
    make_folder(tmp_path / "mine")
    (tmp_path / "mine/file").touch()
    (tmp_path / "link").symlink_to("mine/file")
    give_like(tmp_path / "link")
    owners = {path.relative_to(tmp_path).as_posix(): path.lstat().st_uid for path in tmp_path.rglob("*")}
    assert owners == {
        "new": OTHER,
        "folder": OTHER,
        "folder/deep": OTHER,
        "folder/deep/file": OTHER,
        "made": OTHER,
        "link": OTHER,
    } | {
        "mine": 0,
        "mine/file": 0,
    }
