"""The metrics that a training step updates: each shard updates empty states, which are merged in a fixed order."""

# ruff: noqa: SLF001 - Lightning and torchmetrics have no public names for these states
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.data import dim_zero_max, dim_zero_min, dim_zero_sum

from trainer.base.errors import ExperimentError
from trainer.training.shards.tree import tree_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import lightning as L
    from torch import Tensor, nn

ALONE: Final = "use --shards 1 and --devices 1"
_MERGES: Final[dict[Any, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]]] = {
    dim_zero_sum: (tree_sum, torch.add),
    dim_zero_max: (lambda parts: parts.amax(0), torch.maximum),
    dim_zero_min: (lambda parts: parts.amin(0), torch.minimum),
}
"""For each of torchmetrics' reductions: the functions that merge the states of all shards, `[shards, ...]`, and two states."""


@dataclass(slots=True)
class _Followed:
    """A metric whose states can be merged, with its states from before the step."""

    name: str
    metric: Metric
    states: dict[str, Tensor]
    count: int = 0

    def empty(self) -> None:
        for name, value in self.states.items():
            default: Any = self.metric._defaults[name]
            setattr(self.metric, name, default.detach().clone().to(value.device))

    def set(self, states: dict[str, Tensor], *, count: int) -> None:
        for name, value in states.items():
            setattr(self.metric, name, value)
        self.metric._update_count, self.metric._computed = count, None


class MergedMetrics:
    """The metrics of a net. Metrics whose states cannot be merged must not be updated in a training step."""

    def __init__(self, net: L.LightningModule, *, without: Collection[nn.Module] = ()) -> None:
        """Disable the sharing of states in a `MetricCollection`, so that a shard updates each metric.

        `without` contains the modules of metrics that training steps do not update: their states are not exchanged.
        """
        self.net, self.followed, self.others = net, list[_Followed](), list[tuple[str, Metric]]()
        evaluating = {id(each) for each in without}
        for name, each in net.named_modules():
            if isinstance(each, MetricCollection) and id(each) not in evaluating:
                each._enable_compute_groups, each._groups_checked, each._groups = False, False, {}
            if not isinstance(each, Metric):
                continue
            is_merged = all(
                isinstance(getattr(each, state), torch.Tensor) and reduction in _MERGES
                for state, reduction in each._reductions.items()
            )
            if is_merged and id(each) not in evaluating:
                self.followed.append(_Followed(name=name, metric=each, states={}))
            else:
                self.others.append((name, each))

    def begin_step(self) -> None:
        """Store the states from before the step."""
        self.counts = [each._update_count for _, each in self.others]
        for each in self.followed:
            each.states = {name: getattr(each.metric, name) for name in each.metric._reductions}
            each.count = each.metric._update_count

    def begin_shard(self) -> None:
        """Reset the states to their defaults."""
        for each in self.followed:
            each.empty()
            each.metric._update_count = each.count

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Add a note to an exception in a metric's `forward`, which computes a value from the samples of one shard."""
        try:
            yield
        except Exception as fault:
            # `forward` sets this attribute, and resets it at its end
            if name := next((each.name for each in self.followed if each.metric._enable_grad), None):
                shard = f"the metric {name} computes a value from the samples of one shard of the batch"
                fault.add_note(f"{shard}: call its update(), and log it with on_step=False, on_epoch=True; or {ALONE}")
            raise

    def end_shard(self) -> list[Tensor]:
        """Return the states of a shard, each as float64 `[n]`. Raise `ExperimentError` if an updated metric cannot be merged."""
        updates = zip(self.others, self.counts, strict=True)
        if name := next((name for (name, each), count in updates if each._update_count != count), None):
            raise self._not_merged(name)
        self.updated = [int(each.metric._update_count != each.count) for each in self.followed]
        found = []
        for each in self.followed:
            for state, before in each.states.items():
                value = getattr(each.metric, state)
                if value.shape != before.shape:
                    raise self._not_merged(each.name)
                found.append(value.detach().double().reshape(-1))
        return found

    def _not_merged(self, name: str) -> ExperimentError:
        what = f"{type(self.net).__name__}.training_step updates the metric {name}"
        message = f"{what}, whose states cannot be merged over the shards of a batch"
        return ExperimentError(message, hint=f"measure it in validation_step, or {ALONE}")

    def end_step(self, numbers: Tensor, updated: Sequence[Sequence[int]], on_step: Collection[Metric]) -> list[Metric]:
        """Merge the shards' states, `[shards, n]`, with the states from before the step, and return the updated metrics.

        The metrics in `on_step` get their value for the batch, as after `forward`.
        """
        merged, start = [], 0
        for number, each in enumerate(self.followed):
            states = {}
            for name, before in each.states.items():
                end = start + before.numel()
                merge, _ = _MERGES[each.metric._reductions[name]]
                states[name] = merge(numbers[:, start:end]).to(before.dtype).reshape(before.shape)
                start = end
            merged.append((each, states, any(flags[number] for flags in updated)))
            each.set(states, count=each.count + 1)
        for each, _, is_updated in merged:
            if is_updated and any(each.metric is other for other in on_step):
                each.metric._forward_cache = each.metric.compute()
        for each, states, is_updated in merged:
            joined = {
                name: _MERGES[each.metric._reductions[name]][1](each.states[name], value)
                for name, value in states.items()
            }
            each.set(joined if is_updated else each.states, count=each.count + is_updated)
        return [each.metric for each, _, is_updated in merged if is_updated]
