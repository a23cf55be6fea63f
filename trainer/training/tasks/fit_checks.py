"""Checks before the first step that a net and its data fit the task: a trial with two samples, and the inspected values.

If a check fails, no run is stored. A task's own checks are `Task.check_batch`, `Task.check_values`, `Task.check_output`
and `Task.check_scores`.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from trainer.base.errors import DatasetError, ExperimentError, RepriseError, SettingError
from trainer.base.suggestions import counted
from trainer.data.inspection import describe_farthest, describe_not_finite
from trainer.runs.metric_text import metric_text
from trainer.settings.ledger import call_configured, configured
from trainer.training.normalization import fields_unchanged
from trainer.training.optimization.optimizers import describe_short_warmup, require_reached, steps_of_each
from trainer.training.tasks.outputs import called, described, leaves
from trainer.training.tasks.split_metrics import require_numbers
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import lightning as L

    from trainer.data.inspection import Inspection
    from trainer.training.data import RunData
    from trainer.training.experiment import Experiment
    from trainer.training.readers import Batch

    Moved = Callable[[Batch], Batch]

_LARGE: Final = 1e3
"""Fields with values below this limit need no trial with their largest value."""
_ENORMOUS: Final = 1e9
"""The size of an output or a loss from which training rarely recovers."""
MEASURED: Final = ("val", "test")
TRAIN: Final = "train"
SPLITS: Final = (TRAIN, *MEASURED)


class CheckNet(Callback):
    """Try the net on two samples; raise `DatasetError`, `SettingError` or `ExperimentError` if its data or output does not fit its task."""

    def __init__(
        self, experiment: Experiment, data: RunData, seen: Inspection | None, say: Callable[[str], None]
    ) -> None:
        """Take samples from `data`; `seen` holds the values that rank 0 inspected."""
        self.experiment, self.data, self.seen, self.say = experiment, data, seen, say

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try the net on the device and in the precision of the run; every rank uses the inspection of rank 0."""
        if not (isinstance(pl_module, Task) and self.experiment.has_package_steps):
            return
        seen = trainer.strategy.broadcast(self.seen) if trainer.world_size > 1 else self.seen

        def moved(batch: Batch) -> Any:
            return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))

        samples = len(next(iter(self.data.example().values())))
        with trainer.precision_plugin.forward_context(), single_values(pl_module, samples) as singles:
            notes, predicted = require_fit(pl_module, self.data, seen, moved)
        if type(pl_module).configure_optimizers is Task.configure_optimizers:
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            trained = [each for group in groups for each in group["params"]]
            computed_with = getattr(trainer.strategy, "computed_with", list)
            require_reached(pl_module, predicted, computed_with(trained))
            steps = steps_of_each(trainer, optimizers=len(trainer.optimizers))
            schedules = (each.scheduler for each in trainer.lr_scheduler_configs)
            notes += dict.fromkeys(filter(None, (describe_short_warmup(each, steps=steps) for each in schedules)))
        self._check_last_batch(trainer, singles, samples)
        if trainer.is_global_zero:
            for note in notes:
                self.say(note)

    def _check_last_batch(self, trainer: L.Trainer, singles: dict[str, nn.Module], samples: int) -> None:
        if samples != min(2, self.data.count_of(TRAIN)):  # a batch of pairs has at least two samples
            return
        counts = {split: self.data.count_of(split) for split in SPLITS}
        steps = trainer.max_steps * trainer.accumulate_grad_batches
        if 0 <= steps <= counts[TRAIN] // self.data.batch_size:  # `max_steps` ends the run before the last batch
            del counts[TRAIN]
        require_more_than_one(singles, counts, batch_size=self.data.batch_size, shards=self.data.shards)

    def on_exception(self, trainer: L.Trainer, _net: object, exception: BaseException) -> None:
        """Add a note to an exception in a last batch of one sample: batch statistics need more than one sample."""
        if isinstance(exception, RepriseError) or not (trainer.training and trainer.is_last_batch):
            return
        count = self.data.count_of(TRAIN)
        if last_batch(count, TRAIN, self.data.batch_size, self.data.shards) == 1:
            message = (
                f"the last batch of train has 1 sample ({counted(count, 'sample')}, batch size {self.data.batch_size})"
            )
            exception.add_note(f"{message}; another --batch-size avoids this")


def require_fit(net: Task, data: RunData, seen: Inspection | None, moved: Moved) -> tuple[list[str], Tensor]:
    """Raise if the net, its example batch or any inspected value does not fit the task; return notes and the output for the batch.

    `moved` moves a batch to the device of the net.
    """
    example = data.example()
    batch = moved(example)
    net.check_batch(*net._input_and_target(batch))  # noqa: SLF001 - private to this package
    notes = value_notes(net, seen, batch) if seen is not None else []
    predicted = try_out(net, batch, seen=seen)
    if data.trained is not data.picked:
        try_out(net, moved(data.trained_example()))
    odd = net.describe_oddity(predicted, net._input_and_target(batch)[1])  # noqa: SLF001 - private to this package
    if seen is not None:
        require_finite_losses(net, data, seen, moved)
        notes += describe_large(net, data, seen, moved)
    return [*(f"{data.declared.title}: {note}" for note in notes), *([f"{odd[0]}: {odd[1]}"] if odd else [])], predicted


