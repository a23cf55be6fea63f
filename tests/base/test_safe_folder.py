"""Access below a root: every method uses descriptors, follows no link, and names the obstacle."""

from __future__ import annotations

import os
import resource
import socket
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.flushed import record_flushes
from trainer.base import no_follow
from trainer.base.errors import DiskFullError, DocumentError, NotWritableError, RepriseError, UnsafePathError
from trainer.base.safe_folder import Root, run_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user, which root alone can")
OTHER = 4321


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """Return an open root beside another folder whose content must not change."""
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "outside" / "file").write_bytes(b"precious")
    (tmp_path / "outside" / "file").chmod(0o600)
    (tmp_path / "root").chmod(0o755)
    with Root.at(tmp_path / "root") as opened:
        yield opened


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return the content of a folder: modes, owners, numbers of links, bytes."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        about = path.lstat()
        body = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path)] = (about.st_mode, about.st_uid, about.st_nlink, body)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


VERBS: dict[str, Callable[[Root, str], object]] = {
    "open": lambda root, path: root.open(path).close(),
    "read": lambda root, path: root.read(path),
    "append": lambda root, path: root.append(path).close(),
    "write in place": lambda root, path: os.close(root.handle(path, os.O_RDWR)),
    "chmod": lambda root, path: root.chmod(path, 0o777),
    "chown": lambda root, path: root.chown(path, OTHER, OTHER),
    "link": lambda root, path: root.link(path, "second", to=root),
}
"""Operations on an existing file."""
INSIDE: dict[str, Callable[[Root, str], object]] = VERBS | {
    "create": lambda root, path: root.create(path).close(),
    "write_whole": lambda root, path: root.write_whole(path, b"x"),
    "mkdir": lambda root, path: root.mkdir(path),
    "make": lambda root, path: root.below(path, make=True).close(),
    "below": lambda root, path: root.below(path).close(),
    "rename to": lambda root, path: root.rename("in", path),
    "rename from": lambda root, path: root.rename(path, "in/moved"),
    "unlink": lambda root, path: root.unlink(path),
    "rmdir": lambda root, path: root.rmdir(path),
    "remove_tree": lambda root, path: root.remove_tree(path),
    "stat": lambda root, path: root.stat(path),
    "give": lambda root, path: root.give(path),
}
"""Operations on a path through a folder."""


@pytest.mark.parametrize("verb", INSIDE.values(), ids=INSIDE)
def test_a_folder_that_is_a_link_is_not_entered(root: Root, verb: Callable[[Root, str], object]) -> None:
    outside = root.path.parent / "outside"
    (root.path / "link").symlink_to(outside)
    before = state(outside)
    with pytest.raises(UnsafePathError, match=r"link is a symbolic link to '.*outside', of uid .*; expected a folder"):
        verb(root, "link/file")
    assert state(outside) == before


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("target", ["../outside/file", "../outside", "nowhere", "link"])
def test_a_file_that_is_a_link_is_not_followed(root: Root, verb: Callable[[Root, str], object], target: str) -> None:
    outside = root.path.parent / "outside"
    (root.path / "link").symlink_to(target)
    before = state(outside)
    with pytest.raises(UnsafePathError, match=r"link is a symbolic link to .*; expected a file") as caught:
        verb(root, "link")
    assert caught.value.hint == f"it was not changed; to remove it: rm {root.path}/link"
    assert state(outside) == before
    assert not (root.path / "nowhere").exists()
    assert not (root.path / "second").exists()


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize(
    ("kind", "message"), [("fifo", "a named pipe"), ("socket", "a socket"), ("device", "a device")]
)
def test_a_special_file_is_named_and_does_not_block(
    root: Root, verb: Callable[[Root, str], object], kind: str, message: str
) -> None:
    path = root.path / "thing"
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            bound.bind(str(path))
        elif os.getuid() == 0:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        else:
            pytest.skip("needs root, to make a device")
        with pytest.raises(UnsafePathError, match=f"thing is {message}, of uid"):
            verb(root, "thing")


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_named(root: Root) -> None:
    (root.path / "file").touch()
    with pytest.raises(UnsafePathError, match=r"in is a folder, of uid .*; expected a file"):
        root.read("in")
    with pytest.raises(UnsafePathError, match=r"file is a file, of uid .*; expected a folder"):
        root.below("file")


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../outside/file", "in/../../outside/file", "/etc/passwd", "in//x", "a\0b"]
)
@pytest.mark.parametrize("verb", INSIDE.values(), ids=INSIDE)
def test_a_path_that_leaves_the_folder_is_rejected(root: Root, verb: Callable[[Root, str], object], path: str) -> None:
    with pytest.raises(UnsafePathError, match="is not a path below"):
        verb(root, path)


