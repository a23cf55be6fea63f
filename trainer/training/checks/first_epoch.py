"""Checks of data, shapes and learning before the first epoch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn.parameter import UninitializedParameter

from trainer.base.errors import DatasetError, RepriseError
from trainer.base.suggestions import counted
from trainer.settings.ledger import call_configured
from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck, listed, require
from trainer.training.checks import module_location
from trainer.training.checks.fit_monitor import FitObservations
from trainer.training.checks.module_location import grouped
from trainer.training.checks.subject import SPLITS, Trial
from trainer.training.normalization import fields_unchanged
from trainer.training.optimization.optimizers import require_reached, require_trainable
from trainer.training.optimization.parameter_groups import frozen_names
from trainer.training.tasks.fit_checks import (
    describe_large,
    evaluating,
    require_finite_losses,
    require_more_than_one,
    require_scores,
    single_values,
    value_notes,
    wrong_dtype,
)
from trainer.training.tasks.outputs import called, leaves
from trainer.training.tasks.split_metrics import computed
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.data.inspection import Inspection
    from trainer.data.reader import Typed
    from trainer.training.readers import Batch

_MARKEDLY: Final = 0.2
"""The fraction by which the loss of one batch must fall."""
_FASTER: Final = 10


def settings(trial: Trial) -> str:
    """Create the net from the settings."""
    net = trial.fresh()
    if type(net).configure_optimizers is Task.configure_optimizers:
        call_configured(require_trainable, net)
    sizes = [parameter.numel() for parameter in net.parameters() if not isinstance(parameter, UninitializedParameter)]
    return f"{len(trial.subject.resolved.origins)} values; a net of {sum(sizes):,} parameters in {counted(len(sizes), 'tensor')}"


def data(trial: Trial) -> str:
    """Read batches of each split, and inspect every sample of real data as a run does."""
    seen = trial.inspection
    counts = ", ".join(f"{name} {len(rows):,}" for name, rows in trial.rows.items())
    for split in SPLITS:
        require(trial.batches(split), f"the split {split} has no complete batch of {trial.batch_size}")
    if seen is not None:
        _require_finite_data(trial, seen)
    fields = ", ".join(f"{name} {_described(value)}" for name, value in trial.batch.items())
    return f"{counts}; a batch: {fields}"


def _require_finite_data(trial: Trial, seen: Inspection) -> None:
    """Check the data for NaN and infinities that the net does not handle; other checks report any other failure of the net."""
    if not trial.subject.experiment.has_package_steps:
        return
    try:
        require_finite_losses(trial.fresh(), trial.whole, seen, trial.on_device)
    except RepriseError:
        raise
    except Exception:  # noqa: BLE001 - the checks `forward` and `targets` report the exception with its location
        return


def declared(trial: Trial) -> str:
    """Compare batches of each split with the dataset's declaration."""
    fields = {split: _declared_fields(trial.subject.declaration_of(split)) for split in SPLITS}
    if not any(fields.values()):
        raise NothingToCheck(f"the declaration of {trial.subject.names} has neither [twin] nor [sample]")
    known: dict[str, Typed] = {}
    for split in SPLITS:
        for batch in trial.batches(split, as_read=True):
            own = {name: typed for name, typed in fields[split].items() if name in batch}
            known = own | known
            for name, typed in own.items():
                _require_declared(name, batch[name], typed, is_double=trial.double)
    if not known:
        raise NothingToCheck("the experiment's own reader returns none of the declared fields")
    return ", ".join(f"{name} {typed}" for name, typed in known.items())


def _declared_fields(dataset: Dataset) -> dict[str, Typed]:
    return {**dataset.sample, **dataset.twin}


def _require_declared(name: str, found: Tensor, typed: Typed, *, is_double: bool) -> None:
    dtype = "float32" if is_double and typed.dtype == "float32" else _dtype(found)
    shape = list(found.shape[1:])
    require(typed.admits(dtype, tuple(shape)), f"{name!r} is {_dtype(found)}{shape}; declared: {typed}")
    _require_within(name, found, typed)


