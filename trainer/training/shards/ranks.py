"""The processes of a run with several devices: rank 0 keeps the record and starts the others, which join it before the training.

The processes meet in a folder of one machine. Their errors end all of them within seconds: a rank that ends closes its connections.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import distributed

from trainer.base.errors import RankError
from trainer.training.shards.tree import exchanging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ARRIVAL: Final = 600.0
"""Seconds within which every rank must arrive: a rank imports torch and the experiment, and fetches the datasets."""
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """The place of a process among the processes of a run."""

    rank: int
    world: int
    meeting: str
    """The file through which the processes find each other."""

    def meet(self, kind: str, *, check: Callable[[], None]) -> None:
        """Join the other processes, whose devices are of a kind, `cpu` or `gpu`; `check` raises if the process must stop.

        Raise `RankError` if a rank does not arrive.
        """
        store = distributed.FileStore(self.meeting, self.world)
        store.set(f"arrived/{self.rank}", "yes")
        end = monotonic() + _ARRIVAL
        names = [f"arrived/{rank}" for rank in range(self.world)]
        while missing := [rank for rank, name in enumerate(names) if not store.check([name])]:
            check()
            if monotonic() > end:
                ranks = " and ".join(map(str, missing))
                raise RankError(
                    f"rank {ranks} of {self.world} did not start within {_ARRIVAL:.0f} s",
                    hint="rank-*.txt in the attempt's folder have the output of the other ranks",
                )
            sleep(_PAUSE)
        with exchanging():
            distributed.init_process_group(
                "nccl" if kind == "gpu" else "gloo",
                store=distributed.PrefixStore("group", store),
                rank=self.rank,
                world_size=self.world,
                timeout=timedelta(minutes=30),
                device_id=torch.device("cuda", self.rank) if kind == "gpu" else None,
            )


@contextmanager
def meeting(place: RankPlace | None, kind: str, *, check: Callable[[], None]) -> Iterator[None]:
    """Join the other processes for the block, if there are others: see `RankPlace.meet`."""
    if place is None:
        yield
        return
    place.meet(kind, check=check)
    try:
        yield
    finally:
        distributed.destroy_process_group()  # the other ranks of a failed run notice it at once


def from_rank_0(value: Any) -> Any:
    """Return the value that rank 0 has."""
    if not distributed.is_initialized():
        return value
    values = [value]
    with exchanging():
        distributed.broadcast_object_list(values)
    return values[0]


class RankEnvironment(LightningEnvironment):
    """Tells Lightning the place of this process: it starts no processes of its own."""

    def __init__(self, place: RankPlace) -> None:
        super().__init__()
        self.place = place
        self.set_global_rank(place.rank)
        self.set_world_size(place.world)

    @property
    def creates_processes_externally(self) -> bool:
        """Whether the processes exist already."""
        return True

    def local_rank(self) -> int:
        """Return the number of this process on its machine."""
        return self.place.rank

    def teardown(self) -> None:
        """Leave the variables of this process as they are."""
