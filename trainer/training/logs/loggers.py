"""What a training tells while it goes on: metrics.jsonl at full precision, TensorBoard, a bar or a line an epoch.

Knows where each metric goes. Refuses to print: what is said goes to whoever was handed in.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from trainer.base.digest import canonical
from trainer.runs.metric_text import metric_text
from trainer.settings.ledger import configured
from trainer.training.logs.log_file import LogFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import lightning as L
    from torch import Tensor

    from trainer.runs.record import Record
    from trainer.training.tasks.mean_loss import MeanLoss

    Say = Callable[[str], None]

METRICS: Final = "metrics.jsonl"


class JsonLines(Logger):
    """A line of JSON for each logged step: no times in it, so that two equal runs write equal bytes."""

    def __init__(self, path: Path) -> None:
        """Append to the file `path`."""
        super().__init__()
        self.file = LogFile(path)

    @property
    def name(self) -> str:
        """Lightning's name for this logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Lightning's version of this logger."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing: the record holds the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a line."""
        self.file.append(canonical({"step": step, **metrics}) + b"\n")


@configured
def loggers(
    folder: Path, record: Record | None = None, *, tensorboard: bool, wandb: str, wandb_project: str
) -> list[Logger]:
    """Make the loggers of an attempt's folder; each library is imported only if it is asked for. The page of a run tells its record."""
    made: list[Logger] = [JsonLines(folder / METRICS)]
    if tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        made.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if wandb != "off":
        from trainer.training.logs.weights_and_biases import page

        made.append(page(folder, record, project=wandb_project, offline=wandb == "offline"))
    return made


def finish(made: Iterable[Logger]) -> None:
    """Have every logger end its writing now, Weights & Biases too: the record is about to name every file by its digest.

    One that never wrote is left alone: asking it for its `experiment` would start it.
    """
    for logger in made:
        end = getattr(getattr(logger, "_experiment", None), "finish", None)
        if end is not None:
            end()


@configured
def displays(say: Say, *, on_terminal: bool, progress: bool) -> list[Callback]:
    """Make what shows progress: a bar on a terminal, lines in a pipe."""
    if not progress:
        return []
    return [Bar(leave=False, console_kwargs={"stderr": True})] if on_terminal else [EpochLines(say)]


@configured
class LossLines(Callback):
    """Tells every logger the training loss now and then, and its mean at the end of an epoch.

    Lightning's `log` would do so too, and takes a tenth of a small net's step for each name, most of it at steps that nobody is told of.
    Where an experiment's own `training_step` adds nothing to `learned`, nothing is told.
    """

    def __init__(self, *, log_every: int) -> None:
        """Tell of every so many steps of the optimizer."""
        self.every = log_every
        self.before = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin where the training does."""
        del pl_module
        self.before = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Tell of a step whose turn it is."""
        del outputs, batch, batch_idx
        step, before = trainer.global_step, self.before
        self.before = step
        if step > before and step % self.every == 0:
            _tell(trainer, "train_loss", _losses(pl_module).last)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of the epoch; the next begins with nothing."""
        losses = _losses(pl_module)
        if losses.update_called:
            mean = losses.compute()
            losses.reset()
            pl_module.log("train_loss_mean", mean.float(), logger=False)
            _tell(trainer, "train_loss_mean", mean)


def log_at_steps(trainer: L.Trainer) -> None:
    """Log what an experiment gives to `self.log` at the step that `trainer.global_step` counts, as everything else is.

    Lightning's own count is of batches, from 0: a line of a step would be one step early, and with two optimizers at half of the steps.
    """
    connector: Any = trainer._logger_connector  # noqa: SLF001 - Lightning has no public name for it
    logged = connector.log_metrics

    def log_metrics(metrics: Mapping[str, Any], step: int | None = None) -> None:
        if metrics and step is None and "step" not in metrics:
            logged({"epoch": trainer.current_epoch, **metrics}, step=trainer.global_step)
        else:
            logged(metrics, step=step)

    connector.log_metrics = log_metrics


def _losses(net: L.LightningModule) -> MeanLoss:
    """Give the mean of the training's losses that a task keeps."""
    found: Any = net.learned
    return cast("MeanLoss", found)


def _tell(trainer: L.Trainer, name: str, value: Tensor | None) -> None:
    if value is not None:
        for logger in trainer.loggers:
            logger.log_metrics({name: float(value), "epoch": trainer.current_epoch}, step=trainer.global_step)


class Bar(RichProgressBar):
    """Lightning's bar, with epochs counted from 1, as everywhere else, and the training loss."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Add the training loss to what a bar shows, and write numbers as everywhere else."""
        last = _losses(pl_module).last
        shown = {**super().get_metrics(trainer, pl_module), **({} if last is None else {"train_loss": float(last)})}
        return {name: metric_text(value) if isinstance(value, float) else value for name, value in shown.items()}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


class EpochLines(Callback):
    """A plain line an epoch."""

    def __init__(self, say: Say) -> None:
        """Tell `say`."""
        self.say = say
        self.began = monotonic()
        """When this process began with the epoch: a resumed one may have been under way."""
        self.said: set[tuple[str, str]] = set()
        """The undefined metrics that were said already, with the reason."""
        self.foreseen: set[str] = set()
        """Those that were noted before the first step."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Know what was noted of the data before the first step."""
        del trainer
        self.foreseen.update(getattr(pl_module, "undefined", {}))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self.began = monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what the epoch came to."""
        if not trainer.is_global_zero:
            return
        undefined = getattr(pl_module, "undefined", {})
        shown = {
            name: "undefined" if name in undefined else metric_text(float(value))
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train_loss_mean", "val_"))
        }
        metrics = "  ".join(
            f"{name.replace('train_loss_mean', 'train_loss')} {value}" for name, value in sorted(shown.items())
        )
        place = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {trainer.global_step}"
        self.say(f"{place}  {metrics}  ({monotonic() - self.began:.1f} s)")
        for name, why in undefined.items():
            if (name, why) not in self.said and name not in self.foreseen:
                self.say(f"{name} is undefined: {why}")
        self.said.update(undefined.items())
        self.foreseen.clear()


class TellFirstStep(Callback):
    """Tells when the first step begins."""

    def __init__(self, tell: Callable[[], None]) -> None:
        """Call `tell`."""
        self.tell = tell

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Tell it; once said, it stays so."""
        del trainer, pl_module, batch, batch_idx
        self.tell()
