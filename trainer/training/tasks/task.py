"""The base class of nets. A task supplies loss, metrics, checks, figures and optimizer; an experiment's net adds layers and `forward`.

The tasks are the modules `classification`, `segmentation`, `multi_label`, `regression`, `verification`, `sequences` and `multi_task`.
Experiments may override names without a leading underscore.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection, SumMetric

from trainer.base.errors import DatasetError, ExperimentError
from trainer.base.suggestions import did_you_mean, type_with_article
from trainer.settings.ledger import call_configured, configured
from trainer.training.normalization import fit_normalizations
from trainer.training.optimization.optimizers import make_optimizer, make_schedule, require_trainable, steps_of_each
from trainer.training.optimization.parameter_groups import require_one_optimizer_each, trained_parameters
from trainer.training.readers import open_samples
from trainer.training.readers.samples import BYTES, Alphabet
from trainer.training.tasks.metrics import MeanLoss
from trainer.training.tasks.outputs import (
    called,
    leaves,
    loss_of,
    metrics_of,
    no_gradient,
    nothing_measured,
    wrong_loss,
)
from trainer.training.tasks.predictions import PredictionForm
from trainer.training.tasks.split_metrics import NO_NUMBER, computed, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from torch.optim.lr_scheduler import LRScheduler

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection, SplitValues
    from trainer.runs.figure import Figure
    from trainer.training.readers import Batch, Sample, Samples
    from trainer.training.tasks.metrics import OutputRows
    from trainer.training.train_split import TrainSplit

SPLITS: Final = ("val", "test")
MADE_AT_SETUP: Final = (
    "loss",
    "losses",
    "learned",
    "measured",
    "blank",
    "kept",
    "results",
    "undefined",
    "pictures",
    "_used",
)
"""Attributes that `setup` creates; a constructor may not set them."""


class Task(L.LightningModule):
    """The base class of nets. A subclass defines `forward` and a constructor, whose parameters, such as sizes, are named like settings."""

    loss: Callable[[Tensor, Tensor], Tensor]
    learned: MeanLoss
    """The mean loss of the training steps in this epoch."""
    measured: nn.ModuleDict
    results: dict[str, float]
    """Every metric of the last validation and of the test, at full precision."""
    undefined: dict[str, str]
    """The reason why a metric is NaN, by the metric's name."""
    blank: nn.ModuleDict
    """The number of batches in each split with NaN in both the net's output and the loss."""
    tolerances: ClassVar[Mapping[str, float]] = {}
    """Largest absolute difference of each result metric, such as `test_accuracy`, that is within tolerance when two runs are compared."""
    frozen: ClassVar[Sequence[str]] = ()
    """Name prefixes of parameters that stay untrained on purpose; `reprise check` reports every other untrained parameter."""
    input_fields: ClassVar[Sequence[str]] = ()
    """The fields that `forward` takes as tensors, in this order; if empty, it takes the field that the setting `input_field` names."""
    causal: ClassVar[bool] = False
    """Whether `forward` maps `[batch, time, ...]` to `[batch, time, ...]` and an output depends only on inputs up to its time."""
    class_names: Sequence[str] = ()
    """The names of the classes, by number, if the dataset's reader provides them."""
    alphabet: Alphabet = BYTES
    """The numbers that encode texts in samples: bytes, or the tokens of the dataset's tokenizer."""
    kept: nn.ModuleDict
    """The test outputs that `record_outputs` stores for `figures`."""
    pictures: dict[str, bytes]
    """PNG files by file name; `figures` refers to them."""

    @abstractmethod
    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function of predictions and targets that computes the loss: a scalar, the mean over the batch."""

    @abstractmethod
    def make_metrics(self) -> MetricCollection:
        """Return the metrics; each is updated with the result of `metric_inputs`."""

    def samples(self, declared: Dataset, files: Files) -> Samples:
        """Open the samples with the reader that the dataset declares; override to use another reader."""
        return open_samples(declared, files)

    def transform(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Return a training sample, changed at random (augmentation): one tensor per field, with the dtypes of `sample` and no batch axis.

        Called after reading and before batching, for train only. Draw from `generator`, which is seeded by run, epoch and sample.
        """
        del generator
        return sample

    def fit_to_train(self, train: TrainSplit) -> list[str]:
        """Fit values to the training split before the first step, such as every `Normalize`; return lines to report.

        Called before `setup`, also in a resumed run, whose checkpoint then replaces parameters and buffers (`train.resumed`).
        """
        return fit_normalizations(self, train, field=next(iter(self.used_fields()), ""))

    def used_fields(self) -> tuple[str, ...]:
        """Return the names of the fields to read: `input_fields` or the setting `input_field`, and last the setting `target_field`."""
        return (*self.input_fields, target()) if self.input_fields else fields()

    def given_fields(self) -> tuple[str, ...]:
        """Return the fields that `forward` takes as they are read, in its order; empty if the task computes the inputs from the fields."""
        return self.used_fields()[:-1]

    def split_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the inputs and the targets of a batch; with `input_fields` the inputs are a tuple."""
        *given, wanted = (batch[name] for name in self._used)
        inputs: Any = tuple(given) if self.input_fields else given[0]
        return inputs, wanted

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the samples of a batch do not fit this task; called before the first step."""

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` or `SettingError` if values of any split cannot be trained on; return notes on odd values.

        Called before the first step with the values of every split, also by `reprise check`. Undefined metrics belong in `undefined_on`.
        """
        del seen
        return []

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output of `forward` has the wrong shape or dtype; called at every step."""

    def check_scores(self, predicted: Tensor, seen: Inspection) -> None:
        """Raise `DatasetError` if the output of `forward` has no score for a target of any split; called before the first step."""

    def describe_oddity(self, predicted: Tensor, wanted: Tensor) -> tuple[str, str] | None:
        """Return a message about odd predictions of the right shape and dtype, and a hint; a run and `reprise check` report both."""
        del predicted, wanted
        return None

    def undefined_on(self, seen: SplitValues) -> dict[str, str]:
        """Return the metrics that are undefined on a split with the values `seen`, such as `r2`, each with the reason."""
        del seen
        return {}

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the arguments of the metrics' `update`."""
        return predicted, wanted

    def counted(self, wanted: Tensor) -> Tensor | int:
        """Return the number of elements over which the loss averages: the weight of the batch in the mean loss of a split."""
        return len(wanted)

    def prediction_form(self) -> PredictionForm:
        """Return how the outputs of `forward` become the predictions that `reprise predict` and a model package return."""
        return PredictionForm()

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return the buffers that `record_outputs` fills."""
        return {}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a test batch that `figures` needs; `given` is the first of several inputs."""

    def figures(self) -> list[Figure]:
        """Return figures of the test's results, and add PNG files to `pictures`; called after the test, on rank 0 only."""
        return []

    def make_loggers(self, folder: Path) -> Sequence[Logger]:
        """Return further Lightning loggers of a run; loggers that write files write below `folder`, which does not exist yet."""
        del folder
        return ()

    @property
    def validated(self) -> list[str]:
        """Return the names of the validation metrics."""
        metrics = self.measured["val"]
        return ["val_loss", *(str(name) for name in metrics)] if isinstance(metrics, MetricCollection) else []

    def setup(self, stage: str) -> None:
        """Create loss, metrics and buffers; Lightning calls this before it moves the net to its device."""
        if stage == "fit" or not hasattr(self, "measured"):
            self.results, self.undefined, self.pictures = {}, {}, {}
            self.loss = loss_of(self)
            self._used = self.used_fields()
            metrics = metrics_of(self)
            self.measured = nn.ModuleDict({split: metrics.clone(prefix=f"{split}_") for split in SPLITS})
            self.losses = nn.ModuleDict({split: MeanLoss() for split in SPLITS})
            self.blank = nn.ModuleDict({split: SumMetric(nan_strategy="disable") for split in SPLITS})
            self.learned = MeanLoss()
            for each in self.modules():
                if isinstance(each, Metric):
                    each.sync_on_compute = False  # every process evaluates the whole split
            self.kept = nn.ModuleDict(self.make_output_buffers())
            _check(self.tolerances, [f"{split}_{name}" for split in SPLITS for name in ("loss", *metrics)])

    def evaluation_metrics(self) -> list[nn.Module]:
        """Return the modules of the metrics that only evaluations update."""
        return [each for part in (self.measured, self.losses, self.blank, self.kept) for each in part.modules()]

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a batch; `learned` collects it for the progress display."""
        del index
        given, wanted = self._input_and_target(batch)
        predicted = called(self, given)
        self.check_output(predicted, wanted)
        loss = self._loss(predicted, wanted)
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise no_gradient(self)
        self.learned.update(loss, self.counted(wanted))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Measure a batch of the validation split."""
        del index
        self._measure(batch, "val")

    def test_step(self, batch: Batch, index: int) -> None:
        """Measure a batch of the test split and store its outputs for `figures`."""
        del index
        self.record_outputs(*self._measure(batch, "test"))

    def on_validation_epoch_start(self) -> None:
        """Reset the validation metrics, because an interrupted validation starts again."""
        self._open("val")

    def on_test_epoch_start(self) -> None:
        """Reset the test metrics and the buffers."""
        self._open("test")
        for rows in self.kept.values():
            rows.reset()  # type: ignore[operator]

    def on_validation_epoch_end(self) -> None:
        """Compute, log and reset the validation metrics. Raise `ExperimentError` if the steps measured nothing."""
        self._close("val")

    def on_test_epoch_end(self) -> None:
        """Compute, log and reset the test metrics. Raise `ExperimentError` if the steps measured nothing."""
        self._close("test")

    def optimized_modules(self) -> Sequence[nn.Module]:
        """Return the module that each optimizer trains. A net with several optimizers steps them manually in its `training_step`."""
        return (self,)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return an optimizer with its schedule for each of `optimized_modules`.

        Raise `ExperimentError` if the net has nothing to train, if a trained parameter is not in exactly one optimizer, or if automatic
        optimization would have to step several optimizers.
        """
        call_configured(require_trainable, self)
        modules = [*self.optimized_modules()]
        if len(modules) != 1 and self.automatic_optimization:
            message = (
                f"{type(self).__name__} has {len(modules)} optimizers, but automatic optimization steps exactly one"
            )
            hint = "set self.automatic_optimization = False in the constructor, and step each in training_step"
            raise ExperimentError(message, hint=hint)
        steps = steps_of_each(self.trainer, optimizers=len(modules))
        optimizers = [make_optimizer(call_configured(trained_parameters, self, [each])) for each in modules]
        require_one_optimizer_each(self, optimizers)
        schedules = [make_schedule(each, steps=steps) for each in optimizers]
        if self.automatic_optimization:
            return {"optimizer": optimizers[0], "lr_scheduler": {"scheduler": schedules[0], "interval": "step"}}
        # Lightning steps no schedule in manual optimization
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.register_step_post_hook(partial(_advance, schedule))
        return optimizers, schedules

    def _open(self, split: str) -> None:
        self.losses[split].reset()  # type: ignore[operator]
        self.measured[split].reset()  # type: ignore[operator]
        self.blank[split].reset()  # type: ignore[operator]

    def _loss(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        loss: Any = self.loss(predicted, wanted)
        if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
            raise wrong_loss(self, loss)
        return loss

    def _measure(self, batch: Batch, split: str) -> tuple[Tensor, Tensor, Tensor]:
        given, wanted = self._input_and_target(batch)
        predicted = called(self, given)
        self.check_output(predicted, wanted)
        loss = self._loss(predicted, wanted)
        self.losses[split].update(loss, self.counted(wanted))  # type: ignore[operator]
        with noting(f"the metrics of {split}", predicted, wanted):
            self.measured[split].update(*self.metric_inputs(predicted, wanted))  # type: ignore[operator]
        if found := [each for each in leaves(predicted) if each.is_floating_point()]:
            gave_nan = torch.stack([each.detach().isnan().any() for each in found]).any()
            self.blank[split].update(loss.detach().isnan() & gave_nan)  # type: ignore[operator]
        return leaves(given)[0], predicted, wanted

    def _close(self, split: str) -> None:
        if not self.losses[split].update_called:
            raise nothing_measured(self, split)
        found, undefined = self._computed(split)
        self._open(split)
        values = {name: float(value) for name, value in found.items()}
        self.results |= values
        self.undefined = {name: why for name, why in self.undefined.items() if name not in found} | undefined
        self.log_dict({name: value.float() for name, value in found.items()}, logger=False, sync_dist=True)
        for logger in self.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)

    def _computed(self, split: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the loss and the metrics of a split, and the reason for each NaN; if the net returned NaN, every metric is NaN."""
        blank = int(self.blank[split].compute())  # type: ignore[operator]
        metrics: Any = self.measured[split]
        found, undefined = computed(metrics)
        loss = self._mean_loss(split, found)
        if blank:
            undefined = dict.fromkeys(
                found, f"the net returned NaN for {blank} batch{'' if blank == 1 else 'es'} of {split}"
            )
            found = {name: torch.full_like(value, torch.nan) for name, value in found.items()}
        if bool(loss.isnan()):
            undefined[f"{split}_loss"] = next(iter(undefined.values())) if blank else NO_NUMBER
        return {f"{split}_loss": loss, **found}, undefined

    def _mean_loss(self, split: str, found: Mapping[str, Tensor]) -> Tensor:
        """Return the mean loss of a split, `[]`, whose metrics are `found`."""
        del found
        loss: Tensor = self.losses[split].compute()  # type: ignore[operator]
        return loss

    def _input_and_target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        for name in self._used:
            if name not in batch:
                raise DatasetError(f"the dataset has no field {name!r}", hint=did_you_mean(name, batch))
        pair: Any = self.split_batch(batch)
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - input and target
            message = f"{type(self).__name__}.split_batch returns {type_with_article(pair)}"
            raise ExperimentError(
                f"{message}; expected two tensors, the net's input and its target",
                hint="return batch[INPUT], batch[TARGET]",
            )
        return pair[0], pair[1]


def _advance(schedule: LRScheduler, *_: object) -> None:
    schedule.step()


def _check(tolerances: Mapping[str, float], measured: list[str]) -> None:
    for name, value in tolerances.items():
        if name not in measured:
            message = f"the net declares a tolerance for {name!r}, which this task does not measure"
            raise ExperimentError(message, hint=did_you_mean(name, measured))
        if not 0 <= value < float("inf"):
            message = f"the tolerance for {name} is {value}; expected 0 or more"
            raise ExperimentError(message, hint=f'change `tolerances["{name}"]` of the net')


@configured
def fields(*, input_field: str, target_field: str) -> tuple[str, str]:
    """Return the names of the input field and the target field."""
    return input_field, target_field


@configured
def target(*, target_field: str) -> str:
    """Return the name of the target field."""
    return target_field
