"""Streamed datasets for tests: a published folder, a cache with a limit, and the disk usage of the cache."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.data.conftest import fill
from trainer.data.cache.budget import Budget
from trainer.data.cache.folder import Cache
from trainer.data.cache.streamed import StreamedDataset, StreamSource
from trainer.data.declaration import Draft
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.stream import open_dataset
from trainer.stores.memory import MemoryStore
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Dataset


class CountingStore(MemoryStore):
    """A store that counts requests and sent bytes, and can fail or send wrong bytes."""

    sent = 0
    requests = 0
    fault: Exception | None = None
    damaged = False

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Send a range, or zeros if `damaged` is set; raise `fault` if it is set."""
        if self.fault is not None:
            raise self.fault
        self.requests += 1
        for block in super().read(key, start=start, length=length):
            self.sent += len(block)
            yield bytes(len(block)) if self.damaged else block


@dataclass(kw_only=True)
class Streams:
    """A published dataset, which can be streamed into a cache."""

    folder: Path
    store: CountingStore
    dataset: Dataset
    files: dict[str, bytes]
    said: list[str] = field(default_factory=list)

    def source(self, limit: int) -> StreamSource:
        """Return the source of the dataset's chunks, with the cache `cache/` and its limit."""
        cache = Cache(root=self.folder / "cache")
        budget = Budget(root=cache.root, limit=limit)
        return StreamSource(cache=cache, dataset=self.dataset, budget=budget, open_store=self.open_store)

    def open_store(self) -> CountingStore:
        """Return the store."""
        return self.store

    def open(self, limit: int, **patience: Any) -> StreamedDataset:
        """Open the dataset, which does not fit into the limit."""
        opened = open_dataset(self.source(limit), patience=Patience(say=self.said.append, **patience))
        assert isinstance(opened, StreamedDataset)
        return opened

    @property
    def usage(self) -> int:
        """The bytes that the cache takes on disk, as `du` counts them."""
        return disk_usage(self.folder / "cache")


def published(folder: Path, files: dict[str, bytes], draft: Draft | None = None) -> Streams:
    """Publish files to an in-memory store."""
    store, source = CountingStore(), SourceFolder(root=fill(folder / "source", files))
    dataset = publish_dataset(draft or Draft(name="many"), source=source, store=store).dataset
    store.sent = store.requests = 0
    return Streams(folder=folder, store=store, dataset=dataset, files=files)


def disk_usage(folder: Path) -> int:
    """Return the bytes that a folder takes on disk, as `du` counts them."""
    sizes = {}  # by inode: a file that gets its name by a hard link has two names for a moment
    for above, _, names in os.walk(folder):
        for path in (Path(above), *(Path(above, name) for name in names)):
            with suppress(OSError):
                status = path.lstat()
                sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


@contextmanager
def watched(folder: Path, *, pattern: str = "") -> Iterator[list[int]]:
    """Yield a list; its last value is the largest disk usage so far, in bytes, of `folder` or of one folder in it matching `pattern`."""
    over, most = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.01):
            most.append(max([most[-1], *map(disk_usage, folder.glob(pattern) if pattern else [folder])]))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