def value_notes(net: Task, seen: Inspection, batch: Batch) -> list[str]:
    """Return the task's notes on the values of every split; empty if `batch` shows that the net does not use the fields unchanged.

    Store the reasons of undefined metrics in the net. Raise `SettingError` if the monitored metric is undefined.
    """
    if not _uses_fields_unchanged(net, batch):
        return []
    notes, undefined = net.check_values(seen), undefined_metrics(net, seen)
    call_configured(require_defined, undefined)
    net.undefined |= undefined
    return [*notes, *(f"{name} is undefined: {why}" for name, why in undefined.items())]


def undefined_metrics(net: Task, seen: Inspection) -> dict[str, str]:
    """Return the metrics, such as `val_r2`, that are undefined on the inspected values, each with the reason."""
    reasons = {split: net.undefined_on(seen.splits[split]) for split in MEASURED if split in seen.splits}
    return {f"{split}_{name}": why for split, each in reasons.items() for name, why in each.items()}


@configured
def require_defined(undefined: Mapping[str, str], *, monitor: str | None) -> None:
    """Raise `SettingError` if the monitored metric is undefined: it could not select an epoch."""
    if monitor is not None and (why := undefined.get(monitor)) is not None:
        message = f"setting monitor is {monitor!r}, which is undefined on the split val: {why}"
        raise SettingError(message, hint="--monitor val_loss, or use a split val on which the metric is defined")


def require_finite_losses(net: Task, data: RunData, seen: Inspection, moved: Moved) -> None:
    """Raise `DatasetError` if a used field holds NaN or infinities and the loss of such a sample is not finite either."""
    for field in net._used:  # noqa: SLF001 - private to this package
        for _, found, _ in seen.not_finite(field):
            _, loss = _try_sample(net, data, found.row, moved)
            if not math.isfinite(loss):
                message = describe_not_finite(seen, field, data.declared)
                instead = "replace them in `forward` with torch.nan_to_num"
                if field == net._used[-1] != net._used[0]:  # noqa: SLF001
                    instead = "skip such targets in the loss that `make_loss` returns"
                hint = f"fill or drop them and publish again, or {instead}"
                raise DatasetError(f"{data.declared.title}: {message}; the loss of that sample is {loss}", hint=hint)


def describe_large(net: Task, data: RunData, seen: Inspection, moved: Moved) -> list[str]:
    """Return notes on fields whose largest absolute value leads to a very large output or loss for that sample."""
    notes = []
    for field in net._used:  # noqa: SLF001 - private to this package
        bound = seen.farthest(field)
        if bound is None or abs(bound.value) < _LARGE or next(seen.not_finite(field), None):
            continue
        output, loss = _try_sample(net, data, bound.row, moved)
        if not (output < _ENORMOUS and abs(loss) < _ENORMOUS):
            what = f"the loss of that sample is {metric_text(loss)}"
            if output >= _ENORMOUS:
                what = f"for that sample `forward` returns values up to {metric_text(output)}"
            message = f"{describe_farthest(seen, field, data.declared)}; {what}"
            notes.append(f"{message}: scale the field before publishing, or in `forward`")
    return notes


@torch.no_grad()
def _try_sample(net: Task, data: RunData, row: int, moved: Moved) -> tuple[float, float]:
    """Return the largest absolute output for a sample and the first sample of train, and their loss, in eval mode."""
    given, wanted = net._input_and_target(moved(data.read([row, data.first])))  # noqa: SLF001 - private to this package
    with evaluating(net):
        predicted = called(net, given)
        net.check_output(predicted, wanted)
        return max(float(each.abs().max()) for each in leaves(predicted)), float(net._loss(predicted, wanted))  # noqa: SLF001


@torch.enable_grad()
def try_out(net: Task, batch: Batch, *, seen: Inspection | None = None) -> Tensor:
    """Return a net's output for a batch in eval mode, with its graph, and check it against `seen`; restore the net's modes."""
    given, wanted = net._input_and_target(batch)  # noqa: SLF001 - private to this package
    net.check_batch(given, wanted)
    with evaluating(net), fields_unchanged(net, batch, field=next(iter(net._used), "")):  # noqa: SLF001 - private to this package
        predicted: Tensor = _pass(net, given)
    net.check_output(predicted, wanted)
    require_scores(net, predicted, seen, batch)
    with torch.no_grad():
        metrics: Any = net.measured["val"]
        require_numbers(metrics, *net.metric_inputs(tree_map(Tensor.detach, predicted), wanted))
    return predicted


