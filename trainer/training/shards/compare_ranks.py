"""The comparison of the ranks' weights during training, which detects a rank with other results within `EVERY` steps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback
from torch import distributed

from trainer.base.errors import RankError
from trainer.base.suggestions import listed
from trainer.training.shards.parts import is_part
from trainer.training.shards.tree import begin_every_rank
from trainer.training.tracing.fingerprints import DeviceIntegers, HostIntegers, weights_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import lightning as L

EVERY: Final = 50
"""The number of steps between two comparisons."""


class CompareRanks(Callback):
    """Compare fingerprints of the weights among all ranks, every `EVERY` steps and at the end of each epoch.

    Distributed parameters are not compared: each rank has other parts of them.
    """

    def __init__(self) -> None:
        self.equal_at = 0
        """The step after which the last comparison found equal weights."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the initial weights."""
        self.compare(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Compare after a step, if the interval has passed."""
        if trainer.global_step >= self.equal_at + EVERY:
            self.compare(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare before the epoch's checkpoint is written."""
        self.compare(trainer, pl_module)

    def compare(self, trainer: L.Trainer, net: L.LightningModule) -> None:
        """Raise `RankError` on every rank if the ranks' weights differ."""
        found_weights = [(name, owner[key]) for name, owner, key in weights_of(net) if not is_part(owner[key])]
        if not found_weights:  # all weights are distributed
            return
        names, values = zip(*found_weights, strict=True)
        integers = HostIntegers() if net.device.type == "cpu" else DeviceIntegers()
        found: Any = begin_every_rank(integers.prints(values))()
        numbers: Sequence[int] = found.tolist() if isinstance(found, torch.Tensor) else found
        size = len(names)
        by_rank = [tuple(numbers[rank * size : (rank + 1) * size]) for rank in range(distributed.get_world_size())]
        if len({*by_rank}) > 1:
            raise RankError(self._message(trainer, by_rank, names), hint=_HINT)
        self.equal_at = trainer.global_step

    def _message(self, trainer: L.Trainer, by_rank: Sequence[tuple[int, ...]], names: Sequence[str]) -> str:
        [(usual, count), *_] = Counter(by_rank).most_common()
        others = [rank for rank, each in enumerate(by_rank) if each != usual]
        name = next(name for name, *values in zip(names, *by_rank, strict=True) if len({*values}) > 1)
        if count > len(by_rank) / 2:
            ranks, have = ("rank", "has") if len(others) == 1 else ("ranks", "have")
            who = f"{ranks} {listed(map(str, others))} of {len(by_rank)} {have} other weights than the others"
        else:
            who = f"the {len(by_rank)} ranks have different weights"
        when = f"between step {self.equal_at} and step {trainer.global_step}" if trainer.global_step else "at the start"
        return f"{who}, {when}; the first is {name}"


_HINT: Final = (
    "--resume continues from the last checkpoint; if the error occurs again at the same step, the experiment's code depends on the process;"
    " otherwise a device computes wrong results"
)
