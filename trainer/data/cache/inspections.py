"""Inspections and overviews of datasets, kept beside the version in the cache."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from trainer.base.digest import digest_of_document
from trainer.base.errors import DocumentError, MachineError, UnsafePathError
from trainer.data.cache.folder import write_small_file
from trainer.data.cache.objects import own_name
from trainer.data.inspection import FORMAT, read_inspection
from trainer.data.overview import FORMAT as OVERVIEW_FORMAT
from trainer.data.overview import read_overview

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base.document import Document
    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset
    from trainer.data.inspection import Inspection
    from trainer.data.overview import Overview

D = TypeVar("D", bound="Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedDocument:
    """A document about a version, its declared reader and its splits, computed from every sample.

    It lies beside the version. If the cache is full or read-only, the next process reads the samples again.
    """

    cache: Cache
    dataset: Dataset
    name: str

    @property
    def path(self) -> Path:
        """The path of the document, whether it exists or not."""
        return self.cache.place(self.dataset) / self.name

    def _read(self, parse: Callable[..., D]) -> D | None:
        for name in (own_name(self.name), self.name):
            with suppress(OSError, DocumentError, UnsafePathError), self.cache.version(self.dataset) as place:
                return parse(place.read(name), where=str(place.path / name))
        return None

    def _write(self, document: Document) -> bool:
        try:
            with self.cache.version(self.dataset) as place:
                write_small_file(place, self.name, document.model_dump_json().encode())
        except (MachineError, OSError):
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedInspection(_CachedDocument):
    """The inspection of a version, so that only the first run on a machine reads every sample."""

    def read(self) -> Inspection | None:
        """Return the inspection; `None` if it is missing or invalid."""
        return self._read(read_inspection)

    def write(self, inspection: Inspection) -> bool:
        """Write the inspection; return whether it was written."""
        return self._write(inspection)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedOverview(_CachedDocument):
    """The overview of a version, so that it is computed once per machine."""

    def read(self) -> Overview | None:
        """Return the overview; `None` if it is missing or invalid."""
        return self._read(read_overview)

    def write(self, overview: Overview) -> bool:
        """Write the overview; return whether it was written."""
        return self._write(overview)


def cached_inspection(dataset: Dataset, cache: Cache) -> CachedInspection:
    """Return the inspection of a cached version; the file's name depends on the reader and the splits."""
    return CachedInspection(cache=cache, dataset=dataset, name=f"inspected-{_key(dataset, FORMAT)}.json")


def cached_overview(dataset: Dataset, cache: Cache) -> CachedOverview:
    """Return the overview of a cached version; the file's name depends on the reader, the source table and the splits."""
    name = f"overview-{_key(dataset, OVERVIEW_FORMAT, 'source_table')}.json"
    return CachedOverview(cache=cache, dataset=dataset, name=name)


def _key(dataset: Dataset, document: str, *further: str) -> str:
    described = dataset.model_dump(mode="json", include={"reader", "splits", *further})
    return digest_of_document({"format": document, **described}).removeprefix("sha256:")[:16]
