"""The files of a version that is not complete in the cache: their chunks are fetched when they are read, or earlier by `read_ahead`.

Each chunk is verified each time it is read from disk or from the store. Failed requests to the store are retried for `PATIENCE_S`.
A version can be pickled, which opens it again, and forked: a worker reads the chunks that the first process fetched ahead, and fetches the
others.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.suggestions import did_you_mean
from trainer.data.cache.chunk_folder import ChunkFolder
from trainer.data.chunks import RUN_BYTES, ChunkGroup, Chunks, download_run
from trainer.data.files import Files
from trainer.data.manifest_lines import Paths
from trainer.data.read_ahead import ReadAhead
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.data.cache.budget import Budget
    from trainer.data.cache.folder import Cache
    from trainer.data.cache.locks import Lease
    from trainer.data.declaration import Dataset
    from trainer.data.manifest_lines import ManifestFiles
    from trainer.stores.contract import Store

PARTIAL_BYTES: Final = 128 << 20
"""Maximum bytes of partly read chunks that a process keeps in memory; at least one chunk is kept."""

MOST: Final = 16
"""A group of chunks has at most 1/MOST of the cache's limit, because it is written and evicted as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSource:
    """The store of a version's chunks, and their cache; it can be pickled for other processes."""

    cache: Cache
    dataset: Dataset
    budget: Budget
    open_store: Callable[[], Store]


class StreamedDataset(Files):
    """A dataset's files, read-only. The cache holds some of their chunks; only verified bytes are returned."""

    is_streamed = True

    def __init__(
        self,
        source: StreamSource,
        listing: ManifestFiles,
        lease: Lease | None,
        *,
        patience: Patience | None = None,
        store: Store | None = None,
    ) -> None:
        """Open a version with its verified manifest `listing`; `store` is the store, if it is already open."""
        self.source, self.dataset, self.lease = source, source.dataset, lease
        self.chunks = Chunks(listing)
        self._patience, self._process = patience or Patience(), os.getpid()
        self.folder_of_chunks = ChunkFolder(source.budget, version_of(source))
        if (
            joined := source.budget.join()
        ) is not None:  # stays open, so that the process counts as a user of the cache
            weakref.finalize(self, os.close, joined)
        self._ahead: ReadAhead | None = None
        self._paths = Paths(listing)
        self._starts: tuple[int, ...] = ()
        self._store = None if store is None else (os.getpid(), store)
        self._partly_read: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[object, ...]:
        """Open the version again in another process."""
        return _reopen, (self.source, self._starts)

    @property
    def paths(self) -> Sequence[str]:
        """All relative paths."""
        return self._paths

    def size(self, path: str, /) -> int:
        """Return the size of a file."""
        return self.chunks.size(self._number(path))

    def read(self, path: str, /, start: int = 0, stop: int | None = None) -> memoryview:
        """Return the bytes from `start` to `stop`, or to the file's end, verified."""
        number = self._number(path)
        size = self.chunks.size(number)
        stop = size if stop is None else min(stop, size)
        pieces = []
        for identifier, first in self.chunks.within(number, start, stop):
            body = self._body(identifier, is_whole=stop - start == size)
            pieces.append(memoryview(body)[max(0, start - first) : stop - first])
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def view(self, path: str, /) -> memoryview:
        """Return a copy of a whole file, verified."""
        return self.read(path)

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        """Do nothing: `view` and `read` return verified bytes only."""

    def folder(self) -> Path:
        """Raise `DatasetError`, because a folder needs all files on disk."""
        raise DatasetError(
            f"{self.dataset.title} is needed as a folder, but is larger than the cache's limit of {self.source.budget.limit:,} bytes",
            hint="set REPRISE_CACHE_LIMIT to more than the dataset's size, or unset it",
        )

    def chunk_ids(self, path: str, start: int, stop: int) -> Iterator[int]:
        """Yield the identifiers of the chunks that contain the bytes from `start` to `stop` of a file."""
        return (identifier for identifier, _ in self.chunks.within(self._number(path), start, stop))

    def regroup(self, starts: Iterable[int]) -> None:
        """Group adjacent chunks that are fetched, kept and evicted together: a group begins at each chunk in `starts`.

        Without `starts`, each chunk is a group. The threads that fetch ahead are ended.
        """
        self.close()
        self._starts = tuple(starts)
        self.chunks.regroup(self._starts, most=min(RUN_BYTES, self.source.budget.limit // MOST))

    def download(self, run: Sequence[ChunkGroup], patience: Patience) -> list[bytes]:
        """Return the verified bytes of adjacent groups from the store; failed requests are retried."""
        return patience.call(lambda: download_run(self.store, run, title=self.dataset.title))

    @property
    def patience(self) -> Patience:
        """The retries of failed requests; in a forked worker they print nothing."""
        return self._patience if self._process == os.getpid() else Patience(check=self._patience.check)

    def read_ahead(self, batches: Sequence[Sequence[int]], later: Sequence[int] = ()) -> ReadAhead:
        """Start to fetch the chunks of `batches` in this order, and then those of `later`; an earlier read-ahead is ended."""
        self.close()
        self._ahead = ReadAhead(self, batches, later)
        return self._ahead

    def stop(self) -> None:
        """Stop fetching ahead, without waiting for a store that does not respond."""
        if self._ahead is not None and self._process == os.getpid():
            self._ahead.stop()

    def close(self) -> None:
        """End the threads that fetch ahead, and wait for them, so that the process can be forked."""
        if self._ahead is not None and self._process == os.getpid():
            self._ahead.close()

    @property
    def store(self) -> Store:
        """The store, which each process opens for itself."""
        with self._lock:
            if self._store is None or self._store[0] != os.getpid():
                self._store = (os.getpid(), self.source.open_store())
            return self._store[1]

    def _body(self, identifier: int, *, is_whole: bool) -> bytes:
        with self._lock:
            if identifier in self._partly_read:
                self._partly_read.move_to_end(identifier)
                return self._partly_read[identifier]
        group = self.chunks.group_of(identifier)
        body = self.folder_of_chunks.read(group, identifier)
        if body is None:
            chunk, _ = group.find(identifier)
            (body,) = self.download([ChunkGroup.of(chunk)], self.patience)
            if len(group.chunks) == 1 and self.folder_of_chunks.reserve([group]):
                self.folder_of_chunks.write(group, body)
        if not is_whole:
            self._keep_in_memory(identifier, body)
        return body

    def _keep_in_memory(self, identifier: int, body: bytes) -> None:
        with self._lock:
            self._partly_read[identifier] = body
            while len(self._partly_read) > 1 and sum(map(len, self._partly_read.values())) > PARTIAL_BYTES:
                self._partly_read.popitem(last=False)

    def _number(self, path: str) -> int:
        number = self.chunks.number(path)
        if number is None:
            hint = did_you_mean(path, self._paths[:1000])
            raise DatasetError(f"{self.dataset.title} has no file {path!r}", hint=hint)
        return number


def version_of(source: StreamSource) -> str:
    """Return the path of the version's folder, relative to the cache."""
    return source.cache.place(source.dataset).relative_to(source.cache.root).as_posix()


def _reopen(source: StreamSource, starts: Sequence[int]) -> StreamedDataset:
    lease = source.cache.lease(source.dataset)
    listing = source.cache.manifest(source.dataset)
    if listing is None:
        message = f"the manifest of {source.dataset.title} was removed from the cache {source.cache.root}"
        raise DigestMismatchError(message, hint="run the same command again")
    reopened = StreamedDataset(source, listing, lease)
    reopened.regroup(starts)
    return reopened
