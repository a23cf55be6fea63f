"""Fetch the chunks of a streamed dataset before they are read, in the known order of reads, and evict the farthest next use.

The order of samples is a function of seed and epoch, so that the next use of each chunk is known, to the end of the next epoch. To make
room for a chunk, the cached chunk with the farthest next use is evicted (Belady, 1966), and none that is used before the new one.
Reading ahead is bounded, because each chunk that is fetched early takes the room of another one.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.parallel import StoppedPieceError
from trainer.data.chunks import adjacent_runs
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.chunks import Chunk

Ids = np.ndarray[Any, np.dtype[np.int64]]
THREADS: Final = 8
AHEAD: Final = 256 << 20
"""Bytes that are fetched ahead of the reads; at most an eighth of the cache, because they take the room of later ones."""
NEVER: Final = 1 << 62
"""The position of the next use of a chunk that is not used again."""
_PLANNED: Final = 256
"""Chunks that are planned at once, of which adjacent ones are fetched together."""
_SCANNED: Final = 8192
_LOOK_S: Final = 0.2
_SLOW_S: Final = 10.0
"""Seconds of waiting for the store after which a line is printed, and a requested stop is raised: steps end before it otherwise."""


class Order:
    """The order in which chunks are read."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self._positions = np.argsort(ids, kind="stable")
        self._unique, starts = np.unique(ids[self._positions], return_index=True)
        self._starts = np.append(starts, len(ids))

    def next_use(self, chunk: int, now: int) -> int:
        """Return the first position from `now` at which a chunk is read, or `NEVER`."""
        at = int(np.searchsorted(self._unique, chunk))
        if at == len(self._unique) or self._unique[at] != chunk:
            return NEVER
        uses = self._positions[self._starts[at] : self._starts[at + 1]]
        place = int(np.searchsorted(uses, now))
        return int(uses[place]) if place < len(uses) else NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """Adjacent chunks to fetch, and the position of the first use of any."""

    run: tuple[Chunk, ...]
    position: int


