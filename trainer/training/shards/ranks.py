"""The processes of a run with several devices: rank 0 keeps the record, and the others join it before training.

The processes meet at a file if there is one machine, otherwise at an address of node 0. A rank that ends closes its connections, so that
the others end too.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined] # missing from torch's type information

from trainer.base.errors import RankError
from trainer.base.run_files import open_run_file
from trainer.training.atomic_write import replacing
from trainer.training.shards.connections import connecting, disconnect
from trainer.training.shards.tree import LOGS, MESSAGE, exchanging

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from trainer.training.shards.place import RankPlace

_ARRIVAL: Final = 600.0
"""Seconds within which every rank must connect: a rank imports torch and the experiment, and fetches the datasets."""
_CONNECT: Final = 5
"""Seconds for one attempt to connect to node 0."""
_PAUSE: Final = 0.05


def meet(place: RankPlace, kind: str, *, check: Callable[[], None]) -> None:
    """Join the other processes; `kind` is `cpu` or `gpu`, and `check` raises if this process must stop.

    Raise `RankError` if a rank does not connect in time, or if an exchange fails.
    """
    with exchanging():
        store = _store(place)
    store.set(f"arrived/{place.rank}", "yes")
    end = monotonic() + _ARRIVAL
    names = [f"arrived/{rank}" for rank in range(place.world)]
    while missing := [rank for rank, name in enumerate(names) if not store.check([name])]:
        check()
        if monotonic() > end:
            ranks = " and ".join(map(str, missing))
            raise RankError(f"rank {ranks} of {place.world} did not start within {_ARRIVAL:.0f} s", hint=LOGS)
        sleep(_PAUSE)
    with exchanging(), connecting():
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if kind == "gpu" else "gloo",  # gloo: values on the host need no copy to a device
            store=distributed.PrefixStore("group", store),  # type: ignore[attr-defined] # missing from torch's type information
            rank=place.rank,
            world_size=place.world,
            timeout=timedelta(minutes=30),
            device_id=torch.device("cuda", place.local_rank) if kind == "gpu" else None,
        )


def serve_meeting(port: int) -> Any:
    """Serve the key-value store in which the machines of a run meet. Raise `RankError` if this machine cannot listen on the port."""
    try:
        return TCPStore("0.0.0.0", port, is_master=True, wait_for_workers=False)  # noqa: S104 - other machines connect to this port
    except RuntimeError as fault:
        message = f"node 0 cannot listen on port {port}: {fault!s:.200}"
        raise RankError(message, hint="use a free port in REPRISE_MAIN_ADDRESS, on every machine") from fault


def join_meeting(host: str, port: int, *, seconds: float, check: Callable[[], None]) -> Any:
    """Connect to node 0's key-value store, and return it. Raise `RankError` if it cannot be reached within `seconds`."""
    end = monotonic() + seconds
    while True:
        check()
        try:
            # a first attempt without TCPStore, which logs each failure
            socket.create_connection((host, port), timeout=_CONNECT).close()
            return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=_CONNECT))
        except (OSError, RuntimeError) as fault:
            if monotonic() > end:
                message = f"node 0 cannot be reached at {host}:{port} within {seconds:.0f} s"
                raise RankError(
                    message, hint="check that the command runs on node 0 and that the port is open"
                ) from fault
            sleep(_PAUSE)


def _store(place: RankPlace) -> Any:
    if not place.meeting.startswith("tcp://"):
        return distributed.FileStore(place.meeting, place.world)  # type: ignore[attr-defined] # missing from torch's type information
    host, _, port = place.meeting.removeprefix("tcp://").rpartition(":")
    return TCPStore(host, int(port), is_master=False, wait_for_workers=False)


@contextmanager
def meeting(place: RankPlace | None, kind: str, *, check: Callable[[], None]) -> Iterator[None]:
    """Join the other processes for the block, as `meet` does; do nothing if `place` is None."""
    if place is None:
        yield
        return
    meet(place, kind, check=check)
    is_failed = True
    try:
        yield
        is_failed = False
    finally:
        disconnect(is_failed=is_failed)


def from_rank_0(value: Any) -> Any:
    """Return rank 0's value on every rank. Raise `RankError` if the exchange fails."""
    if not distributed.is_initialized():
        return value
    values = [value]
    with exchanging():
        distributed.broadcast_object_list(values)
    return values[0]


def share_files(place: RankPlace | None, folder: Path, names: Collection[str]) -> None:
    """Copy files of rank 0's folder to the same folder on every other machine."""
    if place is None or place.nodes == 1:
        return
    for name in sorted({*from_rank_0([*names])}):
        with ExitStack() as files:
            source = files.enter_context(open_run_file(folder / name)) if place.rank == 0 else None
            is_target = place.node > 0 and place.local_rank == 0
            target = files.enter_context(replacing(folder / name)) if is_target else None
            while piece := from_rank_0(source.read(MESSAGE) if source else None):
                if target is not None:
                    target.write(piece)
    with exchanging():
        distributed.barrier()


class RankEnvironment(LightningEnvironment):
    """Lightning's view of the place of this process; Lightning starts no other processes."""

    def __init__(self, place: RankPlace) -> None:
        super().__init__()
        self.place = place
        self.set_global_rank(place.rank)
        self.set_world_size(place.world)

    @property
    def creates_processes_externally(self) -> bool:
        """Whether the processes exist already."""
        return True

    def node_rank(self) -> int:
        """Return the number of this machine."""
        return self.place.node

    def local_rank(self) -> int:
        """Return the number of this process on its machine."""
        return self.place.local_rank

    def teardown(self) -> None:
        """Do nothing: keep the environment variables of this process."""