def _require_within(name: str, found: Tensor, typed: Any) -> None:
    classes, bounds = getattr(typed, "classes", None), getattr(typed, "range", None)
    low, high = (0, classes - 1) if classes else bounds or (None, None)
    if low is not None and high is not None:
        least, most = found.min().item(), found.max().item()
        fits = low <= least and most <= high
        require(fits, f"{name!r} has values from {least:g} to {most:g}; declared: {low:g} to {high:g}")


def forward(trial: Trial) -> str:
    """Pass a batch through the net, and check the shapes of its outputs."""
    net = trial.fresh()
    count = len(leaves(trial.given)[0])
    try:
        field = trial.input_field
        with single_values(net, count) as singles, fields_unchanged(net, trial.batch, field=field):
            found = outputs(net, trial.given)
    except RepriseError:
        raise
    except Exception as fault:
        with torch.no_grad():
            mistyped = wrong_dtype(net, trial.given)
        raise (mistyped or fault) from fault
    counts = {split: len(rows) for split, rows in trial.rows.items()}
    of_pairs = count != min(trial.batch_size, counts["train"])
    if trial.subject.experiment.reads_fields and not trial.subject.made_up and not of_pairs:
        require_more_than_one(singles, counts, batch_size=trial.whole_batch)
    for output in found:
        fits = output.dim() > 0 and len(output) == count
        require(fits, f"for {counted(count, 'sample')} the net returns {list(output.shape)}; expected [{count}, ...]")
    taken, gave = (", ".join(str(list(each.shape)) for each in some) for some in (leaves(trial.given), found))
    return f"{taken} to {gave}"