def test_links_are_removed_and_replaced_and_never_their_targets(root: Root) -> None:
    outside = root.path.parent / "outside"
    before = state(outside)
    for name, verb in (("a", root.unlink), ("b", root.remove_tree)):
        (root.path / name).symlink_to(outside)
        verb(name)
    (root.path / "c").symlink_to(outside / "file")
    root.write_whole("c", b"new")
    assert (names(root.path), root.read("c")) == (["c", "in"], b"new")
    assert state(outside) == before


def test_a_tree_is_removed_with_read_only_folders_and_without_targets_of_links(root: Root) -> None:
    outside = root.path.parent / "outside"
    before = state(outside)
    with root.below("in/deep", make=True) as deep:
        deep.create("file").close()
    (root.path / "in/deep/link").symlink_to(outside)
    (root.path / "in/deep/hard").hardlink_to(outside / "file")
    (root.path / "in/deep").chmod(0o555)
    root.remove_tree("in")
    assert names(root.path) == []
    assert state(outside) == before


def test_a_tree_with_several_folders_in_each_is_removed_and_no_file_stays_open(root: Root) -> None:
    for path in ("t/a/x/1", "t/a/x/2", "t/a/y", "t/b/x/1", "t/b/y/2", "t/c"):
        root.below(path, make=True).close()
    for path in ("t/a/file", "t/a/x/file", "t/a/x/1/file", "t/b/y/2/file", "t/file"):
        root.create(path).close()
    before = len(names(Path("/proc/self/fd")))
    root.remove_tree("t")
    assert (names(root.path), len(names(Path("/proc/self/fd")))) == (["in"], before)


def test_a_file_is_flushed_before_it_is_renamed(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    found = record_flushes(monkeypatch, root.path)
    root.write_whole("in/file", b"12345")
    root.flush()
    assert found == [("file", 5), ("folder", 0), ("folder", 0)]


def test_modes_are_the_requested_ones_under_the_umask(root: Root) -> None:
    before = os.umask(0)
    try:
        root.create("created").close()
        root.mkdir("folder")
        root.write_whole("written", b"", mode=0o640)
        with root.whole("masked", mode=None):
            pass
        root.chmod("in", 0o711)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE((root.path / path).stat().st_mode) for path in names(root.path)}
    assert modes == {"created": 0o666, "folder": 0o777, "in": 0o711, "masked": 0o666, "written": 0o640}


@needs_root
def test_a_folder_is_chowned_by_its_descriptor(root: Root) -> None:
    os.chown(root.path, OTHER, OTHER)
    root.give("in")
    assert (root.path / "in").stat().st_uid == OTHER
    with Root.at(root.path) as again, again.below("in", make=True) as inner:
        inner.create("file").close()
        inner.give("file")
    assert (root.path / "in/file").stat().st_uid == OTHER


@needs_root
def test_an_existing_folder_is_accepted(root: Root) -> None:
    root.mkdir("in/there")
    os.chown(root.path / "in", OTHER, OTHER)
    root.below("in/there", make=True).close()


def test_a_file_that_vanishes_while_opened_is_reported(root: Root) -> None:
    error = no_follow._unsafe(root.fileno(), "gone", root.path / "gone", expected="a file")
    assert error.message.endswith("/gone was changed while it was opened")


