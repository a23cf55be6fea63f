"""Inspections of datasets, kept beside the version in the cache."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_document
from trainer.base.errors import DocumentError, MachineError, UnsafePathError
from trainer.data.cache.folder import write_beside
from trainer.data.cache.objects import own_name
from trainer.data.inspection import FORMAT, read_inspection

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset
    from trainer.data.inspection import Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedInspection:
    """The inspection of one version with its declared reader and splits, so that only the first run on a machine reads every sample.

    It lies beside the version. If the cache is full or read-only, the next run inspects again.
    """

    cache: Cache
    dataset: Dataset
    name: str

    @property
    def path(self) -> Path:
        """The path of the inspection, whether it exists or not."""
        return self.cache.place(self.dataset) / self.name

    def read(self) -> Inspection | None:
        """Return the inspection; `None` if it is missing or invalid."""
        for name in (own_name(self.name), self.name):
            with suppress(OSError, DocumentError, UnsafePathError), self.cache.version(self.dataset) as place:
                return read_inspection(place.read(name), where=str(place.path / name))
        return None

    def write(self, inspection: Inspection) -> bool:
        """Write the inspection; return whether the cache is writable."""
        try:
            with self.cache.version(self.dataset) as place:
                write_beside(place, self.name, inspection.model_dump_json().encode())
        except (MachineError, OSError):
            return False
        return True


def cached_inspection(dataset: Dataset, cache: Cache) -> CachedInspection:
    """Return the inspection of a cached version; its name changes with the reader and the splits."""
    described = dataset.model_dump(mode="json", include={"reader", "splits"})
    name = digest_of_document({"format": FORMAT, **described}).removeprefix("sha256:")[:16]
    return CachedInspection(cache=cache, dataset=dataset, name=f"inspected-{name}.json")
