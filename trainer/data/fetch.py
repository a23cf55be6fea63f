"""Fetch a dataset into the cache: packs and parts in parallel, each verified before it gets its name.

A cached dataset is used without opening a store. An interrupted fetch resumes with the objects that it has; concurrent fetches are correct.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DiskFullError, ManifestError, ObjectMissingError
from trainer.base.parallel import Stop, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.base.spool import mapped, spool
from trainer.data.assemble import Assembly
from trainer.data.cache.folder import VersionObjects
from trainer.data.fetch_plan import LargeFile, SparsePack, WholePack, plan_fetch
from trainer.data.manifest import parse_manifest
from trainer.data.verify import is_right
from trainer.stores.contract import altered, object_key, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.base.progress import Progress
    from trainer.data.cache.folder import Cache
    from trainer.data.cache.lease import Lease
    from trainer.data.cache.objects import Incoming
    from trainer.data.cache.version import CachedDataset
    from trainer.data.declaration import Dataset
    from trainer.data.fetch_plan import Need
    from trainer.data.manifest_lines import Entry, Listing
    from trainer.stores.contract import Store


def fetch_dataset(
    dataset: Dataset, *, cache: Cache, open_store: Callable[[], Store], progress: Progress = SILENT
) -> CachedDataset:
    """Return the cached dataset with a lease, after fetching what the cache lacks.

    Raises `StoreError`, `ManifestError`, `DiskFullError`, `NotWritableError`. The same call resumes after any of them.
    """
    if cached := cache.find(dataset):
        return cached
    wait = f"another process is fetching {dataset.title}; waiting for it"
    lease = cache.lease(dataset)  # also keeps `data gc` from removing objects of an incomplete fetch
    try:
        with cache.fetch_lock(dataset, waiting=lambda: progress.note(wait)):
            if cached := cache.find(dataset):
                return cached
            fetch = _Fetch(store=open_store(), cache=cache, dataset=dataset, lease=lease, progress=progress)
            return fetch.all()
    except BaseException:
        if lease:
            lease.end()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    store: Store
    cache: Cache
    dataset: Dataset
    lease: Lease | None
    progress: Progress

    def all(self) -> CachedDataset:
        """Fetch missing objects, and mark the dataset as complete."""
        listing = read_manifest(self.store, self.dataset, folder=self.cache.root)
        needs = plan_fetch(listing)
        objects = _version_objects(self.dataset, needs)
        self.cache.begin(self.dataset, objects, listing.raw)
        is_cached = in_parallel(self._is_cached, needs)
        missing = [need for need, cached in zip(needs, is_cached, strict=True) if not cached]
        total = sum(need.bytes for need in missing)
        self.cache.require_space(self.dataset, total)
        self.progress.begin(self.dataset.title, total)
        try:
            with ExitStack() as opened:
                in_parallel(lambda piece, stop: piece(stop), self._pieces(missing, opened))
        finally:
            self.progress.end()
        for need in needs:
            self.cache.objects.clear(need.name)
        return self.cache.finish(self.dataset, objects, self.lease)

    def _is_cached(self, need: Need, stop: Stop) -> bool:
        """Return whether the cache has an object; in a suspect dataset, also whether its bytes are right."""
        stop.check()
        file = self.cache.objects.open(need.name, need.size)
        if file is None:
            return False
        with file:
            return not self.cache.is_suspect(self.dataset) or is_right(file, need)

    def _pieces(self, missing: list[Need], opened: ExitStack) -> Iterator[Callable[[Stop], None]]:
        for need in missing:
            match need:
                case LargeFile():
                    yield from _Large(fetch=self, need=need, opened=opened).pieces()
                case WholePack():
                    yield lambda stop, need=need: self._pack(need, stop)  # type: ignore[misc]
                case SparsePack():
                    yield lambda stop, need=need: self._sparse(need, stop)  # type: ignore[misc]

    def _pack(self, need: WholePack, stop: Stop) -> None:
        with self.incoming(need) as incoming:
            patiently(lambda: self._whole(need, incoming, stop), stop)
            incoming.settle(need.size)

    def _whole(self, need: WholePack, incoming: Incoming, stop: Stop) -> None:
        running, at = hashlib.sha256(), 0
        for block in self.store.read(object_key(need.pack.sha256), start=0, length=need.size):
            stop.check()
            part = memoryview(block)[: need.size - at]
            running.update(part)
            incoming.write(at, part)
            at += len(part)
            if at == need.size:
                break
        if at < need.size:
            raise whole("a pack", self.store.label)
        if (found := f"sha256:{running.hexdigest()}") != need.pack.sha256:
            raise altered(
                f"{self.dataset.title}: a pack", expected=need.pack.sha256, found=found, store=self.store.label
            )
        self.progress.advance(need.size)

    def _sparse(self, need: SparsePack, stop: Stop) -> None:
        with self.incoming(need) as incoming:
            for run in need.runs():
                patiently(lambda run=run: self._run(run, incoming, stop), stop)  # type: ignore[misc]
            incoming.settle(need.size)

    def _run(self, run: tuple[Entry, ...], incoming: Incoming, stop: Stop) -> None:
        """Fetch adjacent files in one request."""
        first = run[0].segments[0]
        length = sum(entry.size for entry in run)
        body = b"".join(self.store.read(object_key(first.pack.sha256), start=first.offset, length=length))
        stop.check()
        for entry in run:
            at = entry.segments[0].offset - first.offset
            found = digest_of_bytes(body[at : at + entry.size])
            if found != entry.sha256:
                raise altered(
                    f"{self.dataset.title}: {entry.path}", expected=entry.sha256, found=found, store=self.store.label
                )
        incoming.write(first.offset, body[:length])
        self.progress.advance(length)

    @contextmanager
    def incoming(self, need: Need) -> Iterator[Incoming]:
        """Start a new object of the cache. On failure only the parts of a large file are kept, for the next fetch."""
        incoming, keep = self.cache.objects.incoming(need.name), False
        try:
            yield incoming
        except DiskFullError:
            raise
        except BaseException:
            keep = isinstance(need, LargeFile)
            raise
        finally:
            incoming.leave() if keep else incoming.discard()


class _Large:
    """The work on one large file, in pieces that may run in parallel."""

    def __init__(self, *, fetch: _Fetch, need: LargeFile, opened: ExitStack) -> None:
        self._fetch, self._need, self._opened = fetch, need, opened

    def pieces(self) -> Iterator[Callable[[Stop], None]]:
        """Reuse the parts of an interrupted fetch, then yield a piece of work for each missing part."""
        self._incoming = self._opened.enter_context(self._fetch.incoming(self._need))
        self._assembly = Assembly(
            title=self._fetch.dataset.title,
            entry=self._need.entry,
            store=self._fetch.store,
            incoming=self._incoming,
            progress=self._fetch.progress,
        )
        objects = self._fetch.cache.objects
        objects.clear(self._need.name, but=self._incoming.temporary, read=self._assembly.salvage)
        missing = self._assembly.missing()
        for part in missing:
            yield lambda stop, part=part: self._part(part, stop)  # type: ignore[misc]
        if not missing:
            yield self._assembly.settle

    def _part(self, part: int, stop: Stop) -> None:
        if self._assembly.fetch(part, stop):
            self._assembly.settle(stop)


def read_manifest(store: Store, dataset: Dataset, *, folder: Path | None = None) -> Listing:
    """Return the manifest, verified by its digest and compared with the declaration; it is mapped from an unnamed file in `folder`."""
    try:
        with spool(folder) as file:
            found = _copy_manifest(store, dataset, into=file)
            raw = mapped(file)
    except ObjectMissingError as fault:
        hint = "publish it: reprise data publish; if it is a sample dataset: docker compose run --rm samples"
        raise ObjectMissingError(f"dataset {dataset.title} is not in store {store.label}", hint=hint) from fault
    if found != dataset.manifest:
        raise altered(f"manifest of {dataset.title}", expected=dataset.manifest, found=found, store=store.label)
    listing = parse_manifest(raw)
    head = listing.head
    if (head["content"], head["files"], head["bytes"]) != (dataset.content, dataset.files, dataset.bytes):
        expected = f"{dataset.files} files of content {dataset.content[:19]}.."
        found = f"{head['files']} of {head['content'][:19]}.."
        raise ManifestError(
            f"manifest of {dataset.title}: expected {expected}, found {found}", hint="publish the dataset again"
        )
    return listing


def _copy_manifest(store: Store, dataset: Dataset, *, into: BinaryIO) -> str:
    """Copy a manifest from the store and return its digest."""
    # A valid manifest is not longer; an endless body must not fill the disk.
    most = (1 << 20) + dataset.files * 8192 + dataset.bytes // 1024
    running, size = hashlib.sha256(), 0
    for block in store.read(object_key(dataset.manifest)):
        running.update(block)
        size += into.write(block)
        if size > most:
            message = f"manifest of {dataset.title} is longer than {most} bytes in {store.label}"
            raise ManifestError(message, hint="publish the dataset again")
    return f"sha256:{running.hexdigest()}"


def _version_objects(dataset: Dataset, needs: tuple[Need, ...]) -> VersionObjects:
    return VersionObjects(
        manifest=dataset.manifest,
        content=dataset.content,
        files=dataset.files,
        bytes=dataset.bytes,
        objects={need.name: need.size for need in needs},
        sparse={need.pack.sha256: need.name for need in needs if isinstance(need, SparsePack)},
    )
