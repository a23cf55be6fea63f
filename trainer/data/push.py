"""Copying a version of a dataset from one store into another: the same version, manifest and packs, byte for byte.

The order makes it safe: packs, then the manifest, then the version's name. Stopped anywhere, the same call continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.errors import DatasetError
from trainer.base.parallel import Stop, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.data.fetch import read_manifest
from trainer.data.publish import read_version, version_document, version_key
from trainer.stores.transfer import copy_object

if TYPE_CHECKING:
    from trainer.base.progress import Progress
    from trainer.data.declaration import Dataset
    from trainer.stores.contract import Store

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The result of copying a version."""

    dataset: Dataset
    sent: int
    """Bytes that the target did not have."""
    is_new: bool
    """Whether this call named the version in the target."""


def push_dataset(dataset: Dataset, *, source: Store, target: Store, progress: Progress = SILENT) -> Pushed:
    """Copy a version from `source` to `target`. Raises `DatasetError`, `ManifestError`, `StoreError` and its kinds."""
    for store in (target, source):
        require_same(dataset, store)
    packs = {pack.sha256: pack.size for pack in read_manifest(source, dataset).packs}

    def one(item: tuple[str, int], stop: Stop) -> int:
        stop.check()
        sent = patiently(lambda: copy_object(item[0], source=source, target=target, size=item[1]), stop)
        progress.advance(item[1])
        return sent

    progress.begin(dataset.title, sum(packs.values()))
    try:
        sent = sum(in_parallel(one, packs.items(), threads=_AT_ONCE))
    finally:
        progress.end()
    sent += copy_object(dataset.manifest, source=source, target=target)
    is_new = target.create(version_key(dataset.name, dataset.version), version_document(dataset))
    require_same(dataset, target)
    return Pushed(dataset=dataset, sent=sent, is_new=is_new)


def require_same(dataset: Dataset, store: Store) -> None:
    """Raise `DatasetError` if `store` has another content under this version."""
    there = read_version(store, dataset.name, dataset.version)
    if there is None or there == dataset.published:
        return
    said = f"{dataset.title} in {store.label} is another one"
    if there.content != dataset.content:
        said += f": content {there.content}, expected {dataset.content}"
    elif there.manifest != dataset.manifest:
        said += f": manifest {there.manifest}, expected {dataset.manifest}"
    else:
        fields = type(dataset).model_fields
        named = [name for name in fields if getattr(there, name) != getattr(dataset.published, name)]
        said += f": it differs in {', '.join(named)}"
    raise DatasetError(said, hint="a version is never replaced: publish the data there under the next version")
