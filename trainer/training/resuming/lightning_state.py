"""Lightning's state in a checkpoint: the position in the run and the running averages of the epoch, for an exact resume.

Lightning 2.6 saves counters from the middle of a hook: they count the next batch as started and the previous batch as unfinished. `settle`
sets them to the values between two batches. Neither Lightning nor torchmetrics saves the sums of `log(..., on_epoch=True)` and of metrics.
tests/training/test_resume.py compares every case with an uninterrupted run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync
from torchmetrics import Metric

from trainer.runs.checkpoint_pointer import NextStage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import lightning as L
    from torch import nn

_COUNTS = ("ready", "started", "processed", "completed")
_OPTIONS = (
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


def settle(loops: dict[str, Any], *, stage: NextStage, epoch: int, batch: int) -> None:
    """Set the loops of a checkpoint to a position: `batch` batches of `epoch` are done, and `stage` is next."""
    if stage is NextStage.END:
        return
    fit = loops["fit_loop"]
    batches, validation = fit["epoch_loop.batch_progress"], fit["epoch_loop.val_loop.batch_progress"]
    _count(fit["epoch_progress"], ready=epoch + 1, started=epoch + (stage is not NextStage.EPOCH), rest=epoch)
    over = batches["total"]["completed"]
    _set(batches["total"], over)
    _set(batches["current"], batch)
    batches["is_last_batch"] = stage is NextStage.VALIDATION
    _set(validation["total"], 0)
    _set(validation["current"], 0)
    validation["is_last_batch"] = False
    if stage is NextStage.VALIDATION:  # Lightning returns to a validation only if one of its batches was started
        validation["total"] |= {"ready": 1, "started": 1}
    if stage is NextStage.EPOCH:  # Lightning adds 1 to this count before the first step of an epoch that it restarts
        fit["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def keep_sums(machine: L.Trainer) -> None:
    """Keep the epoch's averages at the first batch after a restart; Lightning would reset them."""
    connector = machine._logger_connector  # noqa: SLF001 - there is no public way
    connector._first_loop_iter = True  # noqa: SLF001
    connector._current_fx = "training_step"  # noqa: SLF001


def end_restart(machine: L.Trainer) -> None:
    """Reset the restart flag: otherwise Lightning skips the epoch-based schedules at the end of a restarted epoch."""
    machine.fit_loop._restarting = False  # noqa: SLF001 - the property would also set the inner loops


def _count(progress: dict[str, Any], *, ready: int, started: int, rest: int) -> None:
    for counts in (progress["total"], progress["current"]):
        counts |= {"ready": ready, "started": started, "processed": rest, "completed": rest}


def _set(counts: dict[str, int], value: int) -> None:
    counts |= {name: value for name in _COUNTS if name in counts}


class _RestoredSync(_Sync):
    """The `sync_dist` of a restored value, equal to any other: on one device Lightning ignores the option."""

    __hash__ = None  # type: ignore[assignment] # as in `_Sync`, a mutable dataclass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sync)


def averages_of(machine: L.Trainer) -> dict[str, Any]:
    """Return the values logged in this epoch, and the state of every metric."""
    logged = machine.fit_loop.epoch_loop._results  # noqa: SLF001 - Lightning 2 has no public way to its sums
    metrics = _metrics(machine.lightning_module)
    names = {id(metric): name for name, metric in metrics.items()}
    return {
        "logged": {key: _written(value) for key, value in logged.items() if value.is_tensor},
        "logged_metrics": {
            key: {**_options(value), "metric": names[id(value.value)]}
            for key, value in logged.items()
            if not (value.is_tensor or value.has_reset) and id(value.value) in names
        },
        "metrics": {
            name: {state: getattr(metric, state) for state in _states(metric)} for name, metric in metrics.items()
        },
    }


def restore_averages(machine: L.Trainer, saved: dict[str, Any]) -> None:
    """Restore the sums that `averages_of` returned."""
    logged = machine.fit_loop.epoch_loop._results  # noqa: SLF001
    metrics = _metrics(machine.lightning_module)
    logged.update({key: _read(value, machine) for key, value in saved["logged"].items()})
    logged_metrics = saved.get("logged_metrics", {})  # checkpoints of earlier versions do not have it
    logged.update(
        {key: _read_metric(value, metrics[value["metric"]], machine) for key, value in logged_metrics.items()}
    )
    for name, states in saved["metrics"].items():
        for state, value in states.items():
            current = getattr(metrics[name], state, None)  # a metric's own tensor may be on another device
            device = current.device if isinstance(current, torch.Tensor) else machine.strategy.root_device
            setattr(metrics[name], state, _placed(value, device))


