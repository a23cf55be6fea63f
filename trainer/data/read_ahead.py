"""Fetch the chunks of a streamed dataset before they are read, in the known order of reads, and evict those with the farthest next use.

The order of samples is a function of seed and epoch, so the next use of each group of chunks (most groups have one chunk) is known until
the end of the next epoch. To make room for a group, the cached group with the farthest next use is evicted (Belady, 1966), but no group
that is used before the new group. Reading ahead is bounded, because each group that is fetched early takes the room of another group.

The threads of a pass wait on a condition, and are woken if a batch is needed or was read, if groups were planned, or at the end.
"""

from __future__ import annotations

import heapq
from collections import deque
from threading import Condition, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.base.parallel import StoppedPieceError
from trainer.data.cache.chunk_folder import Grant
from trainer.data.chunks import RUN_BYTES, adjacent_runs
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.chunks import ChunkFile, ChunkGroup, Ids

THREADS: Final = 4
AHEAD: Final = 256 << 20
"""Maximum bytes that are fetched ahead of the reads; at most an eighth of the cache's limit, because they take the room of other groups.

A group of several chunks can take a sixteenth of the limit. If there are such groups, the maximum is a quarter, so that each thread can
fetch a group.
"""
NEVER: Final = 1 << 62
"""The position of the next use of a group that is not used again."""
_PLANNED: Final = 256
"""Maximum number of groups that are planned at once; adjacent groups among them are fetched together."""
SCANNED: Final = 8192
"""Maximum number of positions that are examined beyond the position that is read or waited for."""
_LOOK_S: Final = 0.2
_SLOW_S: Final = 10.0
"""Seconds of waiting for the store, after which a line is printed and a requested stop ends the wait; a shorter wait is not interrupted."""


