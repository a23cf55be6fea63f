"""Fetching a dataset into the cache: by range, several at once, every file verified before it has a name.

Knows how files lie in packs and what to ask a store for. Refuses to know which store, which disk, and who is watching.

With the dataset in the cache no store is opened. A fetch that was killed goes on with the files it had; several at
once are correct.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from trainer.actions.parallel import Stop, in_parallel, patiently
from trainer.actions.progress import SILENT
from trainer.digest import digest_of_bytes
from trainer.errors import MachineError, ManifestError, ObjectMissingError
from trainer.manifest import parse_manifest
from trainer.store.contract import altered, object_key, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.actions.progress import Progress
    from trainer.dataset import Dataset
    from trainer.manifest import Entry, Manifest
    from trainer.store.cache import Cache, Staging
    from trainer.store.contract import Store

RANGE_BYTES: Final = 8 << 20
"""About what one request brings: small datasets still keep all threads busy, large ones make few requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One content, and every path that has it."""

    entry: Entry
    paths: tuple[str, ...]


def fetch_dataset(
    dataset: Dataset, *, cache: Cache, open_store: Callable[[], Store], progress: Progress = SILENT
) -> Path:
    """The folder of the dataset's files, read-only; fetched if the cache has not all of it.

    Raises `StoreError` and its kinds, `ManifestError`, `DiskFullError`, `NotWritableError`. After each, the same call again goes on.
    """
    if folder := cache.find(dataset):
        return folder
    store = open_store()
    manifest, raw = read_manifest(store, dataset)
    try:
        staging = cache.staging(dataset)
        _fill(_Fetch(store=store, staging=staging, progress=progress), manifest)
        return staging.finish(raw)
    except MachineError:
        if folder := cache.find(
            dataset
        ):  # another process of this user was first, and what we wrote to is now what we wanted
            return folder
        raise


def read_manifest(store: Store, dataset: Dataset) -> tuple[Manifest, bytes]:
    """The dataset's manifest, verified by its digest and against its declaration; parsed, and as it is stored."""
    most = (
        (1 << 20) + dataset.files * 8192 + dataset.bytes // 1024
    )  # no manifest of such a dataset is longer: do not read on for ever
    data = bytearray()
    try:
        for block in store.read(object_key(dataset.manifest)):
            data += block
            if len(data) > most:
                raise ManifestError(
                    f"manifest of {dataset.title} is longer than {most} bytes", hint="publish the dataset again"
                )
    except ObjectMissingError as fault:
        hint = "was it published to another store? publish it there: reprise data publish"
        raise ObjectMissingError(f"dataset {dataset.title} is not in store {store.address}", hint=hint) from fault
    raw = bytes(data)
    if (found := digest_of_bytes(raw)) != dataset.manifest:
        raise altered(f"manifest of {dataset.title}", expected=dataset.manifest, found=found)
    manifest = parse_manifest(raw)
    if (manifest.content, len(manifest.entries), manifest.bytes) != (dataset.content, dataset.files, dataset.bytes):
        sentence = (
            f"{dataset.title}: its manifest holds {len(manifest.entries)} files of content {manifest.content[:19]}.."
        )
        raise ManifestError(
            f"{sentence}; declared are {dataset.files} of {dataset.content[:19]}..", hint="publish the dataset again"
        )
    return manifest, raw


def _fill(fetch: _Fetch, manifest: Manifest) -> None:
    wanted = _missing(manifest, fetch.staging)
    total = sum(each.entry.size for each in wanted)
    fetch.staging.require(total)
    fetch.progress.begin(fetch.staging.dataset.title, total)
    try:
        in_parallel(fetch.one, pieces(wanted))
    finally:
        fetch.progress.end()


def pieces(wanted: Iterable[Wanted]) -> Iterator[tuple[Wanted, ...]]:
    """Cut what is wanted into pieces of work: files that lie side by side in a pack, or one large file."""
    alone = [each for each in wanted if len(each.entry.segments) != 1]
    yield from ((each,) for each in alone)
    together = sorted((each for each in wanted if len(each.entry.segments) == 1), key=_where)
    for _, group in groupby(together, key=lambda each: each.entry.segments[0].pack):
        yield from _runs(tuple(group))


def _runs(group: Sequence[Wanted]) -> Iterator[tuple[Wanted, ...]]:
    run: list[Wanted] = []
    for each in group:
        here = each.entry.segments[0]
        if run and (
            _end(run[-1]) != here.offset or here.offset + here.length - run[0].entry.segments[0].offset > RANGE_BYTES
        ):
            yield tuple(run)
            run = []
        run.append(each)
    if run:
        yield tuple(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    store: Store
    staging: Staging
    progress: Progress

    def one(self, piece: tuple[Wanted, ...], stop: Stop) -> None:
        """Fetch a piece, what of it is not there yet, again if need be."""
        left = list(piece)
        patiently(lambda: self._try(left, stop), stop)

    def _try(self, left: list[Wanted], stop: Stop) -> None:
        stream = _Bytes(self._ranges(tuple(left)), stop)
        while left:
            wanted = left[0]
            with self.staging.incoming(wanted.entry) as file:
                for block in stream.take(wanted.entry.size):
                    file.write(block)
                file.settle(wanted.paths)
            self.progress.advance(wanted.entry.size)
            del left[0]

    def _ranges(self, piece: tuple[Wanted, ...]) -> Iterator[bytes]:
        if len(piece) == 1:
            for part in piece[0].entry.segments:
                yield from self.store.read(object_key(part.pack.sha256), start=part.offset, length=part.length)
            return
        first = piece[0].entry.segments[0]
        yield from self.store.read(
            object_key(first.pack.sha256), start=first.offset, length=_end(piece[-1]) - first.offset
        )


class _Bytes:
    """A stream of blocks, taken by count."""

    def __init__(self, blocks: Iterator[bytes], stop: Stop) -> None:
        self._blocks, self._stop, self._held = blocks, stop, memoryview(b"")

    def take(self, size: int) -> Iterator[bytes]:
        while size:
            self._stop.check()
            if not self._held:
                self._held = memoryview(next(self._blocks, b""))
                if not self._held:
                    raise whole("a pack")
            part, self._held = self._held[:size], self._held[size:]
            size -= len(part)
            yield bytes(part)


def _missing(manifest: Manifest, staging: Staging) -> tuple[Wanted, ...]:
    here = in_parallel(lambda entry, _: staging.has(entry), manifest.entries)
    by_content: dict[str, list[Entry]] = {}
    for entry, present in zip(manifest.entries, here, strict=True):
        if not present:
            by_content.setdefault(entry.sha256, []).append(entry)
    return tuple(Wanted(entry=same[0], paths=tuple(each.path for each in same)) for same in by_content.values())


def _where(wanted: Wanted) -> tuple[str, int]:
    segment = wanted.entry.segments[0]
    return segment.pack.sha256, segment.offset


def _end(wanted: Wanted) -> int:
    return wanted.entry.segments[0].offset + wanted.entry.segments[0].length