def require_scores(net: Task, predicted: Any, seen: Inspection | None, batch: Batch) -> None:
    """Raise `DatasetError` if inspected targets, which the net uses unchanged, have no score in the output for `batch`."""
    if seen is not None and _uses_fields_unchanged(net, batch):
        net.check_scores(predicted, seen)


@contextmanager
def evaluating(net: Task) -> Iterator[None]:
    """Set the net to eval mode; restore the mode of each module at the end."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _pass(net: Task, given: Any) -> Any:
    try:
        return called(net, given)
    except RepriseError:
        raise
    except Exception as fault:
        if mistyped := wrong_dtype(net, given):
            raise mistyped from fault
        raise


def wrong_dtype(net: Task, given: Any) -> DatasetError | None:
    """Return the error for a `forward` that fails only because of its input's dtype; None if no other dtype works."""
    weights = next((each.dtype for each in net.parameters() if each.is_floating_point()), torch.float32)
    calls = {torch.float64: "double", torch.float16: "half", torch.bfloat16: "bfloat16"}
    if not isinstance(given, Tensor):
        return None
    for dtype, call in ((weights, calls.get(weights, "float")), (torch.int64, "long")):
        if dtype == given.dtype:
            continue
        try:
            net(given.to(dtype))
        except Exception:  # noqa: BLE001, S112 - then the dtype is not the only reason
            continue
        name = str(dtype).removeprefix("torch.")
        field = next(iter(net._used), "")  # noqa: SLF001 - private to this package
        message = f"field {field!r} is {described(given)}, but the layers of {type(net).__name__} take {name}"
        hint = f"begin `forward` with `x = x.{call}()`, or publish the field as {name}"
        if dtype.is_floating_point and dtype != torch.float32:
            hint = f"make the layers float32: remove `.{call}()`; --precision sets the dtype of the run"
        return DatasetError(message, hint=hint)
    return None


def _uses_fields_unchanged(net: Task, batch: Batch) -> bool:
    """Return whether input and target are the fields themselves or slices from their start; the inspection covers nothing else."""

    def is_slice(whole: Tensor, part: Tensor) -> bool:
        return whole.ndim == part.ndim and torch.equal(whole[tuple(map(slice, part.shape))].to(part.dtype), part)

    pairs = zip(net._used, leaves(net._input_and_target(batch)), strict=False)  # noqa: SLF001 - private to this package
    return all(
        is_slice(batch[name], part) or (part.is_floating_point() and bool(torch.isnan(part).any()))
        for name, part in pairs
    )


@contextmanager
def single_values(net: nn.Module, samples: int) -> Iterator[dict[str, nn.Module]]:
    """Collect, during a pass of `samples` samples, the normalization layers that receive one value per sample and channel, by name."""
    found: dict[str, nn.Module] = {}

    def note(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        groups = module.num_groups if isinstance(module, nn.GroupNorm) else given[0].shape[1]
        if given[0].numel() == samples * int(groups):
            found[name] = module

    handles = [
        module.register_forward_pre_hook(partial(note, name))
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm | nn.GroupNorm)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def require_more_than_one(
    found: Mapping[str, nn.Module], counts: Mapping[str, int], *, batch_size: int, shards: int = 1
) -> None:
    """Raise `ExperimentError` if a layer of `found` would receive a batch of one sample; `counts` are the sizes of the splits."""
    for split, count in counts.items():
        names = [name for name, module in found.items() if _uses_batch_statistics(module, split)]
        if not names or last_batch(count, split, batch_size, shards) != 1:
            continue
        name, others = names[0], "" if len(names) == 1 else f" (and {len(names) - 1} more)"
        which = "each batch" if batch_size // shards == 1 else "the last batch"
        raise ExperimentError(
            f"{which} of {split} has 1 sample ({counted(count, 'sample')}, batch size {batch_size}); {name} "
            f"({type(found[name]).__name__}){others} needs more than 1",
            hint=f"--batch-size {_fitting(found, counts, batch_size, shards)}",
        )


def last_batch(count: int, split: str, batch_size: int, shards: int) -> int:
    """Return the size of the smallest batch or shard; training with several shards drops an incomplete batch."""
    if shards > 1 and split == TRAIN:
        return batch_size // shards
    return count % batch_size or batch_size


def _fitting(found: Mapping[str, nn.Module], counts: Mapping[str, int], batch_size: int, shards: int) -> int:
    """Return the batch size nearest to `batch_size`, smaller sizes first, that leaves no batch of one sample."""
    splits = {
        split: n
        for split, n in counts.items()
        if any(_uses_batch_statistics(module, split) for module in found.values())
    }
    for step in range(1, max(splits.values()) + 2):
        for size in (batch_size - step, batch_size + step):
            if (
                size > 1
                and size % shards == 0
                and all(last_batch(count, split, size, shards) != 1 for split, count in splits.items())
            ):
                return size
    return 2 * shards


def _uses_batch_statistics(module: nn.Module, split: str) -> bool:
    return split == TRAIN or not isinstance(module, _BatchNorm) or module.running_mean is None
