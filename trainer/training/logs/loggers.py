"""Loggers and progress displays of a training: metrics.jsonl at full precision, TensorBoard, Weights & Biases, MLflow, a bar or lines.

Messages are passed to a callable; this module does not print. A page of Weights & Biases shows the metrics and the inputs of the run from
its record. The library's automatic metadata (command line, host, user, git remote, packages, terminal output) is disabled: the record has
the relevant facts, and a command line or an output may contain private data. Records do not contain secret settings.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from trainer.base.digest import canonical
from trainer.base.errors import SettingError
from trainer.runs.metric_text import metric_text
from trainer.settings.ledger import call_configured, configured
from trainer.training.logs.guarded_loggers import guard, report_failure
from trainer.training.logs.log_file import LogFile
from trainer.training.results import is_plain, numbers, undefined_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import lightning as L
    from lightning.pytorch.loggers import WandbLogger
    from torch import Tensor

    from trainer.runs.record import Record
    from trainer.training.logs.guarded_loggers import Report
    from trainer.training.tasks.metrics import MeanLoss

    Say = Callable[[str], None]

METRICS: Final = "metrics.jsonl"


class JsonLines(Logger):
    """Writes a line of JSON for each logged step, without times, so equal runs write equal bytes."""

    name = "metrics"
    version = ""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = LogFile(path)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the record contains the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a line."""
        self.file.append(canonical({"step": step, **metrics}) + b"\n")


@configured
def loggers(
    folder: Path,
    record: Record | None = None,
    report: Report = lambda *_: None,
    *,
    tensorboard: bool,
    wandb: str,
    wandb_project: str,
) -> list[Logger]:
    """Return the loggers for the folder of an attempt. A library is imported only if requested. The page of a run shows its record.

    `report` is called with the missing logs of a failed logger, and the reason.
    """
    found: list[Logger] = [JsonLines(folder / METRICS)]
    if tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        found.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if wandb != "off":
        found += pages(folder, record, report, project=wandb_project, offline=wandb == "offline")
    return [*found, *call_configured(trackers, record, report)]


@configured
def trackers(record: Record | None, report: Report, *, mlflow: str, mlflow_experiment: str) -> list[Logger]:
    """Return the logger of MLflow, if requested, in the process that has the record."""
    if mlflow == "off" or record is None:
        return []
    from trainer.training.logs.mlflow_run import tracked

    return tracked(record, report, address=mlflow, experiment=mlflow_experiment)


def finish(loggers: Iterable[Logger]) -> None:
    """Finish all loggers, Weights & Biases included, before the record stores the digest of each file.

    Skip a logger that never wrote: access to its `experiment` would start it.
    """
    for logger in loggers:
        end = getattr(getattr(logger, "_experiment", None), "finish", None)
        if end is not None:
            end()


@configured
def displays(say: Say, *, on_terminal: bool, progress: bool) -> list[Callback]:
    """Return the progress display: a bar on a terminal, lines in a pipe."""
    if not progress:
        return []
    return [Bar(leave=False, console_kwargs={"stderr": True})] if on_terminal else [EpochLines(say)]


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
        """Store the step at which the training starts."""
        self.before = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Log the loss if the step is a multiple of the interval."""
        step, before = trainer.global_step, self.before
        self.before = step
        if step > before and step % self.every == 0:
            _tell(trainer, "train_loss", _losses(pl_module).last)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the mean of the epoch and reset it."""
        losses = _losses(pl_module)
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


def _losses(net: L.LightningModule) -> MeanLoss:
    found: Any = net.learned
    return cast("MeanLoss", found)


def _tell(trainer: L.Trainer, name: str, value: Tensor | None) -> None:
    if value is not None:
        for logger in trainer.loggers:
            logger.log_metrics({name: float(value), "epoch": trainer.current_epoch}, step=trainer.global_step)