class ReadAhead:
    """Threads of the first process that fetch ahead; they are idle before `begin` and after `pause`."""

    _now: int
    """The position of the first read that is not done."""
    _next: int
    """The position of the next chunk to plan."""
    _needed: int
    """One past the last position that is waited for."""
    _early_bytes: int
    """The size of the chunks that were planned and not read."""

    def __init__(self, files: StreamedDataset, *, ahead: int = AHEAD, threads: int = THREADS) -> None:
        self._files, self._folder = files, files.folder_of_chunks
        self._ahead_most = min(ahead, files.source.budget.limit // 8)
        self._threads = threads
        self._started, self._pass = False, 0
        self._changed = Condition()
        self._is_paused, self._is_closed, self._busy = True, False, 0
        self._fault: BaseException | None = None
        self._patience = self._new_patience()
        self._reset(Order(np.empty(0, dtype=np.int64)), [])

    def begin(self, batches: Sequence[Sequence[int]], later: Sequence[int] = ()) -> int:
        """Begin a pass that reads the chunks of each of `batches`, and then `later`; return its number."""
        self.pause()
        ends = np.cumsum([len(batch) for batch in batches]).tolist()
        flat = np.fromiter((each for batch in batches for each in batch), dtype=np.int64, count=ends[-1] if ends else 0)
        order = Order(np.concatenate([flat, np.asarray(later, dtype=np.int64)]))
        cached = {each: self._files.chunks.chunk(each) for each in self._files.chunks.named(self._folder.names())}
        with self._changed:
            self._reset(order, ends)
            for each, chunk in cached.items():
                self._add(each, chunk)
            self._pass += 1
            self._patience = self._new_patience()
            self._is_paused = False
            self._changed.notify_all()
        if not self._started:
            self._started = True
            for _ in range(self._threads):
                Thread(target=self._run, daemon=True).start()
        return self._pass

    def wait(self, number: int, batch: int) -> None:
        """Wait until the chunks of a batch of pass `number` are cached, or cannot be because there is no room.

        Raises what a fetch raised. If another pass has begun, nothing is waited for: the reader fetches what it needs.
        """
        began, is_said = monotonic(), False
        with self._changed:
            if number != self._pass:
                return
            end = self._ends[batch]
            self._needed = max(self._needed, end)
            self._changed.notify_all()
            while not self._is_ready(end):
                self._changed.wait(_LOOK_S)
                if monotonic() - began < _SLOW_S:
                    continue
                self._files.patience.check()
                if not is_said:
                    is_said = True
                    self._files.patience.say(f"waiting for {self._files.store.label}, which sends samples slowly")
            if self._fault is not None:
                raise self._fault

    def advance(self, number: int, batch: int) -> None:
        """Report that all batches of pass `number` before `batch` were read."""
        with self._changed:
            if number != self._pass:
                return
            end = self._ends[batch - 1] if batch else 0
            before, self._now = self._now, max(self._now, end)
            for each in self._order.ids[before : self._now].tolist():
                if each in self._cached:
                    self._push(each)
            while self._early and self._early[0][0] < self._now:
                self._early_bytes -= self._early.popleft()[1]
            self._changed.notify_all()

    def pause(self) -> None:
        """Stop fetching, and wait until no thread fetches: a process may be forked then."""
        with self._changed:
            self._is_paused = True
            self._queue.clear()
            self._patience.stop.set()
            self._changed.notify_all()
            while self._busy:
                self._changed.wait(_LOOK_S)
                self._files.patience.check()

    def close(self) -> None:
        """End the threads."""
        self.pause()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _new_patience(self) -> Patience:
        """Return the patience of the threads, which another pass ends; the first process prints its lines."""
        return Patience(say=self._files.patience.say, longest_s=self._files.patience.longest_s)

    def _reset(self, order: Order, ends: list[int]) -> None:
        self._order, self._ends = order, ends
        self._now = self._next = self._needed = 0
        self._cached: dict[int, Chunk] = {}
        self._far: list[tuple[int, int]] = []
        """A heap of the negated next use of each cached chunk; outdated items are dropped when they are met."""
        self._pending: dict[int, int] = {}
        """Planned chunks that are not cached yet, and the position of their use."""
        self._queue: deque[_Job] = deque()
        self._early: deque[tuple[int, int]] = deque()
        """Position and size of each of them."""
        self._early_bytes = 0

    def _is_ready(self, end: int) -> bool:
        if self._fault is not None or self._is_paused:
            return True
        return self._next >= end and not any(position < end for position in self._pending.values())

    def _run(self) -> None:
        while (job := self._take()) is not None:
            try:
                self._fetch(job)
            except StoppedPieceError:
                pass
            except BaseException as fault:  # noqa: BLE001 - raised where the chunks are waited for
                with self._changed:
                    self._fault = fault
            finally:
                with self._changed:
                    self._busy -= 1
                    for chunk in job.run:
                        self._pending.pop(chunk.id, None)
                    self._changed.notify_all()

    def _take(self) -> _Job | None:
        with self._changed:
            while True:
                if self._is_closed:
                    return None
                if not self._is_paused and self._fault is None and (self._queue or self._plan()):
                    self._busy += 1
                    return self._queue.popleft()
                self._changed.wait()

    def _plan(self) -> bool:
        """Queue the next missing chunks; return whether there are any now."""
        found: dict[int, int] = {}
        chunks: dict[int, Chunk] = {}
        size, ids = 0, self._order.ids
        last = min(len(ids), self._next + _SCANNED)
        while self._next < last and len(found) < _PLANNED:
            if self._next >= self._needed and self._early_bytes + size >= self._ahead_most:
                break
            each = int(ids[self._next])
            chunk = self._missing(each)
            if chunk is not None and each not in found:
                found[each], chunks[each] = self._next, chunk
                size += chunk.size
                self._early.append((self._next, chunk.size))
            self._next += 1
        self._early_bytes += size
        self._pending |= found
        jobs = [_Job(run=run, position=min(found[each.id] for each in run)) for run in adjacent_runs(chunks.values())]
        self._queue.extend(sorted(jobs, key=lambda job: job.position))
        self._changed.notify_all()
        return bool(self._queue)

    def _missing(self, each: int) -> Chunk | None:
        """Return a chunk if it is neither cached nor planned; another process may have evicted or fetched it."""
        if each in self._pending:
            return None
        chunk = self._cached.get(each)
        if chunk is not None and self._folder.has(chunk.name, chunk.size):
            return None
        self._cached.pop(each, None)
        chunk = self._files.chunks.chunk(each)
        if not self._folder.has(chunk.name, chunk.size):
            return chunk
        self._add(each, chunk)
        return None

    def _fetch(self, job: _Job) -> None:
        """Fetch the chunks of a job for which there is room."""
        reserved: deque[Chunk] = deque()
        try:
            for chunk in job.run:
                if not self._has_room(chunk, job):
                    break
                reserved.append(chunk)
            bodies = self._files.download([*reserved], self._patience) if reserved else []
            for body in bodies:
                chunk = reserved.popleft()
                self._folder.write(chunk, body)
                with self._changed:
                    self._add(chunk.id, chunk)
                    self._pending.pop(chunk.id, None)
                    self._changed.notify_all()
        finally:
            for chunk in reserved:
                self._folder.release(chunk.size)

    def _has_room(self, chunk: Chunk, job: _Job) -> bool:
        """Reserve room for a chunk, by evicting others; wait for it, unless the chunk is waited for. Return whether there is room."""
        while not self._folder.reserve(chunk.size):
            if self._folder.take_room():
                continue
            with self._changed:
                victim = self._farthest(beyond=self._pending.get(chunk.id, job.position))
                if victim is None and (self._is_paused or job.position < self._needed):
                    return False
                if victim is None:
                    self._changed.wait(_LOOK_S)
                    continue
            self._folder.evict(victim.name, victim.size)
        return True

    def _farthest(self, *, beyond: int) -> Chunk | None:
        """Take the cached chunk with the farthest next use, if it is beyond a position."""
        while self._far:
            use, each = -self._far[0][0], self._far[0][1]
            if each in self._cached and use == self._order.next_use(each, self._now):
                if use <= beyond:
                    return None
                heapq.heappop(self._far)
                return self._cached.pop(each)
            heapq.heappop(self._far)
        return None

    def _add(self, each: int, chunk: Chunk) -> None:
        self._cached[each] = chunk
        self._push(each)

    def _push(self, each: int) -> None:
        heapq.heappush(self._far, (-self._order.next_use(each, self._now), each))
