"""Fetching a dataset into the cache: by range, several at once, every file verified before it has a name.

Knows how files lie in packs and what to ask a store for. Refuses to know which store, which disk, and who is watching.

With the dataset in the cache no store is opened. A fetch that was killed goes on with the files it had; several at
once are correct.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING, Final

from trainer.actions.parallel import Stop, in_parallel, patiently
from trainer.actions.progress import SILENT
from trainer.digest import digest_of_bytes
from trainer.errors import AlteredError, MachineError, ManifestError, ObjectMissingError
from trainer.manifest import parse_manifest
from trainer.store.contract import altered, object_key, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.actions.progress import Progress
    from trainer.dataset import Dataset
    from trainer.manifest import Entry, Manifest, Segment
    from trainer.store.cache import Cache, Incoming, Mark, Staging
    from trainer.store.contract import Store

RANGE_BYTES: Final = 8 << 20
"""About what one request brings: small datasets still keep all threads busy, large ones make few requests."""
OTHERS: Final = 32
"""How many processes may take over this one's folder, each at its start, before something else must be wrong."""


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
    wait = f"another process is fetching {dataset.title}; waiting for it"
    with cache.turn(dataset, waiting=lambda: progress.note(wait)):
        if folder := cache.find(dataset):
            return folder
        return _Fetch(store=store, cache=cache, progress=progress).all(dataset)


def read_manifest(store: Store, dataset: Dataset) -> tuple[Manifest, bytes]:
    """The dataset's manifest, verified by its digest and against its declaration; parsed, and as it is stored."""
    # No manifest of such a dataset is longer: a body without end must not fill the memory.
    most = (1 << 20) + dataset.files * 8192 + dataset.bytes // 1024
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
    cache: Cache
    progress: Progress

    def all(self, dataset: Dataset) -> Path:
        """Fetch what is missing of a dataset, and let it appear."""
        manifest, raw = read_manifest(self.store, dataset)
        for attempt in count():
            try:
                return self._into(self.cache.staging(dataset, adopt=attempt == 0), manifest, raw)
            except MachineError as fault:
                if folder := self.cache.find(dataset):
                    return folder
                if attempt == OTHERS or not isinstance(fault.__cause__, FileNotFoundError):
                    raise
                # Where locks lie, another process took this one for dead and its folder over: begin with a new one.
        raise AssertionError("count ends never")

    def _into(self, staging: Staging, manifest: Manifest, raw: bytes) -> Path:
        wanted = _missing(manifest, staging)
        total = sum(each.entry.size for each in wanted)
        staging.require(total)
        self.progress.begin(staging.dataset.title, total)
        try:
            in_parallel(_Pieces(fetch=self, staging=staging).one, pieces(wanted))
            folder = staging.finish(raw)
        finally:
            self.progress.end()
        self.cache.tidy(staging.dataset)
        return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pieces:
    fetch: _Fetch
    staging: Staging

    def one(self, piece: tuple[Wanted, ...], stop: Stop) -> None:
        """Fetch a piece, what of it is not there yet, again if need be."""
        if len(piece[0].entry.segments) > 1:
            patiently(lambda: self._large(piece[0], stop), stop, on=(AlteredError,))  # its parts are patient themselves
            return
        left = list(piece)
        patiently(lambda: self._small(left, stop), stop)

    def _small(self, left: list[Wanted], stop: Stop) -> None:
        """Fetch files that lie side by side, in one request."""
        if not left[0].entry.size:
            blocks: Iterator[bytes] = iter(())
        else:
            first = left[0].entry.segments[0]
            blocks = self.fetch.store.read(
                object_key(first.pack.sha256), start=first.offset, length=_end(left[-1]) - first.offset
            )
        stream = _Bytes(blocks, stop)
        while left:
            with self.staging.incoming(left[0].entry) as file:
                stream.pour(left[0].entry.size, file)
                file.settle(left[0].paths)
            self.fetch.progress.advance(left[0].entry.size)
            del left[0]

    def _large(self, wanted: Wanted, stop: Stop) -> None:
        """Fetch a file that is cut into parts, one after the other; a part whose connection broke is asked for again."""
        with self.staging.incoming(wanted.entry) as file:
            segments = wanted.entry.segments
            salvaged = file.salvage()
            self.fetch.progress.advance(sum(segment.length for segment in segments[:salvaged]))
            for segment in segments[salvaged:]:
                mark = file.mark()
                patiently(lambda segment=segment, mark=mark: self._part(segment, file, mark, stop), stop)  # type: ignore[misc]
                self.fetch.progress.advance(segment.length)
            try:
                file.settle(wanted.paths)
            except AlteredError:
                self.fetch.progress.advance(-wanted.entry.size)
                raise

    def _part(self, segment: Segment, file: Incoming, mark: Mark, stop: Stop) -> None:
        file.rewind(mark)
        blocks = self.fetch.store.read(object_key(segment.pack.sha256), start=segment.offset, length=segment.length)
        _Bytes(blocks, stop).pour(segment.length, file)


class _Bytes:
    """A stream of blocks, taken by count."""

    def __init__(self, blocks: Iterator[bytes], stop: Stop) -> None:
        self._blocks, self._stop, self._held = blocks, stop, memoryview(b"")

    def pour(self, size: int, file: Incoming) -> None:
        """Write the next `size` bytes into a file."""
        while size:
            self._stop.check()
            self._held = self._held or memoryview(next(self._blocks, b""))
            if not self._held:
                raise whole("a pack")
            part, self._held = self._held[:size], self._held[size:]
            size -= len(part)
            file.write(part)


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
