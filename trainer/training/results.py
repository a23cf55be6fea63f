"""The results of a net's evaluations, by metric. A task stores its results; a plain LightningModule's are collected from its logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning as L


@dataclass(slots=True)
class ModuleResults:
    """The results of a plain module since its last training step."""

    values: dict[str, float] = field(default_factory=dict)
    """The values that were logged for the epoch, the validation and the test."""
    last: dict[str, float] = field(default_factory=dict)
    """The values of the last validation or test."""


_collected: Final[WeakKeyDictionary[L.LightningModule, ModuleResults]] = WeakKeyDictionary()
"""Results by module, not as an attribute of the module, which could hide an attribute of the same name."""


def is_plain(net: L.LightningModule) -> bool:
    """Return whether a net is a plain module, whose results are collected."""
    return net in _collected


def results_of(net: L.LightningModule) -> dict[str, float]:
    """Return the results of a net since its last training step."""
    return _collected[net].values if is_plain(net) else getattr(net, "results", {})


def undefined_of(net: L.LightningModule) -> dict[str, str]:
    """Return the reason for each metric that is NaN; empty for a plain module."""
    return {} if is_plain(net) else getattr(net, "undefined", {})


def evaluated(net: L.LightningModule, split: str) -> dict[str, float]:
    """Return the results of the evaluation of `split` that has just ended."""
    if is_plain(net):
        return _collected[net].last
    return {name: value for name, value in results_of(net).items() if name.startswith(f"{split}_")}


def forget_results(net: Any) -> None:
    """Remove the results, which belong to earlier weights of the net."""
    if is_plain(net):
        _collected[net] = ModuleResults()
    else:
        net.results, net.undefined = {}, {}


class CollectResults(Callback):
    """Collects the values that a plain module logs for an epoch, a validation and a test, as the results of the run."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Collect after all hooks at the end of an epoch: a module may log in its own hooks."""
        del stage
        _collected.setdefault(pl_module, ModuleResults())
        connector: Any = trainer._logger_connector  # noqa: SLF001 - Lightning has no hook after a module's own
        if "on_epoch_end" in vars(connector):
            return
        for name in ("on_epoch_end", "update_eval_epoch_metrics"):
            setattr(connector, name, _collecting(getattr(connector, name), trainer, pl_module))

    def on_validation_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Delete the values of the last validation."""
        _collected[pl_module].last = {}

    def on_test_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Delete the values of the last validation or test."""
        _collected[pl_module].last = {}

    def on_train_batch_start(self, _trainer: object, pl_module: L.LightningModule, *_: object) -> None:
        """Delete the results before the next step."""
        forget_results(pl_module)


def _collecting(finished: Callable[[], Any], trainer: L.Trainer, net: L.LightningModule) -> Callable[[], Any]:
    """Return `finished`, after which the logged numbers are collected.

    Lightning has the values of only one loader at a time: it calls `update_eval_epoch_metrics` after each loader.
    """

    def collecting() -> Any:
        returned, values, results = finished(), _logged_numbers(trainer), _collected[net]
        results.values.update(values)
        if not trainer.training:
            results.last.update(values)
        return returned

    return collecting


def _logged_numbers(trainer: L.Trainer) -> dict[str, float]:
    """Return the logged numbers by name, with the last values of those that were logged for steps only.

    A value that is logged for steps and for epochs is named once: Lightning has it also as `NAME_epoch`.
    """
    found: Any = trainer._results  # noqa: SLF001 - Lightning keeps them under no public name
    connector: Any = trainer._logger_connector  # noqa: SLF001
    items = {found._forked_name(each, on_step=False)[0]: each for _, each in found.valid_items()}  # noqa: SLF001
    steps = {
        name: each.value
        for name, each in items.items()
        if each.is_tensor and each.meta.on_step and not each.meta.on_epoch
    }
    logged = {**steps, **connector.metrics["callback"]}
    return {name: float(value) for name, value in logged.items() if name in items and value.numel() == 1}
