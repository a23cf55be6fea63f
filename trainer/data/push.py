"""Copy a version of a dataset from one store to another: the same version, manifest and packs.

Packs are copied first, then the manifest, then the version's document, so an interrupted copy can be resumed.
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
class PushResult:
    """The result of copying a version."""

    dataset: Dataset
    sent: int
    """Bytes that were sent."""
    is_new: bool
    """Whether this call created the version in the target."""


def push_dataset(dataset: Dataset, *, source: Store, target: Store, progress: Progress = SILENT) -> PushResult:
    """Copy a version from `source` to `target`. Raises `DatasetError`, `ManifestError`, `StoreError`."""
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
    return PushResult(dataset=dataset, sent=sent, is_new=is_new)


def require_same(dataset: Dataset, store: Store) -> None:
    """Raise `DatasetError` if `store` has another content under this version."""
    stored = read_version(store, dataset.name, dataset.version)
    if stored is None or stored == dataset.published:
        return
    message = f"{dataset.title} in {store.label} is another version"
    if stored.content != dataset.content:
        message += f": content {stored.content}, expected {dataset.content}"
    elif stored.manifest != dataset.manifest:
        message += f": manifest {stored.manifest}, expected {dataset.manifest}"
    else:
        fields = type(dataset).model_fields
        different = [name for name in fields if getattr(stored, name) != getattr(dataset.published, name)]
        message += f": it differs in {', '.join(different)}"
    raise DatasetError(message, hint="publish the data there as the next version: a version is never replaced")
