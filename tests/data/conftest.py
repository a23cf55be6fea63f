"""A small dataset in an in-memory store, and a cache into which it can be fetched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.declaration import Dataset

FILES = {
    "a.txt": b"first",
    "empty": b"",
    "images/0001.png": bytes(range(256)) * 40,
    "images/0002.png": bytes(range(255, -1, -1)) * 30,
    "images/twin.png": bytes(range(256)) * 40,
    "ä/ö ü.txt": "Größe".encode(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A dataset, its store, its source folder and its cache."""

    store: MemoryStore
    dataset: Dataset
    source: SourceFolder
    cache: Cache


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files to a folder, and return the folder."""
    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def objects(cache: Cache) -> list[Path]:
    """Return the cache's complete objects."""
    return sorted(path for path in (cache.root / "objects").glob("*/*") if not path.name.startswith("."))


def leftovers(cache: Cache) -> list[Path]:
    """Return the cache's temporary files."""
    return sorted(path for path in cache.root.rglob(".*") if path.is_file())


def damage(path: Path, at: int = 0) -> None:
    """Invert the byte at `at`, without changing the length, mode or times of the file."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """Return a dataset of six files in a store, and an empty cache."""
    store, source = MemoryStore(), SourceFolder(root=fill(tmp_path / "source", FILES))
    dataset = publish_dataset(Draft(name="small"), source=source, store=store).dataset
    return Published(store=store, dataset=dataset, source=source, cache=Cache(root=tmp_path / "cache"))
