"""Heartbeats of the machines of a run: a machine that disappears without closing its connections is named within a minute.

Each machine counts in the key-value store that node 0 serves. Node 0 watches all others, and each of them watches node 0. If
one is lost, the connections to the other ranks are cut: an exchange with it would wait for half an hour.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import RankError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.cli.nodes import NodePlace

_EVERY: Final = 5.0
"""Seconds between two heartbeats."""
SILENT: Final = 60.0
"""Seconds without a heartbeat after which a machine is lost."""


class Heartbeats:
    """The last heartbeat of each watched machine, with its time by this machine's clock; without machines nothing is watched."""

    def __init__(self, store: Any = None, place: NodePlace | None = None) -> None:
        """Watch the other machines by the store; `beat` must be called all the time."""
        self.store, self.place = store, place
        others = () if place is None else range(1, place.nodes) if place.node == 0 else (0,)
        self.seen = {number: (b"", monotonic()) for number in others}
        self.count = 0

    def beat(self) -> None:
        """Send a heartbeat, and read those of the others. Raise `RuntimeError` if node 0 cannot be reached."""
        if self.place is None:
            return
        self.count += 1
        self.store.set(_key(self.place.node), str(self.count))
        for number, (before, _) in self.seen.items():
            if self.store.check([_key(number)]) and (found := self.store.get(_key(number))) != before:
                self.seen[number] = (found, monotonic())

    def check(self) -> None:
        """Raise `RankError` if a machine that has sent heartbeats is lost."""
        for number, (beat, last) in self.seen.items():
            if self.place is not None and beat and (silent := monotonic() - last) > SILENT:
                message = f"node {number} of {self.place.nodes} has not answered for {silent:.0f} s"
                hint = (
                    "is it running, and reachable? The same words on every machine resume the run (--resume-or-begin)"
                )
                raise RankError(message, hint=hint)


def _key(number: int) -> str:
    return f"heartbeat/{number}"


@contextmanager
def watch_machines(store: Any, place: NodePlace | None) -> Iterator[Heartbeats]:
    """Send heartbeats for the block, and watch the other machines of a run, if there are any. Raise `RankError` for a lost one."""
    watched, ended = Heartbeats(store, place), Event()
    if place is None:
        yield watched
        return
    Thread(target=_send, args=(watched, ended), daemon=True, name="heartbeats").start()
    try:
        yield watched
    except Exception:
        watched.check()  # the cause of a failed exchange
        raise
    finally:
        ended.set()


def _send(watched: Heartbeats, ended: Event) -> None:
    from trainer.training.shards.connections import cut_connections

    while True:
        with suppress(RuntimeError):  # no connection: node 0 then counts as silent
            watched.beat()
        try:
            watched.check()
        except RankError:
            cut_connections()
            return
        if ended.wait(_EVERY):
            return