def targets(trial: Trial) -> str:
    """Compute the loss of each training batch, and the metrics of val and test."""
    _require_classes(trial)
    net = trial.fresh()
    if trial.subject.experiment.has_package_steps:
        with evaluating(net):
            require_scores(net, _predicted(net, trial.batch)[0], trial.inspection, trial.batch)
    notes = _value_notes(trial, net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses = [_loss(net, batch) for batch in trial.batches("train")] if net.automatic_optimization else []
        for split, step in (("val", net.validation_step), ("test", net.test_step)):
            for batch in trial.batches(split):
                step(batch, 0)
            metrics: Any = net.measured[split]
            computed(metrics)
    spread = next((str(each.message) for each in caught if "target size" in str(each.message)), "")
    require(not spread, f"predictions and targets have different shapes: {spread[:160]}")
    if losses:
        message = f"loss {losses[0]:.4g}, and each metric of val and test can be computed"
    else:
        message = "each metric of val and test can be computed; the training step uses manual optimization: `finite` checks its losses"
    predicted, wanted = _predicted(net, trial.batch)
    if type(net).configure_optimizers is Task.configure_optimizers:
        require_reached(net, predicted, net.parameters())
    odd = net.describe_oddity(predicted, wanted)
    if odd or notes:
        hint = odd[1] if odd else f"check [splits] and the values of dataset {trial.subject.names}"
        raise CheckNote("; ".join([message, *notes, *(odd or ())[:1]]), hint=hint)
    return message


def _value_notes(trial: Trial, net: Task) -> list[str]:
    if trial.inspection is None or not trial.subject.experiment.has_package_steps:
        return []
    large = describe_large(net, trial.whole, trial.inspection, trial.on_device)
    return [*value_notes(net, trial.inspection, trial.batch), *large]


def _predicted(net: Task, batch: Batch) -> tuple[Tensor, Tensor]:
    given, wanted = net._input_and_target(batch)  # noqa: SLF001 - a task selects its fields in this method
    with torch.enable_grad():
        return called(net, given), wanted


def _loss(net: Task, batch: Batch) -> float:
    net.check_batch(*net._input_and_target(batch))  # noqa: SLF001 - a task selects its fields in this method
    loss: Any = net.training_step(batch, 0)
    single = isinstance(loss, torch.Tensor) and loss.dim() == 0
    require(single, f"the loss of a batch is {_described(loss)}; expected a single number")
    return float(loss.detach())


def _require_classes(trial: Trial) -> None:
    values: dict[str, Any] = trial.subject.resolved.settings.model_dump()
    field = values.get("target_field")
    dataset = trial.subject.datasets[0].declared
    typed = dataset.twin.get(str(field))
    if typed and typed.classes and "classes" in values and values["classes"] != typed.classes:
        raise CheckFailed(
            f"setting classes is {values['classes']}; {field!r} of dataset {dataset.name} has {typed.classes}",
            hint=f"check `classes` of the experiment, and [twin.{field}] of the dataset",
        )


def finite(trial: Trial) -> str:
    """Check outputs and losses for NaN and infinity."""
    net = trial.fresh()
    for output in outputs(net, trial.given):
        if count := int((~torch.isfinite(output)).sum()):
            call = module_location.first_odd(
                module_location.record_pass(net, trial.given),
                lambda value: value.is_floating_point() and not bool(torch.isfinite(value).all()),
            )
            message = f"NaN or infinity in {count:,} of {output.numel():,} values of the output of a new net"
            raise CheckFailed(f"{message}{module_location.first_in(call)}")
    losses = trial.watched.losses
    for step, loss in enumerate(losses, start=1):
        require(torch.isfinite(torch.tensor(loss)), f"the loss is {loss} at step {step} on one batch")
    return f"outputs and {len(losses)} losses are finite"


def finite_gradients(trial: Trial) -> str:
    """Check gradients for NaN and infinity."""
    odd = trial.watched.odd
    step = min(odd.values(), default=0)
    require(not odd, f"the gradient of {grouped(trial.watched.net, list(odd))} is not finite at step {step}")
    return f"{len(trial.watched.reached)} gradients are finite, at each of {counted(len(trial.watched.losses), 'step')}"


def gradients(trial: Trial) -> str:
    """Check for parameters that are unintentionally frozen, never get a nonzero gradient, or are changed by no step."""
    watch = trial.watched
    net = watch.net
    patterns = trial.subject.resolved.settings.value_of("frozen")
    meant = (*net.frozen, *sorted(frozen_names(net, patterns)))
    names = {name: parameter for name, parameter in net.named_parameters() if not (meant and name.startswith(meant))}
    frozen = [name for name, parameter in names.items() if not parameter.requires_grad]
    require(not frozen, f"frozen (requires_grad is False): {grouped(net, frozen)}")
    unused = [name for name in names if name not in watch.reached and name not in watch.odd]
    require(not unused, f"only zero gradients reach {grouped(net, unused)}")
    unchanged = [name for name in watch.unchanged_parameters() if name in names]
    require(
        not unchanged,
        f"{grouped(net, unchanged)} gets gradients, but no step changes it",
        hint="check configure_optimizers",
    )
    left = f"; {listed([*net.frozen, *patterns])} frozen on purpose" if meant else ""
    return f"all {len(names)} parameters get gradients and change{left}"


def overfits(trial: Trial) -> str:
    """Check that repeated training on one batch reduces its loss."""
    watch = trial.watched
    if watch.of_several:
        raise NothingToCheck(
            "manual optimization with no loss or several losses per step: it is unknown which loss should decrease"
        )
    text = f"loss {watch.losses[0]:.4g} to {watch.last:.4g} in {counted(len(watch.losses), 'step')} on one batch"
    if watch.fell(_MARKEDLY):
        return text
    faster = trial.fit(FitObservations(), faster=_FASTER)
    rate = trial.subject.resolved.settings.value_of("learning_rate")
    if not faster.fell(_MARKEDLY):
        odd = (net := trial.fresh()).describe_oddity(*_predicted(net, trial.batch))
        message = f"{text}, and {faster.last:.4g} with {_FASTER} times the learning rate"
        raise CheckFailed(message, hint=f"{odd[0]}: {odd[1]}" if odd else None)
    return f"{text}; {faster.last:.4g} with {_FASTER} times the learning rate {rate:g}, which is low"


def outputs(net: Task, given: Any) -> list[Tensor]:
    """Return every output tensor of the net. Raise `DatasetError` if there is none.

    If a module raises, a note with its name and inputs is added to the exception.
    """
    with torch.no_grad():
        try:
            returned = called(net, given)
        except Exception:
            with module_location.recording(net):
                called(net, given)
            raise
    if tensors := leaves(returned):
        return tensors
    raise DatasetError(f"forward returns {type(returned).__name__}; expected a tensor", hint="return the result")


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _described(value: Any) -> str:
    return f"{_dtype(value)}{list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
