"""Lending a dataset: a store in a folder that holds this dataset and nothing else, for recorded code that is given no other.

Knows that what every version of Reprise reads is a store: how a cache is laid out may change with each. Refuses to hand on a byte that
was not verified. It costs what a copy of the dataset does: 0.5 GB in 20,001 files took 11 s where two cores had six times their work.
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


def lend_dataset(dataset: CachedDataset, manifest: bytes, *, into: Path) -> None:
    """Write the objects of `dataset` into the store in the folder `into`. Raises `DigestMismatchError`, `DiskFullError`.

    Of a pack that holds other datasets' files too, the other ranges are left empty: nobody asks for them.
    """
    if digest_of_bytes(manifest) != dataset.dataset.manifest:
        raise DigestMismatchError(
            f"the manifest of {dataset.dataset.title} is damaged in the cache", hint="fetch it again"
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
    """Packs that are being written, the last one open: files that lie side by side come one after the other."""

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
