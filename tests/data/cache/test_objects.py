"""Folders of the shared cache are created once, even if several processes create them concurrently."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from trainer.data.cache.objects import make_shared_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_in_use_is_not_replaced(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with make_shared_folder(tmp_path / "cache", f"objects/{number // 8}") as folder:
            (folder.path / str(number)).touch()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(400)))
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 400
    assert not list(tmp_path.rglob(".new-*"))


def test_a_partial_folder_of_another_process_is_reused(tmp_path: Path) -> None:
    (tmp_path / ".new-objects").mkdir(mode=0o700)
    tmp_path.chmod(0o777)
    make_shared_folder(tmp_path, "objects").close()
    assert stat.S_IMODE((tmp_path / "objects").stat().st_mode) == 0o777
    assert [path.name for path in tmp_path.iterdir()] == ["objects"]
