"""Heartbeats of the machines of a run: a machine that disappears without closing its connections is reported after a minute.

Each machine increments a counter in the key-value store that node 0 serves. Node 0 watches all other machines, and they watch node 0. If
a machine is lost, the connections to the other ranks are cut: otherwise, an exchange with that machine waits for half an hour.
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
    """Sends this machine's heartbeats, and records when the last heartbeat of each watched machine arrived, by the local clock.

    Does nothing if `place` is None.
    """

    def __init__(self, store: Any = None, place: NodePlace | None = None) -> None:
        """Watch the other machines through the store; `beat` must be called every few seconds."""
        self.store, self.place = store, place
        others = () if place is None else range(1, place.nodes) if place.node == 0 else (0,)
        self.seen = {number: (b"", monotonic()) for number in others}
        self.count = 0

    def beat(self) -> None:
        """Send a heartbeat, and read the heartbeats of the watched machines. Raise `RuntimeError` if node 0 cannot be reached."""
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
                hint = "is it running, and reachable? The same command on every machine resumes the run (--resume-or-begin)"
                raise RankError(message, hint=hint)


def _key(number: int) -> str:
    return f"heartbeat/{number}"


@contextmanager
def watch_machines(store: Any, place: NodePlace | None) -> Iterator[Heartbeats]:
    """Send heartbeats during the block, and watch the other machines of a run. Raise `RankError` for a lost machine."""
    watched, ended = Heartbeats(store, place), Event()
    if place is None:
        yield watched
        return
    Thread(target=_send, args=(watched, ended), daemon=True, name="heartbeats").start()
    try:
        yield watched
    except Exception:
        watched.check()  # a lost machine is the cause of a failed exchange
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
