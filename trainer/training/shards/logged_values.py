"""The values that a training step logs: those of the shards are merged by the reduction of `log`: mean, sum, minimum or maximum."""

# ruff: noqa: SLF001 - Lightning and torchmetrics have no public names for these states
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch

from trainer.base.errors import ExperimentError
from trainer.training.shards.merged_metrics import ALONE
from trainer.training.shards.tree import begin_gather, tree_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    import lightning as L
    from torch import Tensor
    from torchmetrics import Metric

_PREFIX = "training_step."


class LoggedValues:
    """The values that one net logs in its training step. Lightning keeps them for the step, and reduces them over the epoch."""

    def __init__(self, net: L.LightningModule) -> None:
        self.net = net

    @property
    def _results(self) -> Any:
        return self.net.trainer.fit_loop.epoch_loop._results  # Lightning has no public name for it

    def begin_step(self) -> None:
        """Store the values from before the step."""
        self.before = {
            key: (each.value, getattr(each, "cumulated_batch_size", None), each._update_count)
            for key, each in self._results.items()
            if key.startswith(_PREFIX)
        }
        self.parts: list[dict[str, list[Tensor]]] = []

    def begin_shard(self, batch: object) -> None:
        """Reset the values to their defaults. A mean over the epoch weights a value by the number of samples in the shard."""
        self._results.batch, self._results.batch_size = batch, None
        self.counts = {key: each._update_count for key, each in self._results.items() if key.startswith(_PREFIX)}
        for key in self.counts:
            _empty(self._results[key])

    def end_shard(self) -> int:
        """Store the values that a shard logged, and return a fingerprint of their names and reductions; 0 if there are none."""
        updated = {
            key: each
            for key, each in self._results.items()
            if key.startswith(_PREFIX) and each._update_count != self.counts.get(key, 0)
        }
        self.parts.append({key: _numbers(each) for key, each in updated.items() if each.is_tensor})
        if not updated:
            return 0
        names = "\n".join(f"{key} {each.meta.reduce_fx.__name__}" for key, each in updated.items())
        return int.from_bytes(hashlib.sha256(names.encode()).digest()[:8], "big") >> 1

    def end_step(self, names: Sequence[int]) -> None:
        """Set the merged values. Raise `ExperimentError` if the fingerprints in `names` differ."""
        if len({*names}) > 1:
            message = f"{type(self.net).__name__}.training_step logs different values for different shards of a batch"
            raise ExperimentError(message, hint=f"log the same names for every batch, or {ALONE}")
        updated = self.parts[0]
        for key, (value, size, count) in self.before.items():
            if key not in updated and (each := self._results[key]).is_tensor:
                each.value, each._update_count = value, count
                if size is not None:
                    each.cumulated_batch_size = size
        if updated:
            own = torch.stack([torch.cat([each for values in part.values() for each in values]) for part in self.parts])
            every = begin_gather(own.view(torch.int64))().view(torch.float64)
            for number, key in enumerate(updated):
                self._merge(key, every[:, 3 * number : 3 * number + 3])

    def metrics(self) -> list[Metric]:
        """Return the metrics that are logged with `on_step`."""
        return [each.value for each in self._of_metrics()]

    def set_metric_values(self) -> None:
        """Log the batch's values of the metrics that `metrics` returns."""
        for each in self._of_metrics():
            each._forward_cache = each.value._forward_cache

    def _of_metrics(self) -> list[Any]:
        results = (each for key, each in self._results.items() if key.startswith(_PREFIX) and not each.is_tensor)
        return [each for each in results if each.meta.on_step]

    def _merge(self, key: str, numbers: Tensor) -> None:
        """Set a value to the merged `numbers` of all shards, `[shards, 3]`, in the order of `_numbers`."""
        result, shards = self._results[key], len(numbers)
        value, size, count = self.before.get(key) or (*_defaults(result), 0)
        last, added, sizes = numbers.unbind(1)
        result._update_count, result._computed = count + 1, None
        if result.meta.is_mean_reduction or result.meta.is_sum_reduction:
            batch, total = tree_sum(last), tree_sum(added)
            batch = batch / shards if result.meta.is_mean_reduction else batch
        else:
            over = torch.amax if result.meta.is_max_reduction else torch.amin
            batch, total = over(last, 0), over(added, 0)
        kind = result.value.dtype
        if result.meta.on_step:
            result._forward_cache = batch.to(kind)
        if not result.meta.on_epoch:
            result.value = batch.to(kind)
            return
        if size is not None:
            result.value = value + total.to(kind)
            result.cumulated_batch_size = size + tree_sum(sizes).to(size.dtype)
        elif result.meta.is_sum_reduction:
            result.value = value + total.to(kind)
        else:
            result.value = result.meta.reduce_fx(value, total.to(kind))


def _defaults(result: Any) -> tuple[Tensor, Tensor | None]:
    """Return the value of an empty result, and its number of samples if it is a mean."""
    states = {name: state.detach().clone().to(result.value.device) for name, state in result._defaults.items()}
    return states["value"], states.get("cumulated_batch_size")


def _empty(result: Any) -> None:
    if not result.is_tensor:
        return
    result.value, size = _defaults(result)
    if size is not None:
        result.cumulated_batch_size = size


def _numbers(result: Any) -> list[Tensor]:
    """Return the value of a shard, what it adds to the epoch's value, and its number of samples, float64 `[1]` each."""
    size = getattr(result, "cumulated_batch_size", torch.zeros((), device=result.value.device))
    last = result._forward_cache if result.meta.on_step else torch.zeros_like(result.value)
    return [each.detach().double().reshape(1) for each in (last, result.value, size)]
