"""The running averages of an epoch: sums of `log(..., on_epoch=True)` and of metrics.

Neither Lightning nor torchmetrics saves these sums in a checkpoint; this module reads and restores them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torchmetrics import Metric

if TYPE_CHECKING:
    import lightning as L
    from torch import nn

_SAID = (
    "fx",
    "name",
    "prog_bar",
    "logger",
    "on_step",
    "on_epoch",
    "enable_graph",
    "add_dataloader_idx",
    "dataloader_idx",
)
_SUMS = ("value", "cumulated_batch_size")


def averages_of(machine: L.Trainer) -> dict[str, Any]:
    """Return the values logged in this epoch, and the state of every metric."""
    logged = machine.fit_loop.epoch_loop._results  # noqa: SLF001 - Lightning 2 has no public way to its sums
    return {
        "logged": {key: _written(value) for key, value in logged.items() if value.is_tensor},
        "metrics": {
            name: {state: getattr(metric, state) for state in (*metric._defaults, "_update_count")}  # noqa: SLF001
            for name, metric in _metrics(machine.lightning_module).items()
        },
    }


def restore_averages(machine: L.Trainer, saved: dict[str, Any]) -> None:
    """Restore the sums that `averages_of` returned."""
    logged = machine.fit_loop.epoch_loop._results  # noqa: SLF001
    logged.update({key: _read(value, machine) for key, value in saved["logged"].items()})
    metrics = _metrics(machine.lightning_module)
    for name, states in saved["metrics"].items():
        for state, value in states.items():
            setattr(metrics[name], state, _placed(value, machine.strategy.root_device))


def _metrics(net: nn.Module) -> dict[str, Metric]:
    return {name: module for name, module in net.named_modules() if isinstance(module, Metric)}


def _written(metric: _ResultMetric) -> dict[str, Any]:
    meta = metric.meta
    return {
        "said": {name: getattr(meta, name) for name in _SAID} | {"metric_attribute": meta.metric_attribute},
        "reduced": meta.reduce_fx.__name__,
        "shared": (meta.sync.should, meta.sync.rank_zero_only),
        "sums": {name: getattr(metric, name) for name in _SUMS if hasattr(metric, name)},
        "count": metric._update_count,  # noqa: SLF001
    }


def _read(written: dict[str, Any], machine: L.Trainer) -> _ResultMetric:
    should, rank_zero_only = written["shared"]
    meta = _Metadata(**written["said"], reduce_fx=getattr(torch, written["reduced"]))
    meta.sync = _Sync(fn=machine.strategy.reduce, _should=should, rank_zero_only=rank_zero_only)
    metric = _ResultMetric(meta, is_tensor=True)
    for name, value in written["sums"].items():
        setattr(metric, name, value.to(machine.strategy.root_device))
    metric._update_count = written["count"]  # noqa: SLF001
    return metric


def _placed(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return [_placed(one, device) for one in value] if isinstance(value, list) else value
