"""An inspection in the cache, beside the version that was inspected: only the first run on a machine reads every sample.

Its name says which content, reader and splits it is of, and which kind of inspection. A cache that is full or read-only keeps none: the
next run inspects again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_document
from trainer.base.errors import DocumentError, MachineError, UnsafePathError
from trainer.data.cache.folder import write_beside
from trainer.data.cache.objects import own
from trainer.data.inspection import FORMAT, read_inspection

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset
    from trainer.data.inspection import Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptInspection:
    """The inspection of one version, read as it is declared now."""

    cache: Cache
    dataset: Dataset
    name: str

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        return self.cache.place(self.dataset) / self.name

    def read(self) -> Inspection | None:
        """Give the inspection; None if none is kept that can be read."""
        for name in (own(self.name), self.name):
            with suppress(OSError, DocumentError, UnsafePathError), self.cache.version(self.dataset) as place:
                return read_inspection(place.read(name), where=str(place.path / name))
        return None

    def write(self, seen: Inspection) -> bool:
        """Keep it; tell whether the cache let that happen."""
        try:
            with self.cache.version(self.dataset) as place:
                write_beside(place, self.name, seen.model_dump_json().encode())
        except (MachineError, OSError):
            return False
        return True


def kept_inspection(dataset: Dataset, cache: Cache) -> KeptInspection:
    """The inspection of a cached version: its name changes with the reader and the splits."""
    described = dataset.model_dump(mode="json", include={"reader", "splits"})
    name = digest_of_document({"format": FORMAT, **described}).removeprefix("sha256:")[:16]
    return KeptInspection(cache=cache, dataset=dataset, name=f"inspected-{name}.json")