class Bar(RichProgressBar):
    """Lightning's progress bar, with epochs counted from 1 and the training loss."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Add the training loss to the bar, and format the numbers."""
        last = None if is_plain(pl_module) else _losses(pl_module).last
        shown = {**super().get_metrics(trainer, pl_module), **({} if last is None else {"train_loss": float(last)})}
        return {name: metric_text(value) if isinstance(value, float) else value for name, value in shown.items()}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


class EpochLines(Callback):
    """Prints one line per epoch."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.began = monotonic()
        """When this process began the epoch: a resumed epoch may have begun earlier."""
        self.reported: set[tuple[str, str]] = set()
        """The undefined metrics that were reported, with the reason."""
        self.reported_early: set[str] = set()
        """The undefined metrics that were reported before the first step."""

    def on_train_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Store the undefined metrics that were reported before the first step."""
        self.reported_early.update(undefined_of(pl_module))

    def on_train_epoch_start(self, *_: object) -> None:
        """Start the clock."""
        self.began = monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the results of the epoch."""
        if not trainer.is_global_zero:
            return
        undefined, shows_all = undefined_of(pl_module), is_plain(pl_module)
        shown = {
            name: "undefined" if name in undefined else metric_text(value)
            for name, value in numbers(trainer.callback_metrics).items()
            if shows_all or name.startswith(("train_loss_mean", "val_"))
        }
        metrics = "  ".join(
            f"{name.replace('train_loss_mean', 'train_loss')} {value}" for name, value in sorted(shown.items())
        )
        place = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {trainer.global_step}"
        self.say(f"{place}  {metrics}  ({monotonic() - self.began:.1f} s)")
        for name, why in undefined.items():
            if (name, why) not in self.reported and name not in self.reported_early:
                self.say(f"{name} is undefined: {why}")
        self.reported.update(undefined.items())
        self.reported_early.clear()


def pages(folder: Path, record: Record | None, report: Report, *, project: str, offline: bool) -> list[Logger]:
    """Return the guarded logger for the folder of an attempt; if a resumed run's page cannot be created, report that and return none."""
    try:
        return [guard(page(folder, record, project=project, offline=offline), report)]
    except SettingError as fault:
        if record is None or record.attempt == 1:
            raise
        report_failure(report, "WandbLogger", fault)
        return []


def page(folder: Path, record: Record | None, *, project: str, offline: bool) -> WandbLogger:
    """Return the logger for the folder of an attempt; WANDB_MODE=offline also selects offline mode.

    Raise `SettingError` without a key, or if the server is unreachable.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        host="",
        program="reprise",
        save_code=False,
        silent=True,
        symlink=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    logger = WandbLogger(
        project=project,
        save_dir=folder,
        offline=offline,
        log_model=False,
        settings=settings,
        config=facts(record) if record else None,
        **_named(record) if record else {},
    )
    logger._wandb_init.pop("anonymous", None)  # noqa: SLF001 - the library complains about what Lightning always passes
    if not offline:
        try:  # create the page before the first step
            _ = logger.experiment
        except (wandb.Error, ValueError) as fault:
            hint = "set WANDB_API_KEY in the shell or in .env, or use --wandb offline"
            raise SettingError(f"--wandb online: {str(fault).splitlines()[0]}", hint=hint) from fault
    return logger


def facts(record: Record) -> dict[str, Any]:
    """Return the content of the page: the settings by name, and under `reprise` the digests of the inputs of the run."""
    circumstances = record.circumstances
    return {
        **record.ingredients.settings,
        "reprise": {
            "run": record.run,
            "attempt": record.attempt,
            "identity": record.identity,
            "ingredients": record.ingredients.model_dump(mode="json", exclude={"settings"}),
            "manifests": circumstances.manifests,
            "image": circumstances.image.model_dump(mode="json", exclude_none=True),
            "commit": circumstances.source.commit,
            "dirty": circumstances.source.dirty,
        },
    }


def _named(record: Record) -> dict[str, Any]:
    """Return the id, name and group of the page; a resumed attempt has its own page in the group of the run."""
    own = record.run if record.attempt == 1 else f"{record.run}-{record.attempt}"
    return {"id": own, "name": own, "group": record.run, "job_type": record.ingredients.experiment[:64]}