def test_a_tree_of_any_depth_is_removed_or_reported(root: Root) -> None:
    """The folders are nested more deeply than Python's recursion limit and the limit of open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    nest(root, sys.getrecursionlimit() + 200)
    with pytest.raises(OSError, match="Too many open files"), limited(files=200):
        root.remove_tree("d")
    with limited(files=min(before[1], 4000)):
        root.remove_tree("d")
    assert root.names() == ["in"]


def nest(root: Root, depth: int) -> None:
    here = root.as_root()
    for _ in range(depth):
        inner = here.below("d", make=True)
        here.close()
        here = inner
    here.close()


@contextmanager
def limited(*, files: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_hard_linked_file_is_neither_written_nor_chowned(root: Root) -> None:
    outside = root.path.parent / "outside"
    (root.path / "log").hardlink_to(outside / "file")
    before = state(outside)
    for verb in ("append", "write in place", "chmod", "chown"):
        opened = len(names(Path("/proc/self/fd")))
        with pytest.raises(UnsafePathError, match="log has 2 hard links"):
            VERBS[verb](root, "log")
        assert len(names(Path("/proc/self/fd"))) == opened
    assert state(outside) == before
    assert root.read("log") == b"precious"


@needs_root
@pytest.mark.parametrize("verb", ["create", "write_whole", "mkdir", "make", "rename to", "unlink", "remove_tree"])
def test_a_folder_of_an_untrusted_user_is_not_written(root: Root, verb: str) -> None:
    (root.path / "in/file").touch()
    os.chown(root.path / "in", OTHER, OTHER)
    with pytest.raises((PermissionError, NotWritableError), match=f"it belongs to uid {OTHER}; expected uid 0"):
        INSIDE[verb](root, "in/file" if verb in {"unlink", "remove_tree"} else "in/new")
    assert root.read("in/file") == b""


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(OTHER, 0o755), (0, 0o1777), (0, 0o775)])
def test_the_root_folders_owner_is_trusted_below_it_and_every_user_in_a_shared_folder(
    root: Root, owner: int, mode: int
) -> None:
    os.chown(root.path / "in", OTHER, OTHER)
    os.chown(root.path, owner, owner)
    root.path.chmod(mode)
    with Root.at(root.path) as again:
        again.write_whole("in/new", b"x")
    assert root.read("in/new") == b"x"


@needs_root
def test_the_owner_of_a_run_is_trusted_in_it(root: Root) -> None:
    os.chown(root.path / "in", OTHER, OTHER)
    with run_root(root.path / "in") as run:
        run.write_whole("new", b"x")
        run.give("new")
    assert (root.path / "in/new").stat().st_uid == OTHER


def test_a_run_that_is_a_link_is_rejected(root: Root) -> None:
    (root.path / "run").symlink_to(root.path.parent / "outside")
    with pytest.raises(UnsafePathError, match="run is a symbolic link"):
        run_root(root.path / "run")


def test_links_in_the_path_of_the_root_are_followed(root: Root) -> None:
    (root.path.parent / "link").symlink_to(root.path)
    with Root.at(root.path.parent / "link") as opened:
        opened.write_whole("file", b"x")
    assert root.read("file") == b"x"


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(root: Root) -> None:
    root.write_whole("file", b"old", mode=0o600)
    with suppress(ZeroDivisionError), root.whole("file") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (root.read("file"), names(root.path)) == (b"old", ["file", "in"])
    assert stat.S_IMODE((root.path / "file").stat().st_mode) == 0o600


def test_a_full_disk_has_its_own_error(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"no space left to write .*/in/file"):
        root.write_whole("in/file", b"x")
    assert names(root.path / "in") == []


def test_a_file_above_the_size_limit_is_not_read(root: Root) -> None:
    root.write_whole("file", b"12345")
    assert root.read("file", most=5) == b"12345"
    with pytest.raises(DocumentError, match="file has 5 bytes; expected at most 4"):
        root.read("file", most=4)


def test_an_os_error_names_the_whole_path(root: Root) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        root.read("in/nothing")
    assert caught.value.filename == f"{root.path}/in/nothing"
    assert root.stat("no/such/thing") is None


def test_a_walk_lists_links_and_does_not_follow_them(root: Root) -> None:
    (root.path / "in/link").symlink_to(root.path)
    (root.path / "in/a\nb").mkdir()
    (root.path / "in/a\nb/file").touch()
    assert [path for path, _ in root.walk()] == ["in", "in/a\nb", "in/link", "in/a\nb/file"]
    with root.below("in") as inner:
        assert inner.names() == ["link"]


def test_a_file_is_appended_to(root: Root) -> None:
    for line in (b"1", b"2"):
        with root.append("log") as file:
            file.write(line)
    assert root.read("log") == b"12"


def test_no_file_stays_open(root: Root) -> None:
    (root.path / "link").symlink_to("in")
    before = len(names(Path("/proc/self/fd")))
    for verb in INSIDE.values():
        for path in ("link/x", "link", "nothing/x", "in"):
            with suppress(OSError, RepriseError):
                verb(root, path)
    assert len(names(Path("/proc/self/fd"))) == before
