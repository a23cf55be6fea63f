"""The directory store: behavior beyond the contract."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DiskFullError, StoreError, StoreMissingError
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.stores.contract import Store

KEY = "objects/sha256/ab/cd"


@pytest.mark.parametrize(
    "use",
    [
        lambda store: list(store.read(KEY)),
        lambda store: store.size(KEY),
        lambda store: store.create(KEY, b""),
        lambda store: store.write(KEY, b"", sha256=digest_of_bytes(b"")),
        lambda store: list(store.keys("")),
    ],
)
def test_a_missing_folder_is_not_created(tmp_path: Path, use: Callable[[Store], object]) -> None:
    """An unmounted share must not become a new, empty store."""
    with pytest.raises(StoreMissingError, match="does not exist") as caught:
        use(open_store(str(tmp_path / "not mounted")))
    assert not (tmp_path / "not mounted").exists()
    assert str(caught.value.hint).endswith(f"mkdir -p '{tmp_path / 'not mounted'}'")


class FullDiskFile(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().read(size)


def test_a_full_disk_leaves_neither_object_nor_temporary_file(tmp_path: Path) -> None:
    body = bytes(3 << 20)
    with pytest.raises(DiskFullError, match="no space left"):
        open_store(str(tmp_path)).write(KEY, FullDiskFile(body), sha256=digest_of_bytes(body))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_temporary_files_of_a_killed_writer_are_ignored(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    store.create(KEY, b"body")
    (tmp_path / "objects/sha256/ab/.new-0123").write_bytes(b"bo")
    assert list(store.keys("")) == [KEY]


def test_a_link_with_a_lost_response_counts_as_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS, a link can be created and its response be lost; the retry then fails because the link exists."""
    real = os.link

    def answered_late(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", answered_late)
    assert open_store(str(tmp_path)).create(KEY, b"body")


def test_a_disk_without_hard_links_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard links, nothing decides between two concurrent writers."""

    def unsupported(*_: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", unsupported)
    with pytest.raises(StoreError, match="hard links"):
        open_store(str(tmp_path)).create(KEY, b"body")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
