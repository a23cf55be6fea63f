"""The checkout, store and cache that every `reprise data` command works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.errors import DatasetError, UsageError
from trainer.cli.places import store_at
from trainer.data.declaration import Dataset, is_declared, load_dataset
from trainer.data.versions import read_version

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.folder import Cache
    from trainer.stores.contract import Store


_DIGITS = 9
"""Digits of a version number, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContext:
    """Where datasets are declared, stored and cached."""

    root: Path
    store: str
    cache: Cache

    def open(self) -> Store:
        """Open the store. Raises `UsageError` if no address is configured."""
        if not self.store:
            raise UsageError(
                "no store is configured",
                hint="give --store ADDRESS, or set REPRISE_STORE (scripts/setup writes it into .env)",
            )
        return store_at(self.store)

    def dataset(self, word: str, *, source: Store | None = None) -> Dataset:
        """Return the dataset `NAME` as the checkout declares it, or `NAME@VERSION` as a store names it: `source`, or else its own.

        A version in `source` need not be declared.
        """
        name, at, version = word.partition("@")
        declared = (
            load_dataset(name, root=self.root)
            if source is None or not at or is_declared(name, root=self.root)
            else None
        )
        if declared and (not at or version == str(declared.version)):
            return declared
        hint = f"{name} is declared as {declared.title}" if declared else "for example digits@1"
        if not (version.isascii() and version.isdecimal() and len(version) <= _DIGITS):
            raise UsageError(f"{word!r}: expected NAME or NAME@VERSION with a number", hint=hint)
        store = source or self.open()
        stored = read_version(store, name, int(version))
        if stored is None:
            if source is not None:
                hint = f"reprise data show {name} lists the versions; --from ADDRESS selects another store"
            raise DatasetError(f"{word} is not in store {store.label}", hint=hint)
        return stored
