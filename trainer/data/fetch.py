"""Fetch a dataset into the cache: packs and parts in parallel; or verify a cached dataset again.

Each object is verified before it gets its name. A cached dataset is used without opening a store. An interrupted fetch resumes with the
objects that the cache has; concurrent fetches are safe.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_blocks, digest_of_bytes
from trainer.base.errors import DatasetError, DigestMismatchError, DiskFullError, ManifestError, ObjectMissingError
from trainer.base.parallel import StopFlag, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.base.spool import mapped, spool
from trainer.data.cache.folder import VersionObjects
from trainer.data.cache.objects import Incoming
from trainer.data.downloads import LargeDownload, LargeFile, SparsePack, WholePack, download, plan_fetch
from trainer.data.manifest import parse_manifest
from trainer.data.manifest_lines import Segment
from trainer.stores.contract import altered, object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.base.progress import Progress
    from trainer.data.cache.folder import Cache
    from trainer.data.cache.locks import Lease
    from trainer.data.cache.version import CachedDataset
    from trainer.data.declaration import Dataset
    from trainer.data.downloads import Need
    from trainer.data.manifest_lines import ManifestEntry, ManifestFiles
    from trainer.stores.contract import Store

_FILES: Final = 256
"""Number of files that a thread verifies in one piece of work."""


def fetch_dataset(
    dataset: Dataset, *, cache: Cache, open_store: Callable[[], Store], progress: Progress = SILENT
) -> CachedDataset:
    """Return the cached dataset with a lease, after fetching the objects that the cache lacks.

    Raise `StoreError` if the store fails or its data is wrong, `ManifestError` if the manifest is invalid, and `MachineError` if the disk
    is full or the cache is not writable. After each of these errors, the same call resumes the fetch.
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
        """Fetch the missing objects, mark the dataset as complete, and return it."""
        listing = read_manifest(self.store, self.dataset, folder=self.cache.root)
        needs = plan_fetch(listing)
        objects = VersionObjects(
            manifest=self.dataset.manifest,
            content=self.dataset.content,
            files=self.dataset.files,
            bytes=self.dataset.bytes,
            objects={need.name: need.size for need in needs},
            sparse={need.pack.sha256: need.name for need in needs if isinstance(need, SparsePack)},
        )
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

    def _is_cached(self, need: Need, stop: StopFlag) -> bool:
        """Return whether the cache has an object and, if the dataset is suspect, whether the object's bytes are right."""
        stop.check()
        file = self.cache.objects.open(need.name, need.size)
        if file is None:
            return False
        with file:
            return not self.cache.is_suspect(self.dataset) or need.is_right(file)

    def _pieces(self, missing: list[Need], opened: ExitStack) -> Iterator[Callable[[StopFlag], None]]:
        """Yield pieces of work that may run in parallel: one for each pack, and one for each missing part of a large file."""
        for need in missing:
            match need:
                case LargeFile():
                    yield from self._parts(need, opened)
                case WholePack():
                    yield partial(self._fetch_pack, need, [partial(self._whole, need)])
                case SparsePack():
                    yield partial(self._fetch_pack, need, [partial(self._run, run) for run in need.runs()])

    def _parts(self, need: LargeFile, opened: ExitStack) -> list[Callable[[StopFlag], None]]:
        """Reuse the parts of an interrupted fetch, then return a piece of work for each missing part."""
        incoming = opened.enter_context(self._incoming(need))
        assembly = LargeDownload(
            title=self.dataset.title, entry=need.entry, store=self.store, incoming=incoming, progress=self.progress
        )
        self.cache.objects.clear(need.name, but=incoming.temporary, read=assembly.salvage)
        return assembly.pieces()

    def _fetch_pack(self, need: Need, requests: list[Callable[[Incoming, StopFlag], None]], stop: StopFlag) -> None:
        with self._incoming(need) as incoming:
            for request in requests:
                patiently(partial(request, incoming, stop), stop)
            incoming.settle(need.size)

    def _whole(self, need: WholePack, incoming: Incoming, stop: StopFlag) -> None:
        segment = Segment(pack=need.pack, offset=0, length=need.size)
        digest = digest_of_blocks(download(self.store, segment, incoming, at=0, stop=stop))
        self._require(need.pack.sha256, digest, "a pack")
        self.progress.advance(need.size)

    def _run(self, run: tuple[ManifestEntry, ...], incoming: Incoming, stop: StopFlag) -> None:
        """Fetch adjacent files in one request."""
        first = run[0].segments[0]
        length = sum(entry.size for entry in run)
        body = b"".join(self.store.read(object_key(first.pack.sha256), start=first.offset, length=length))
        stop.check()
        for entry in run:
            at = entry.segments[0].offset - first.offset
            self._require(entry.sha256, digest_of_bytes(body[at : at + entry.size]), entry.path)
        incoming.write(first.offset, body[:length])
        self.progress.advance(length)

    def _require(self, expected: str, digest: str, title: str) -> None:
        if digest != expected:
            raise altered(f"{self.dataset.title}: {title}", expected=expected, found=digest, store=self.store.label)

    @contextmanager
    def _incoming(self, need: Need) -> Iterator[Incoming]:
        """Start a new object of the cache. On failure, only a large file is kept, for the next fetch, unless the disk is full."""
        incoming, keep = Incoming(self.cache.objects, need.name), False
        try:
            yield incoming
        except DiskFullError:
            raise
        except BaseException:
            keep = isinstance(need, LargeFile)
            raise
        finally:
            incoming.leave() if keep else incoming.discard()


