"""Logging of the training loss, and of the values that an experiment logs in its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch.callbacks import Callback

from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import lightning as L
    from torch import Tensor

    from trainer.training.tasks.metrics import MeanLoss

    Say = Callable[[str], None]


@configured
class LossLines(Callback):
    """Logs the training loss at intervals, and its mean at the end of an epoch.

    Lightning's `log` takes a tenth of the step time of a small net for each name, mostly at steps that are not logged.
    If the `training_step` of an experiment adds nothing to `learned`, nothing is logged.
    """

    def __init__(self, *, log_every: int) -> None:
        self.every = log_every
        self.before = 0

    def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
        """Store the step at which training starts."""
        self.before = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Log the loss if the step is a multiple of the interval."""
        step, before = trainer.global_step, self.before
        self.before = step
        if step > before and step % self.every == 0:
            _tell(trainer, "train_loss", mean_loss_of(pl_module).last)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the mean of the epoch and reset it."""
        losses = mean_loss_of(pl_module)
        if losses.update_called:
            mean = losses.compute()
            losses.reset()
            pl_module.log("train_loss_mean", mean.float(), logger=False)
            _tell(trainer, "train_loss_mean", mean)


def log_at_steps(trainer: L.Trainer) -> None:
    """Log the values of `self.log` in an experiment at the step `trainer.global_step`, like all other metrics.

    Lightning counts batches from 0: its step would be one too low, and half as large with two optimizers.
    """
    connector: Any = trainer._logger_connector  # noqa: SLF001 - Lightning has no public name for it
    logged = connector.log_metrics

    def log_metrics(metrics: Mapping[str, Any], step: int | None = None) -> None:
        if metrics and step is None and "step" not in metrics:
            logged({"epoch": trainer.current_epoch, **metrics}, step=trainer.global_step)
        else:
            logged(metrics, step=step)

    connector.log_metrics = log_metrics


def mean_loss_of(net: L.LightningModule) -> MeanLoss:
    """Return the mean training loss of a task's net in this epoch."""
    found: Any = net.learned
    return cast("MeanLoss", found)


def _tell(trainer: L.Trainer, name: str, value: Tensor | None) -> None:
    if value is not None:
        for logger in trainer.loggers:
            logger.log_metrics({name: float(value), "epoch": trainer.current_epoch}, step=trainer.global_step)
