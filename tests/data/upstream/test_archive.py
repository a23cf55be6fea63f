"""Archives from unknown origins."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DatasetError
from trainer.data.upstream.archive import is_archive, unpack

if TYPE_CHECKING:
    from pathlib import Path


def make_zip(path: Path, entries: dict[str, bytes], *, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, *entries: tuple[str, bytes, bytes, str], mode: str = "w:gz") -> Path:
    """Write a tar archive with entries (name, data, type, link target)."""
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, data, kind, target in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, target
            file.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["a.zip", "A.TGZ", "a.tar", "a.tar.xz", "a.tar.bz2"])
def test_files_are_unpacked_and_files_of_systems_left_out(tmp_path: Path, name: str) -> None:
    files = {"a/1.txt": b"one", "b.txt": b"", "__MACOSX/a/._1.txt": b"x", "a/.DS_Store": b"x"}
    if name.endswith(".zip"):
        make_zip(tmp_path / name, files)
    else:
        kind = {"A.TGZ": "gz", "a.tar.xz": "xz", "a.tar.bz2": "bz2"}.get(name, "")
        entries = [(f"./{path}", data, tarfile.REGTYPE, "") for path, data in files.items()]
        make_tar(tmp_path / name, ("./a", b"", tarfile.DIRTYPE, ""), *entries, mode=f"w:{kind}")
    assert is_archive(name)
    assert unpack(tmp_path / name, tmp_path / "out") == 2
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.txt")
    }
    assert found == {"a/1.txt": b"one", "b.txt": b""}
    assert not list((tmp_path / "out").rglob("*DS_Store"))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "a\\..\\evil", "a/\x1b[2J", ".", "C:\\x"])
def test_an_entry_that_leaves_the_folder_is_an_error_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    for path in (
        make_zip(tmp_path / "a.zip", {name: b"x"}),
        make_tar(tmp_path / "a.tgz", (name, b"x", tarfile.REGTYPE, "")),
    ):
        folder = tmp_path / "in" / path.name
        with pytest.raises(DatasetError, match="entry"):
            unpack(path, folder)
        assert [*folder.iterdir()] == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.tgz", "a.zip", "in"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_errors(tmp_path: Path, kind: bytes) -> None:
    path = make_tar(tmp_path / "a.tgz", ("link", b"", kind, "/etc/passwd"))
    with pytest.raises(DatasetError, match="expected a regular file"):
        unpack(path, tmp_path / "out")


def test_a_link_in_a_zip_is_an_error(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DatasetError, match="a link or a device"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "A"), ("a/ä", "a/a\u0308")])
def test_entries_that_are_one_file_elsewhere_are_an_error(tmp_path: Path, names: tuple[str, str]) -> None:
    path = make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x"))
    with pytest.raises(DatasetError, match="repeated"):
        unpack(path, tmp_path / "out")


def test_an_archive_larger_than_the_free_space_is_an_error_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = shutil.disk_usage(tmp_path)._replace(free=(64 << 20) + (2 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: space)
    bomb = make_zip(tmp_path / "bomb.zip", {"a": bytes(1 << 20), "b": bytes(3 << 20)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DatasetError, match=r"does not fit on the disk: 'b' needs 3,145,728 bytes, 1,048,576 are free"):
        unpack(bomb, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) == 1 << 20


@pytest.mark.parametrize("cut", [1, 10, 60, -30, -1])
@pytest.mark.parametrize("suffix", ["zip", "tgz", "tar.xz"])
def test_a_damaged_archive_is_an_error(tmp_path: Path, suffix: str, cut: int) -> None:
    data = bytes(range(256)) * 40
    whole = (
        make_zip(tmp_path / "a.zip", {"a": data})
        if suffix == "zip"
        else make_tar(
            tmp_path / f"a.{suffix}", ("a", data, tarfile.REGTYPE, ""), mode="w:gz" if suffix == "tgz" else "w:xz"
        )
    )
    whole.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(DatasetError, match="damaged"):
        unpack(whole, tmp_path / "out")


def test_an_archive_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="contains no files"):
        unpack(make_zip(tmp_path / "a.zip", {".DS_Store": b"x"}), tmp_path / "out")