def read_manifest(store: Store, dataset: Dataset, *, folder: Path | None = None) -> ManifestFiles:
    """Read a manifest from the store into an unnamed file in `folder`, verify its digest, and compare it with the declaration.

    Raise `ObjectMissingError` if the store lacks it, `DigestMismatchError` or `ManifestError` if it is wrong.
    """
    try:
        with spool(folder) as file:
            file.writelines(manifest_blocks(store, dataset))
            listing = parse_manifest(mapped(file))
    except ObjectMissingError as fault:
        hint = f"publish it: {dataset.upload_command}; if it is a sample dataset: docker compose run --rm samples"
        raise ObjectMissingError(f"dataset {dataset.title} is not in store {store.label}", hint=hint) from fault
    head = listing.head
    if (head["content"], head["files"], head["bytes"]) != (dataset.content, dataset.files, dataset.bytes):
        expected = f"{dataset.files} files of content {dataset.content[:19]}.."
        message = f"expected {expected}, found {head['files']} of {head['content'][:19]}.."
        raise ManifestError(f"manifest of {dataset.title}: {message}", hint="publish the dataset again")
    return listing


def manifest_blocks(store: Store, dataset: Dataset) -> Iterator[bytes]:
    """Yield a manifest in blocks. Raise `ManifestError` if it is too long, `DigestMismatchError` at the end if its digest is wrong."""
    # A valid manifest is not longer than this; an endless body must not fill the disk.
    most = (1 << 20) + dataset.files * 8192 + dataset.bytes // 1024
    running, size = hashlib.sha256(), 0
    for block in store.read(object_key(dataset.manifest)):
        running.update(block)
        size += len(block)
        if size > most:
            message = f"manifest of {dataset.title} is longer than {most} bytes in {store.label}"
            raise ManifestError(message, hint="publish the dataset again")
        yield block
    if (digest := f"sha256:{running.hexdigest()}") != dataset.manifest:
        raise altered(f"manifest of {dataset.title}", expected=dataset.manifest, found=digest, store=store.label)


def verify_dataset(dataset: Dataset, *, cache: Cache, progress: Progress = SILENT) -> int:
    """Verify all files of a cached dataset, and return their number.

    Raise `DigestMismatchError` if a file is damaged, `DatasetError` if the dataset is not cached.
    """
    hint = f"replace damaged files: reprise data fetch {dataset.name}"
    cached = cache.find(dataset)
    if cached is None and cache.is_suspect(dataset):
        message = f"{dataset.title} is damaged in the cache {cache.root}: an earlier process read damaged bytes"
        raise DigestMismatchError(message, hint=hint)
    if cached is None:
        raise DatasetError(
            f"{dataset.title} is not in the cache {cache.root}", hint=f"reprise data fetch {dataset.name}"
        )
    progress.begin(dataset.title, dataset.bytes)

    def verify_some(first: int, stop: StopFlag) -> list[str]:
        damaged = []
        for path in cached.paths[first : first + _FILES]:
            stop.check()
            try:
                cached.require(path)
            except DigestMismatchError:
                damaged.append(path)
            progress.advance(cached.entry(path).size)
        return damaged

    try:
        damaged = [*chain.from_iterable(in_parallel(verify_some, range(0, len(cached.paths), _FILES)))]
    finally:
        progress.end()
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise DigestMismatchError(f"{dataset.title} is damaged in the cache: {damaged[0]!r}{more}", hint=hint)
    return len(cached.paths)
