"""A task: what a net is trained for. It brings loss, metrics and optimizer, so that an experiment's net is a `forward`.

Knows how a step, a validation and a test go for any net. Refuses to know which loss and which metrics: its two kinds do.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection

from trainer.errors import DatasetError, ExperimentError
from trainer.ledger import configured
from trainer.suggest import did_you_mean
from trainer.training.optimizers import make_optimizer, make_schedule
from trainer.training.readers import open_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from trainer.dataset import Dataset
    from trainer.files import Files
    from trainer.training.readers import Batch, Samples


class Task(L.LightningModule):
    """The base of nets: a subclass has a constructor and `forward`, and takes its sizes as parameters named like settings."""

    loss: Callable[[Tensor, Tensor], Tensor]
    measured: nn.ModuleDict
    results: dict[str, float]
    """Every metric of the last validation and of the test, at full precision."""
    tolerances: ClassVar[Mapping[str, float]] = {}
    """The largest difference of each result metric, as `test_accuracy`, that counts as none when two runs are compared."""

    @abstractmethod
    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the loss of predictions and targets, a mean over the batch."""

    @abstractmethod
    def make_metrics(self) -> MetricCollection:
        """Make the metrics of predictions and targets."""

    @property
    def validated(self) -> list[str]:
        """Name what a validation measures."""
        metrics = self.measured["val"]
        return ["val_loss", *(str(name) for name in metrics)] if isinstance(metrics, MetricCollection) else []

    def samples(self, declared: Dataset, files: Files) -> Samples:
        """Say how a sample is read: as the dataset declares. An experiment with a reader of its own returns that."""
        return open_samples(declared, files)

    def setup(self, stage: str) -> None:
        """Make what a step needs; Lightning calls this before it moves the net to its device."""
        if stage == "fit" or not hasattr(self, "measured"):
            self.results = {}
            self.loss = self.make_loss()
            self.fields = fields()
            metrics = self.make_metrics()
            self.measured = nn.ModuleDict({split: metrics.clone(prefix=f"{split}_") for split in ("val", "test")})
            self.losses = nn.ModuleDict({split: MeanMetric().set_dtype(torch.float64) for split in ("val", "test")})
            _check(self.tolerances, [f"{split}_{name}" for split in ("val", "test") for name in ("loss", *metrics)])

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Give the loss of a batch."""
        del index
        given, wanted = self._parted(batch)
        loss = self.loss(self(given), wanted)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(wanted))
        self.log("train_loss_mean", loss, on_step=False, on_epoch=True, batch_size=len(wanted), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Measure a batch of the validation split."""
        del index
        self._measure(batch, "val")

    def test_step(self, batch: Batch, index: int) -> None:
        """Measure a batch of the test split."""
        del index
        self._measure(batch, "test")

    def on_validation_epoch_start(self) -> None:
        """Begin with nothing: a validation that was broken off is made anew."""
        self._open("val")

    def on_test_epoch_start(self) -> None:
        """Begin with nothing."""
        self._open("test")

    def on_validation_epoch_end(self) -> None:
        """Close the validation's metrics."""
        self._close("val")

    def on_test_epoch_end(self) -> None:
        """Close the test's metrics."""
        self._close("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule, both by name."""
        optimizer = make_optimizer(self.parameters())
        schedule = make_schedule(optimizer, steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _open(self, split: str) -> None:
        self.losses[split].reset()  # type: ignore[operator]
        self.measured[split].reset()  # type: ignore[operator]

    def _measure(self, batch: Batch, split: str) -> None:
        given, wanted = self._parted(batch)
        predicted = self(given)
        self.losses[split].update(self.loss(predicted, wanted).double(), len(wanted))  # type: ignore[operator]
        self.measured[split].update(predicted, wanted)  # type: ignore[operator]

    def _close(self, split: str) -> None:
        found: dict[str, Any] = {f"{split}_loss": self.losses[split].compute(), **self.measured[split].compute()}  # type: ignore[operator]
        self._open(split)
        values = {name: float(value.item()) for name, value in found.items()}
        self.results |= values
        self.log_dict({name: value.float() for name, value in found.items()}, logger=False, sync_dist=True)
        for logger in self.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)

    def _parted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        given, wanted = self.fields
        for name in self.fields:
            if name not in batch:
                raise DatasetError(f"the dataset has no field {name!r}", hint=did_you_mean(name, batch))
        return batch[given], batch[wanted]


def _check(tolerances: Mapping[str, float], measured: list[str]) -> None:
    for name, value in tolerances.items():
        if name not in measured:
            said = f"the net declares a tolerance for {name!r}, which this task does not measure"
            raise ExperimentError(said, hint=did_you_mean(name, measured))
        if not 0 <= value < float("inf"):
            raise ExperimentError(f"the tolerance for {name} is {value}; expected a number from 0", hint="correct it")


@configured
def fields(*, input_field: str, target_field: str) -> tuple[str, str]:
    """Name the fields of a sample that the net is given and that it shall predict."""
    return input_field, target_field
