"""Atomic files: a file is complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.flushed import record_flushes
from trainer.base.atomic_file import disk_faults, sync_folder, write_whole
from trainer.base.errors import MachineError
from trainer.base.safe_folder import Root


def descriptors_of(folder: Path) -> list[Path]:
    """Return the open descriptors of this process for a folder; other code may close its own at any time."""
    return [each for each in Path("/proc/self/fd").iterdir() if os.path.realpath(each) == str(folder)]


def test_a_file_is_written_with_its_mode_and_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    write_whole(tmp_path / "a", b"new", mode=0o600)
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "a").stat().st_mode & 0o777) == (b"new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_os_errors_become_sentences(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"a/b could not be written: No such file"):
        write_whole(tmp_path / "a/b", b"")
    with (
        pytest.raises(MachineError, match=r"x could not be removed: No such file"),
        disk_faults(tmp_path / "x", done="removed"),
    ):
        (tmp_path / "x").unlink()


def test_a_folder_is_flushed_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = record_flushes(monkeypatch, tmp_path)
    with Root.at(tmp_path):
        assert len(descriptors_of(tmp_path)) == 1
        sync_folder(tmp_path)
        assert found == [("folder", 0)]
        assert len(descriptors_of(tmp_path)) == 1
