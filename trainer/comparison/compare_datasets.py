"""List the files of a dataset that differ between two runs, if both manifests are available.

A manifest is read from the local cache, by the content digest in the record, or from a store, by its own digest. A manifest with another
content digest is ignored. No data is fetched.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DocumentError, RepriseError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.declaration import NAME
from trainer.data.manifest import content_digest, parse_manifest
from trainer.stores.contract import object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.data.manifest_lines import Entry, Listing
    from trainer.runs.record import Record
    from trainer.stores.contract import Store

LARGEST: Final = 256 << 20
"""The largest manifest in bytes: two million files."""


def dataset_diff(name: str, a: Record, b: Record, *, cache: Path, store: Store | None) -> list[str] | None:
    """Return a line per file that was added, removed or changed from `a` to `b`; `None` if a manifest is not available."""
    one, other = (_manifest(name, record, cache, store) for record in (a, b))
    if one is None or other is None:
        return None
    return list(_lines({entry.path: entry for entry in one}, {entry.path: entry for entry in other}))


def _lines(before: dict[str, Entry], after: dict[str, Entry]) -> Iterator[str]:
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            file = old or new
            yield f"{'-' if new is None else '+'} {path}  {file.size if file else 0} bytes"
        elif old.sha256 != new.sha256:
            yield f"~ {path}  {old.size} -> {new.size} bytes  {old.sha256[:19]} -> {new.sha256[:19]}"


def _manifest(name: str, record: Record, cache: Path, store: Store | None) -> Listing | None:
    """Return the manifest of the run's dataset; `None` if it is not available or the name is no valid dataset name."""
    if not re.fullmatch(NAME, name):
        return None
    content = record.ingredients.datasets[name].content
    for text in _texts(name, content, record.circumstances.manifests.get(name), cache=cache, store=store):
        try:
            manifest = parse_manifest(text)
        except RepriseError:
            continue
        if content_digest(manifest) == content:
            return manifest
    return None


def _texts(name: str, content: str, digest: str | None, *, cache: Path, store: Store | None) -> Iterator[bytes]:
    with suppress(OSError, DocumentError, UnsafePathError), Root.at(cache) as root:  # not in this cache
        yield root.read(f"versions/{name}/{content.removeprefix('sha256:')}/manifest.jsonl", most=LARGEST)
    if store is not None and digest is not None:
        try:
            yield read_small(store, object_key(digest), largest=LARGEST)
        except RepriseError:
            return  # without the store, only digests can be compared
