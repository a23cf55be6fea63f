"""Source bundles as archives and as folders: limits and modes."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import MachineError, SourceError
from trainer.base.safe_folder import Root
from trainer.source.archive import SourceBundle, SourceFile, archive, bundle_digest, is_unpacked, read_archive, unpack
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20


def make_bundle(**files: bytes) -> SourceBundle:
    """Return a source bundle. Files whose names begin with `x` are executable, and `__` in a name stands for a slash."""
    source_files = tuple(
        SourceFile(path=name.replace("__", "/"), executable=name[0] == "x", sha256=digest_of_bytes(data), data=data)
        for name, data in files.items()
    )
    return SourceBundle(digest=bundle_digest(source_files), source=Source(how="baked"), files=source_files)


def zeros_archive(path: Path, *entries: tarfile.TarInfo) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return path


def make_entry(size: int, *, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo("a")
    member.size, member.mode = size, mode
    return member


@pytest.mark.parametrize("other", ["a", "a/b"])
def test_an_archive_with_two_entries_that_collide_is_rejected(tmp_path: Path, other: str) -> None:
    second = make_entry(1)
    second.name = other
    path = zeros_archive(tmp_path / "x", make_entry(1), second)
    with pytest.raises(SourceError, match="a is listed twice, or is both a file and a folder"):
        read_archive(path)


@pytest.mark.parametrize(("size", "is_read"), [(128 * MIB, True), (128 * MIB + 1, False)])
def test_an_archive_unpacks_to_at_most_128_mib(tmp_path: Path, size: int, *, is_read: bool) -> None:
    with gzip.open(tmp_path / "x", "wb", compresslevel=1) as zipped:
        for _ in range(size // MIB):
            zipped.write(bytes(MIB))
        zipped.write(bytes(size % MIB))
    if is_read:
        assert read_archive(tmp_path / "x").files == ()
        return
    with pytest.raises(SourceError, match=r"unpacks to more than 128\.0 MiB"):
        read_archive(tmp_path / "x")


def test_a_file_of_an_archive_has_at_most_64_mib(tmp_path: Path) -> None:
    assert len(read_archive(zeros_archive(tmp_path / "x", make_entry(64 * MIB))).files[0].data) == 64 * MIB
    with pytest.raises(SourceError, match=r"it is larger than 64\.0 MiB"):
        read_archive(zeros_archive(tmp_path / "x", make_entry(64 * MIB + 1)))


@pytest.mark.parametrize(("mode", "is_program"), [(0o100, True), (0o744, True), (0o644, False), (0o011, False)])
def test_a_file_is_executable_by_its_owners_bit(tmp_path: Path, mode: int, *, is_program: bool) -> None:
    assert read_archive(zeros_archive(tmp_path / "x", make_entry(1, mode=mode))).files[0].executable is is_program


def test_an_archive_holds_no_time_no_owner_and_two_modes() -> None:
    text = archive(make_bundle(x=b"1", a__b=b"2"))
    assert text[4:8] == bytes(4)
    with tarfile.open(fileobj=io.BytesIO(text)) as tar:
        members = [(each.name, each.mode, each.mtime, each.uid, each.gid, each.uname, each.gname) for each in tar]
    assert members == [("x", 0o755, 0, 0, 0, "", ""), ("a/b", 0o644, 0, 0, 0, "", "")]


def test_a_bundle_is_unpacked_into_an_empty_folder_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Root.at(tmp_path) as root:
            unpack(make_bundle(x=b"1", a__b__c=b"2", a__b__d=b"3"), root, "new")
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert found == {"x": 0o755, "c": 0o644, "d": 0o644}
    with pytest.raises(MachineError, match="File exists"), Root.at(tmp_path) as root:
        unpack(make_bundle(y=b"1"), root, "new")
    assert not (tmp_path / "new/y").exists()


def test_a_folder_with_exactly_the_bundles_files_is_unpacked(tmp_path: Path) -> None:
    bundle, new = make_bundle(x=b"1", a__b=b"2"), tmp_path / "new"

    def link() -> None:
        (new / "x").unlink()
        (new / "x").symlink_to("a/b")

    changes: dict[str, Callable[[], object]] = {
        "an empty folder": (new / "runs").mkdir,
        "content": lambda: (new / "x").write_bytes(b"9"),
        "size": lambda: (new / "x").write_bytes(b"11"),
        "mode": lambda: (new / "x").chmod(0o644),
        "further": lambda: (new / "a/c").write_bytes(b""),
        "missing": (new / "x").unlink,
        "link": link,
    }
    found = {}
    with Root.at(tmp_path) as root:
        assert not is_unpacked(bundle, root, "new")
        for name, change in changes.items():
            root.remove_tree("new")
            unpack(bundle, root, "new")
            change()
            found[name] = is_unpacked(bundle, root, "new")
    assert found == dict.fromkeys(changes, False) | {"an empty folder": True}
