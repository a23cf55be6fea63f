"""The regular files of a folder are published, and all other entries are reported."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import fill
from trainer.base.errors import DatasetError
from trainer.data.files import SourceFolder, mode_of
from trainer.data.packing import Slice

if TYPE_CHECKING:
    from pathlib import Path

LITTER = {
    "a/1.png": b"1",
    "a/._1.png": b"",
    "a/.DS_Store": b"",
    "a/.ipynb_checkpoints/1-checkpoint.png": b"",
    "__MACOSX/a/1.png": b"",
    "Thumbs.db": b"",
    ".git/config": b"",
    ".keep": b"",
    "notes~": b"",
}


def test_hidden_and_system_files_are_omitted_with_a_reason(tmp_path: Path) -> None:
    listed = SourceFolder(root=fill(tmp_path, LITTER)).list_files()
    assert listed.paths == ["a/1.png"]
    found = {each.reason: (each.count, each.example) for each in listed.left_out}
    assert found == {"hidden": (3, ".git/"), "of the system": (5, "Thumbs.db")}


def test_hidden_files_are_included_on_request_and_system_files_never(tmp_path: Path) -> None:
    listed = SourceFolder(root=fill(tmp_path, LITTER), has_hidden=True).list_files()
    assert listed.paths == [".git/config", ".keep", "a/1.png", "notes~"]
    assert [each.reason for each in listed.left_out] == ["of the system"]


def test_folders_without_files_are_reported(tmp_path: Path) -> None:
    fill(tmp_path, {"a/1.png": b"1", "c/.DS_Store": b"", "d/e/1.png": b"1"})
    (tmp_path / "b").mkdir()
    (tmp_path / "f/g").mkdir(parents=True)
    listed = SourceFolder(root=tmp_path).list_files()
    assert listed.paths == ["a/1.png", "d/e/1.png"]
    found = {each.reason: (each.count, each.example) for each in listed.left_out}
    assert found == {"empty": (3, "b/"), "of the system": (1, "c/.DS_Store")}


@pytest.mark.parametrize("kind", ["named pipe", "socket", "device"])
def test_a_special_file_is_an_error_and_does_not_block(tmp_path: Path, kind: str) -> None:
    fill(tmp_path, {"a": b"a"})
    if kind == "named pipe":
        os.mkfifo(tmp_path / "p")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(tmp_path / "p"))
    else:
        (tmp_path / "p").symlink_to("/dev/zero")
    with pytest.raises(DatasetError, match=f"p is a {kind}; expected a regular file"):
        SourceFolder(root=tmp_path).paths()


def test_a_pipe_that_replaces_a_file_does_not_block(tmp_path: Path) -> None:
    source = SourceFolder(root=fill(tmp_path, {"a": b"a"}))
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DatasetError, match="a is a named pipe"):
        source.hash_file("a")
    with pytest.raises(DatasetError, match="a is a named pipe"):
        source.read(Slice(path="a", start=0, length=1, sha256=""))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "it is a link to nowhere, which does not exist"),
        ("link", "Too many levels of symbolic links"),
        (".", "is a link to a folder"),
        ("..", "is a link to a folder"),
    ],
)
def test_a_broken_link_is_an_error(tmp_path: Path, target: str, message: str) -> None:
    (fill(tmp_path, {"a": b"a"}) / "link").symlink_to(target)
    with pytest.raises(DatasetError, match=message):
        SourceFolder(root=tmp_path).paths()


def test_links_out_of_the_folder_are_followed_and_listed(tmp_path: Path) -> None:
    fill(tmp_path, {"in/a": b"a", "out": b"b"})
    (tmp_path / "in/inside").symlink_to("a")
    (tmp_path / "in/outside").symlink_to("../out")
    listed = SourceFolder(root=tmp_path / "in").list_files()
    assert (listed.paths, listed.linked) == (["a", "inside", "outside"], ("outside",))


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty/deeper").mkdir(parents=True)
    with pytest.raises(DatasetError, match="empty has no files"):
        SourceFolder(root=tmp_path / "empty").paths()
    fill(tmp_path, {"empty/.hidden": b"", "empty/.DS_Store": b""})
    with pytest.raises(DatasetError, match="has no files; left out: 1 ") as caught:
        SourceFolder(root=tmp_path / "empty").paths()
    assert caught.value.hint == "--include-hidden publishes hidden files"


def test_a_path_that_is_not_a_folder_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, {"a.txt": b"a", "a b.txt": b"a", "crops/b": b"b"})
    with pytest.raises(DatasetError, match=r"a\.txt is not a folder; expected a folder of files") as caught:
        SourceFolder(root=tmp_path / "a.txt").paths()
    assert "mkdir NEW" in str(caught.value.hint)
    with pytest.raises(DatasetError) as caught:
        SourceFolder(root=tmp_path / "a b.txt").paths()
    assert str(caught.value.hint).endswith(f"mv '{tmp_path / 'a b.txt'}' NEW/")
    with pytest.raises(DatasetError, match=r"the folder .*crop does not exist") as caught:
        SourceFolder(root=tmp_path / "crop").paths()
    assert caught.value.hint == "did you mean crops?"
    with pytest.raises(DatasetError, match=r"the folder .*a_b\.txt does not exist") as caught:
        SourceFolder(root=tmp_path / "a_b.txt").paths()
    assert caught.value.hint == f"list the names: ls {tmp_path}"
    with pytest.raises(DatasetError, match=r"the folder or file .*a_b\.txt does not exist") as caught:
        mode_of(tmp_path / "a_b.txt")
    assert caught.value.hint == "did you mean a b.txt?"
    with pytest.raises(DatasetError, match="nothing does not exist") as caught:
        SourceFolder(root=tmp_path / "nothing").paths()
    assert caught.value.hint == f"list the names: ls {tmp_path}"
    for wrong in ("x" * 300, "a\0b", "a.txt/b"):
        with pytest.raises(DatasetError):
            SourceFolder(root=tmp_path / wrong).paths()
