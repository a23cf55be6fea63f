"""Export a cached dataset as a store in a folder, for recorded code that runs without network.

Every version of Reprise can read a store, while the layout of the cache may change. The export costs as much as a copy: 0.5 GB in 20,001
files took 11 s on two busy cores.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError
from trainer.base.safe_folder import Root
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from trainer.data.cache.version import CachedDataset
    from trainer.data.manifest_lines import Pack


def export_dataset(dataset: CachedDataset, manifest: bytes, *, into: Path) -> None:
    """Write the verified objects of `dataset` into the store in the folder `into`. Raises `DigestMismatchError`, `DiskFullError`.

    In a pack that also contains files of other datasets, their ranges stay empty, because no reader of this dataset needs them.
    """
    if digest_of_bytes(manifest) != dataset.dataset.manifest:
        raise DigestMismatchError(
            f"the manifest of {dataset.dataset.title} is damaged in the cache",
            hint=f"reprise data fetch {dataset.dataset.name}",
        )
    with disk_faults(into), Root.at(into, make=True) as store:
        with store.create(object_key(dataset.dataset.manifest), make=True) as file:
            file.write(manifest)
        with _Packs(store) as packs:
            for path in dataset.paths:
                body = memoryview(dataset.read(path))
                for segment in dataset.entry(path).segments:
                    packs.write(segment.pack, segment.offset, body[: segment.length])
                    body = body[segment.length :]


class _Packs:
    """A writer of packs that keeps the last pack open, since neighboring files are written one after the other."""

    def __init__(self, root: Root) -> None:
        self._root, self._open = root, ExitStack()
        self._pack: Pack | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, pack: Pack, at: int, body: memoryview) -> None:
        if self._file is None or pack != self._pack:
            self._open.close()
            self._pack, self._file = pack, self._open.enter_context(self._opened(object_key(pack.sha256)))
            self._file.truncate(pack.size)
        self._file.seek(at)
        self._file.write(body)

    def _opened(self, key: str) -> BinaryIO:
        if self._root.stat(key) is None:
            return self._root.create(key, make=True)
        return os.fdopen(self._root.handle(key, os.O_RDWR), "r+b")
