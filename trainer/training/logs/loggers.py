"""The loggers of a training run: metrics.jsonl at full precision, TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from trainer.base.digest import canonical
from trainer.settings.ledger import call_configured, configured
from trainer.training.logs.log_file import LogFile
from trainer.training.logs.wandb_page import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from trainer.runs.record import Record
    from trainer.training.logs.guarded_loggers import Report

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
    """Return the loggers for the folder of an attempt. The library of a logger is imported only if a setting requests it.

    `record` is shown on the page of the run. `report` is called with the name of a failed logger's logs, and the reason.
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
    """Return the MLflow logger, if a setting requests it and this process has the record."""
    if mlflow == "off" or record is None:
        return []
    from trainer.training.logs.mlflow_run import tracked

    return tracked(record, report, address=mlflow, experiment=mlflow_experiment)


def finish(loggers: Iterable[Logger]) -> None:
    """Finish the loggers whose experiment has a method `finish`, such as Weights & Biases, before the record stores the files' digests.

    Skip a logger that never wrote: access to its `experiment` would start it.
    """
    for logger in loggers:
        end = getattr(getattr(logger, "_experiment", None), "finish", None)
        if end is not None:
            end()
