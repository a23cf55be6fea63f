"""Each method below a root: missing files, modes and owners."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.base.test_safe_folder import OTHER, names, needs_root, root
from trainer.base.safe_folder import PARTIAL, Root, run_root

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["root"]


def test_a_root_folder_is_created_with_its_parents_on_request(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Root.at(tmp_path / "a/b")
    assert names(tmp_path) == []
    for _ in range(2):
        Root.at(tmp_path / "a/b", make=True).close()
    assert names(tmp_path / "a") == ["b"]


@pytest.mark.parametrize(
    "verb",
    [lambda root: root.below("new"), lambda root: root.read("new/file"), lambda root: root.create("new/file")],
    ids=["below", "read", "create"],
)
def test_a_folder_is_not_created_by_default(root: Root, verb: Callable[[Root], object]) -> None:
    with pytest.raises(FileNotFoundError):
        verb(root)
    assert names(root.path) == ["in"]


def test_a_new_file_is_created_with_its_parents_on_request(root: Root) -> None:
    for path in ("top", "a/b/file", "a/b/second"):
        root.create(path, make=True).close()
    assert (names(root.path), names(root.path / "a/b")) == (["a", "in", "top"], ["file", "second"])


def test_a_path_is_a_file_or_a_folder_or_neither(root: Root) -> None:
    root.create("file").close()
    for name in ("file", "in", "nothing"):
        (root.path / f"to-{name}").symlink_to(name)
    paths = ("file", "in", "nothing", "to-file", "to-in", "to-nothing", "nothing/x")
    assert [path for path in paths if root.has_file(path)] == ["file"]
    assert [path for path in paths if root.has_folder(path)] == ["in"]
    assert [path for path in paths if (found := root.stat(path)) and stat.S_ISLNK(found.st_mode)] == [*paths[3:6]]


def test_a_missing_name_is_an_error_unless_allowed(root: Root) -> None:
    root.unlink("nothing", missing_ok=True)
    with pytest.raises(FileNotFoundError):
        root.unlink("nothing")
    root.remove_tree("nothing")


def test_a_folder_that_vanishes_during_a_walk_is_skipped(root: Root) -> None:
    root.create("in/file").close()
    walk = root.walk()
    assert next(walk)[0] == "in"
    root.remove_tree("in")
    assert list(walk) == []


def test_a_closed_root_has_no_descriptor_and_can_be_closed_again(root: Root) -> None:
    with root.below("in") as inner:
        assert inner.fileno() > 2
    assert inner.fileno() == -1
    inner.close()


def test_a_run_can_be_opened_by_a_relative_path(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.path / "in")
    for path in (Path(), Path("../in")):
        with run_root(path) as run:
            run.create("file").close()
            run.unlink("file")


def test_a_file_gets_the_requested_mode(root: Root) -> None:
    root.create("file").close()
    root.chmod("file", 0o640)
    assert stat.S_IMODE((root.path / "file").stat().st_mode) == 0o640


def test_default_modes_let_others_read(root: Root) -> None:
    before = os.umask(0)
    try:
        root.append("appended").close()
        root.write_whole("written", b"")
        with root.whole("whole"):
            pass
    finally:
        os.umask(before)
    modes = {path: oct(stat.S_IMODE((root.path / path).stat().st_mode)) for path in names(root.path) if path != "in"}
    assert modes == {"appended": "0o666", "whole": "0o644", "written": "0o644"}


@needs_root
@pytest.mark.parametrize(
    "verb",
    [
        lambda root: root.rename("in/file", "file"),
        lambda root: root.rename("mine", "in/mine"),
        lambda root: root.link("mine", "in/mine", to=root),
        lambda root: root.rmdir("in/folder"),
    ],
    ids=["rename from", "rename to", "link to", "rmdir"],
)
def test_names_in_a_folder_of_an_untrusted_user_are_not_changed(root: Root, verb: Callable[[Root], object]) -> None:
    for name in ("mine", "in/file"):
        root.create(name).close()
    root.mkdir("in/folder")
    os.chown(root.path / "in", OTHER, OTHER)
    with pytest.raises(PermissionError, match=f"it belongs to uid {OTHER}; expected uid 0"):
        verb(root)
    assert (names(root.path), names(root.path / "in")) == (["in", "mine"], ["file", "folder"])


def test_names_are_changed_added_and_removed(root: Root) -> None:
    root.write_whole("file", b"x")
    root.rename("file", "in/moved")
    with root.below("in") as inner:
        inner.rename("moved", "back", to=root)
        root.link("back", "second", to=inner)
        assert (names(root.path), inner.names(), inner.read("second")) == (["back", "in"], ["second"], b"x")
        inner.unlink("second")
    root.rmdir("in")
    assert names(root.path) == ["back"]


def test_a_partial_file_is_readable_by_this_user_only(root: Root) -> None:
    with root.whole("file", mode=0o644) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
        assert [name for name in names(root.path) if name.endswith(PARTIAL)]
        assert not root.has_file("file")


def test_a_walk_leaves_no_folder_open(root: Root) -> None:
    root.below("in/deep", make=True).close()
    before = len(names(Path("/proc/self/fd")))
    assert [path for path, _ in root.walk()] == ["in", "in/deep"]
    assert len(names(Path("/proc/self/fd"))) == before


@needs_root
@pytest.mark.parametrize(
    "verb",
    [lambda root: root.append("log").close(), lambda root: os.close(root.handle("log", os.O_RDWR))],
    ids=["append", "write in place"],
)
def test_a_file_of_an_untrusted_user_is_not_written(root: Root, verb: Callable[[Root], object]) -> None:
    root.create("log").close()
    os.chown(root.path / "log", OTHER, OTHER)
    with pytest.raises(PermissionError, match=f"it belongs to uid {OTHER}; expected uid 0"):
        verb(root)


def test_a_folder_without_a_listing_is_an_error_and_leaves_no_descriptor(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.below("a/inner", make=True).close()
    before = len(names(Path("/proc/self/fd")))

    def broken(_: object) -> list[str]:
        raise OSError(5, "broken")

    monkeypatch.setattr(os, "listdir", broken)
    with pytest.raises(OSError, match="broken"):
        root.remove_tree("a")
    monkeypatch.undo()
    assert len(names(Path("/proc/self/fd"))) == before
