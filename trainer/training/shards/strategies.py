"""The choice of a strategy for batches of several shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.settings.shards import FSDP
from trainer.training.shards.ranks import RankEnvironment
from trainer.training.shards.strategy import ShardedDevice, ShardedDevices

if TYPE_CHECKING:
    from trainer.training.shards.place import RankPlace


def sharded_strategy(
    kind: str, *, place: RankPlace | None, shards: int, seed: int, strategy: str | None = None
) -> ShardedDevice | ShardedDevices:
    """Return the strategy for several shards in this process, or in all processes of a run; `kind` is `cpu` or `gpu`.

    A single process keeps all parameters even if `strategy` is fsdp: it adds the gradients in the same order.
    """
    found: ShardedDevice | ShardedDevices
    if place is None:
        found = ShardedDevice(torch.device("cuda", 0) if kind == "gpu" else torch.device("cpu"))
    elif strategy == FSDP:
        from trainer.training.shards.fully_sharded_strategy import FullyShardedDevices

        found = FullyShardedDevices(cluster_environment=RankEnvironment(place))
    else:
        found = ShardedDevices(cluster_environment=RankEnvironment(place))
    found.set_shards(shards, seed)
    return found