class Order:
    """The order in which groups of chunks are read."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self._positions = np.argsort(ids, kind="stable")
        self._unique, starts = np.unique(ids[self._positions], return_index=True)
        self._starts = np.append(starts, len(ids))

    def next_use(self, group: int, now: int) -> int:
        """Return the first position from `now` at which a group is read, or `NEVER`."""
        at = int(np.searchsorted(self._unique, group))
        if at == len(self._unique) or self._unique[at] != group:
            return NEVER
        uses = self._positions[self._starts[at] : self._starts[at + 1]]
        place = int(np.searchsorted(uses, now))
        return int(uses[place]) if place < len(uses) else NEVER


class ReadAhead:
    """A pass over batches of chunks, which threads of this process fetch ahead until `stop` or `close`."""

    def __init__(
        self, files: StreamedDataset, batches: Sequence[Sequence[int]], later: Sequence[int] = (), *, ahead: int = AHEAD
    ) -> None:
        """Start threads that fetch the chunks of `batches`, and then those of `later`."""
        self._files, self._folder, self._grant = files, files.folder_of_chunks, Grant(files.folder_of_chunks)
        self._ahead = min(ahead, files.source.budget.limit // (4 if files.chunks.has_groups else 8))
        groups = [_distinct(files.chunks.group_ids(np.asarray(each, dtype=np.int64))) for each in (*batches, later)]
        self._ends: list[int] = np.cumsum([0, *map(len, groups[:-1])]).tolist()
        """The position after the last group before each batch, and after the last batch."""
        self._order = Order(np.concatenate(groups))
        self._now = self._next = self._needed = 0
        """Positions: of the first group that was not read, of the next group to plan, and after the last group that is waited for."""
        self._cached: dict[int, ChunkFile] = {}
        self._far: list[tuple[int, int]] = []
        """A heap of the negated next use and the ID of each cached group; outdated items are dropped when they reach the top."""
        self._pending: dict[int, int] = {}
        """The planned groups that are not cached yet, and the positions of their uses."""
        self._queue: deque[tuple[ChunkGroup, ...]] = deque()
        self._early: deque[tuple[int, int]] = deque()
        """The position and the size of each group that was planned and not yet read."""
        self._early_bytes = 0
        self._fault: BaseException | None = None
        self._lock = Lock()
        self._work, self._ready = Condition(self._lock), Condition(self._lock)
        """Conditions: the threads wait on the first, and callers of `wait` and `close` on the second."""
        self._patience = Patience(say=files.patience.say, longest_s=files.patience.longest_s)
        for each in files.chunks.files(self._folder.names()):
            self._add(each)
        self._running = THREADS if len(self._order.ids) else 0
        for _ in range(self._running):
            Thread(target=self._run, daemon=True).start()

    def wait(self, batch: int) -> None:
        """Wait until the chunks of a batch are cached, or cannot be cached because there is no room or the pass is stopped.

        Raise the exception of a thread that failed to fetch.
        """
        began, is_reported, end = monotonic(), False, self._ends[batch + 1]
        with self._lock:
            if end > self._needed:
                self._needed = end
                self._work.notify_all()
            while not self._is_ready(end):
                self._ready.wait(_LOOK_S)
                if monotonic() - began < _SLOW_S:
                    continue
                self._files.patience.check()
                if not is_reported:
                    is_reported = True
                    self._files.patience.say(f"waiting for {self._files.store.label}, which sends samples slowly")
            if self._fault is not None:
                raise self._fault

    def advance(self, batch: int) -> None:
        """Report that all batches before `batch` were read."""
        with self._lock:
            before, self._now = self._now, max(self._now, self._ends[batch])
            for each in self._order.ids[before : self._now].tolist():
                if each in self._cached:
                    self._push(each)
            while self._early and self._early[0][0] < self._now:
                self._early_bytes -= self._early.popleft()[1]
            self._work.notify_all()

    def stop(self) -> None:
        """Tell the threads to end, without waiting for them."""
        with self._lock:
            self._patience.stop.set()
            self._work.notify_all()

    def close(self) -> None:
        """End the threads, and wait for them, so that the process can be forked."""
        self.stop()
        with self._lock:
            while self._running:
                self._ready.wait(_LOOK_S)
                self._files.patience.check()
        self._grant.close()

    def _is_ready(self, end: int) -> bool:
        if self._is_over():
            return True
        return self._next >= end and not any(position < end for position in self._pending.values())

    def _is_over(self) -> bool:
        return self._fault is not None or self._patience.stop.is_set

    def _run(self) -> None:
        try:
            while (run := self._take()) is not None:
                self._fetch(run)
        except StoppedPieceError:
            pass
        except BaseException as fault:  # noqa: BLE001 - `wait` raises it in the thread that reads
            with self._lock:
                self._fault = self._fault or fault
                self._work.notify_all()
        finally:
            with self._lock:
                self._running -= 1
                self._ready.notify_all()

    def _take(self) -> tuple[ChunkGroup, ...] | None:
        """Wait for adjacent groups to fetch, and return them; `None` at the end."""
        with self._lock:
            while not self._is_over():
                if not self._queue:
                    self._plan()
                if self._queue:
                    return self._queue.popleft()
                self._work.wait()
            return None

    def _plan(self) -> None:
        """Queue the next missing groups that are waited for or within the bound."""
        found: dict[int, ChunkGroup] = {}
        last = min(len(self._order.ids), max(self._now, self._needed) + SCANNED)
        while self._next < last and len(found) < _PLANNED:
            if self._next >= self._needed and self._early_bytes >= self._ahead:
                break
            each = int(self._order.ids[self._next])
            group = self._missing(each)
            if group is not None:
                found[each], self._pending[each] = group, self._next
                self._early.append((self._next, group.size))
                self._early_bytes += group.size
            self._next += 1
        runs = adjacent_runs(found.values(), most=min(RUN_BYTES, self._ahead))
        self._queue.extend(sorted(runs, key=self._first_use))
        if len(self._queue) > 1:
            self._work.notify_all()
        self._ready.notify_all()

    def _missing(self, each: int) -> ChunkGroup | None:
        """Return the group if it is neither cached nor planned, else `None`; another process may have evicted or fetched it."""
        if each in self._pending:
            return None
        known = self._cached.get(each)
        if not self._folder.has(known or self._files.chunks.group(each)):
            self._cached.pop(each, None)
            return self._files.chunks.group(each)
        if known is None:
            self._add(self._files.chunks.group(each).file)
        return None

    def _fetch(self, run: tuple[ChunkGroup, ...]) -> None:
        """Fetch adjacent groups. Without room for all, queue each group; a group without room is fetched by its reader."""
        if self._has_room(run):
            self._download(run)
        elif len(run) > 1:
            self._split(run)
        else:
            self._settle(run[0])

    def _split(self, run: tuple[ChunkGroup, ...]) -> None:
        """Queue each group by its own next use, because a thread that waits for room for a late group would delay an early group."""
        with self._lock:
            self._queue = deque(sorted([*self._queue, *((group,) for group in run)], key=self._first_use))
            self._work.notify_all()

    def _first_use(self, run: tuple[ChunkGroup, ...]) -> int:
        return min(self._pending[each.id] for each in run)

    def _download(self, run: tuple[ChunkGroup, ...]) -> None:
        written = 0
        try:
            for group, body in zip(run, self._files.download(run, self._patience), strict=True):
                written += 1
                self._folder.write(group, body, refund=self._grant.put)
                self._settle(group, is_cached=True)
        finally:
            self._grant.put(sum(each.cost for each in run[written:]))

    def _settle(self, group: ChunkGroup, *, is_cached: bool = False) -> None:
        with self._lock:
            if is_cached:
                self._add(group.file)
            self._pending.pop(group.id, None)
            self._ready.notify_all()

    def _has_room(self, run: tuple[ChunkGroup, ...]) -> bool:
        """Reserve room for the groups, evicting others if necessary; return whether there is room.

        Wait for room, unless one of the groups is waited for or the pass is over.
        """
        need = sum(each.cost for each in run)
        while not self._grant.take(need):
            if self._folder.take_room(run):
                continue
            with self._lock:
                positions = [self._pending[each.id] for each in run]
                victims = self._farthest(need + self._grant.spare, beyond=max(positions))
                if not victims:
                    if self._is_over() or min(positions) < self._needed:
                        return False
                    self._work.wait()
                    continue
            self._grant.put(self._folder.remove(victims))
        return True

    def _farthest(self, least: int, *, beyond: int) -> list[ChunkFile]:
        """Return the cached groups with the farthest next uses after the position `beyond`, which no longer count as cached.

        They have at least `least` bytes, if enough groups are used after that position.
        """
        victims: list[ChunkFile] = []
        while self._far and least > 0:
            use, each = -self._far[0][0], self._far[0][1]
            if each in self._cached and use == self._order.next_use(each, self._now):
                if use <= beyond:
                    break
                victims.append(self._cached.pop(each))
                least -= victims[-1].cost
            heapq.heappop(self._far)
        return victims

    def _add(self, file: ChunkFile) -> None:
        self._cached[file.id] = file
        self._push(file.id)

    def _push(self, each: int) -> None:
        heapq.heappush(self._far, (-self._order.next_use(each, self._now), each))


def _distinct(groups: Ids) -> Ids:
    """Return each group once, in the order of first use."""
    return groups[np.sort(np.unique(groups, return_index=True)[1])]