def modes_of(machine: L.Trainer) -> dict[str, dict[str, bool]]:
    """Return which parameters are trained, and the training modes of modules: a callback that unfreezes layers changes them."""
    net: nn.Module = machine.lightning_module
    modules = dict(net.named_modules())
    tracks = {name: each.track_running_stats for name, each in modules.items() if hasattr(each, "track_running_stats")}
    return {
        "requires_grad": {name: each.requires_grad for name, each in net.named_parameters()},
        "training": {name: each.training for name, each in modules.items()} | _modes_before_validation(machine),
        "track_running_stats": tracks,
    }


def _modes_before_validation(machine: L.Trainer) -> dict[str, bool]:
    """Return the modes that Lightning restores after the running validation; an empty dict if no validation is running."""
    loop = machine.fit_loop.epoch_loop.val_loop
    return dict(loop._module_mode.mode) if machine.validating else {}  # noqa: SLF001 - Lightning has no public name for it


def restore_modes(net: nn.Module, saved: Mapping[str, Mapping[str, bool]]) -> None:
    """Restore the modes that `modes_of` returned."""
    owners: Mapping[str, Mapping[str, Any]] = {
        "requires_grad": dict(net.named_parameters()),
        "training": dict(net.named_modules()),
        "track_running_stats": dict(net.named_modules()),
    }
    for attribute, values in saved.items():
        for name in values.keys() & owners[attribute].keys():  # a hook can add modules during training
            setattr(owners[attribute][name], attribute, values[name])


def _metrics(net: nn.Module) -> dict[str, Metric]:
    return {name: module for name, module in net.named_modules() if isinstance(module, Metric)}


class _NoMetric(Metric):
    """A metric that has only the attributes of every metric."""

    def update(self) -> None:
        """Do nothing."""

    def compute(self) -> None:
        """Return nothing."""


_COMMON: Final = frozenset(vars(_NoMetric()))


def _states(metric: Metric) -> list[str]:
    """Return the names of a metric's state: torchmetrics' states, and the metric's own numbers, such as the minimum of `MinMaxMetric`."""
    declared = (*metric._defaults, "_update_count")  # noqa: SLF001 - torchmetrics has no public name for it
    own = [name for name, value in vars(metric).items() if isinstance(value, torch.Tensor | bool | int | float)]
    return [*declared, *(name for name in own if name not in _COMMON and name not in declared)]


def _options(metric: _ResultMetric) -> dict[str, Any]:
    meta = metric.meta
    return {  # these names are part of the checkpoint format
        "said": {name: getattr(meta, name) for name in _OPTIONS} | {"metric_attribute": meta.metric_attribute},
        "reduced": meta.reduce_fx.__name__,
        "shared": (meta.sync.should, meta.sync.rank_zero_only),
    }


def _written(metric: _ResultMetric) -> dict[str, Any]:
    return {
        **_options(metric),
        "sums": {name: getattr(metric, name) for name in _SUMS if hasattr(metric, name)},
        "count": metric._update_count,  # noqa: SLF001
    }


def _metadata(written: dict[str, Any], machine: L.Trainer) -> _Metadata:
    should, rank_zero_only = written["shared"]
    meta = _Metadata(**written["said"], reduce_fx=getattr(torch, written["reduced"]))
    meta.sync = _RestoredSync(fn=machine.strategy.reduce, _should=should, rank_zero_only=rank_zero_only)
    return meta


def _read_metric(written: dict[str, Any], metric: Metric, machine: L.Trainer) -> _ResultMetric:
    """Return the entry of a metric that the module logged; Lightning computes its value at the end of the epoch."""
    logged = _ResultMetric(_metadata(written, machine), is_tensor=False)
    logged.value, logged.has_reset = metric, False
    logged._update_count = 1  # noqa: SLF001 - otherwise Lightning warns that there is no value
    return logged


def _read(written: dict[str, Any], machine: L.Trainer) -> _ResultMetric:
    metric = _ResultMetric(_metadata(written, machine), is_tensor=True)
    for name, value in written["sums"].items():
        setattr(metric, name, value.to(machine.strategy.root_device))
    metric._update_count = written["count"]  # noqa: SLF001
    return metric


def _placed(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return [_placed(one, device) for one in value] if isinstance(value, list) else value
