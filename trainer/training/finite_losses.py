"""Checks for losses that are NaN or infinite: such a training or validation loss ends the run; such a test loss fails it.

On a GPU the loss of a step is checked on the device, and read every `log_every` batches and at the end of each epoch. Without
`terminate_on_nan` training continues to the end; the run fails nevertheless if the last validation or the test has such a loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback

from trainer.base.errors import NotFiniteError
from trainer.data.inspection import SQUARED
from trainer.settings.hints import option
from trainer.settings.ledger import configured, current
from trainer.training.results import results_of
from trainer.training.shards.batch import parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import lightning as L
    from torch import Tensor

    from trainer.data.inspection import Inspection

_NEVER: Final = -1.0
_NOTHING: Final = (0.0, _NEVER, 0.0, _NEVER)


@configured
class StopIfNotFinite(Callback):
    """Raises `NotFiniteError` for a loss that is not finite, with the step, the loss, and the last step with a finite loss."""

    def __init__(self, inspection: Inspection | None = None, *, terminate_on_nan: bool, log_every: int) -> None:
        """Check only if `terminate_on_nan`; read a GPU every `log_every` batches. `inspection` shows whether the data hold NaN."""
        self.looks = terminate_on_nan
        self.inspection = inspection
        self.every = log_every
        self.seen: Tensor | None = None
        """On a GPU: the last finite loss and its step; the first loss that is not finite and its step."""
        self.losses: list[Tensor] = []
        """The losses of the current step, if the net uses manual optimization."""
        self.known: list[float] = [*_NOTHING]
        """The same as `seen` on a CPU, as plain numbers: sixteen torch operations would take longer than a step of a small net."""

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Store the losses of a net with manual optimization: its step need not return them."""
        if self.looks and not pl_module.automatic_optimization:
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            self.losses.append(loss.detach() / (scaler.get_scale() if scaler else 1))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Check the loss of the step; with manual optimization the stored losses, or the weights if no loss was stored."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        losses, self.losses = self.losses or ([loss] if isinstance(loss, torch.Tensor) else []), []
        optimizes = not pl_module.automatic_optimization
        if not self.looks or not (losses or optimizes):
            return
        for each in losses:
            self._note(each * trainer.accumulate_grad_batches, trainer.global_step)
        on_cpu = pl_module.device.type == "cpu"
        if on_cpu or (batch_idx + 1) % self.every == 0:
            known = self.known if self.seen is None else self.seen.tolist()
            self._judge(known, batch if on_cpu else None)
            if not losses:
                require_finite_weights(pl_module, trainer.global_step)

    def _note(self, loss: Tensor, step: int) -> None:
        if loss.device.type != "cpu":
            self.seen = _noted(self.seen, loss.detach(), step)
        elif self.known[3] == _NEVER:
            value = loss.item()
            place = 0 if math.isfinite(value) else 2
            self.known[place : place + 2] = [value, step]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the loss of the validation, which every rank has."""
        if self.looks:
            results = results_of(pl_module)
            measured = {name: results[name] for name in ("val_loss",) if name in results}
            require_finite(measured, self.inspection, when=f" after step {trainer.global_step}")

    def on_train_epoch_end(self, *_: object) -> None:
        """Read the device before the epoch's checkpoint is written."""
        if self.seen is not None:
            self._judge(self.seen.tolist(), None)

    def _judge(self, known: Sequence[float], batch: object) -> None:
        """Raise `NotFiniteError` if a loss was not finite. On several devices, a loss is the mean of all shards, which every rank has."""
        good, good_step, bad, bad_step = known
        if bad_step != _NEVER:
            is_first = good_step == _NEVER
            last = f"the last finite loss was {good:.4g} at step {good_step:.0f}"
            before = "no earlier loss was finite" if is_first else last
            shown = "nan" if math.isnan(bad) else f"{bad}"
            message = f"the training loss of step {bad_step:.0f} is {shown}; {before}"
            if samples := not_finite(batch):
                raise NotFiniteError(
                    f"{message}, and {samples}", hint=f"correct or remove such samples. {_ALL_THE_SAME}"
                )
            if _size(batch) == 1:
                raise NotFiniteError(
                    f"{message}; the batch of that step has 1 sample", hint=f"{_OF_ONE}. {_ALL_THE_SAME}"
                )
            remedy = _remedy(self.inspection, "train", diverged=not is_first)
            raise NotFiniteError(message, hint=f"{remedy}. {_ALL_THE_SAME}")


_RATES: Final = ("learning_rate", "lr")
"""The names of a learning rate: that of a task, and that of many plain modules."""
_OF_ONE: Final = (
    "a standard deviation or variance over a batch of one is NaN: choose a --batch-size that leaves no batch of one"
)
_FROM_THE_START: Final = "the untrained net also returns such a loss: `reprise check EXPERIMENT` names the module"
_ALL_THE_SAME: Final = "--no-terminate-on-nan continues training"


def require_finite_weights(net: L.LightningModule, step: int) -> None:
    """Raise `NotFiniteError` if a weight is NaN or infinite after a step whose loss is unknown."""
    bad = next((name for name, each in net.named_parameters() if not bool(torch.isfinite(each).all())), None)
    if bad is not None:
        message = f"parameter {bad} has NaN or infinity after step {step}; the step's loss is not known"
        raise NotFiniteError(message, hint=f"{_if_diverged()}. {_ALL_THE_SAME}")


def require_finite(metrics: Mapping[str, float], seen: Inspection | None, *, when: str = "") -> None:
    """Raise `NotFiniteError` if the loss of a validation or of the test is not finite: such a run has no result."""
    for split, name in (("validation", "val_loss"), ("test", "test_loss")):
        if name in metrics and not math.isfinite(metrics[name]):
            hint = _remedy(seen, name.removesuffix("_loss"), diverged=True)
            raise NotFiniteError(f"the {split} loss{when} is {metrics[name]}", hint=hint)


def _if_diverged() -> str:
    """Return the hint for a diverging training, with the option of the experiment's learning rate."""
    ledger = current()
    rates = [option(name) for name in _RATES if ledger is not None and name in ledger.origins()]
    return f"if training diverges, try a lower {[*rates, 'learning rate'][0]}, --clip-norm 1, or another --precision"


def _remedy(seen: Inspection | None, split: str, *, diverged: bool) -> str:
    """Return the hint for a loss that is not finite.

    It names a field if the inspection found NaN, infinities or enormous values in the split; otherwise it is about the training or the net.
    """
    for name in seen.splits[split].fields if seen is not None and split in seen.splits else ():
        assert seen is not None  # noqa: S101 - the loop runs only if `seen` has the split
        if next(iter(seen.not_finite(name)), None):
            return f"field {name!r} of the dataset holds NaN or infinities: replace them in `forward`"
        bound = seen.farthest(name)
        if bound is not None and abs(bound.value) > SQUARED:
            message = f"field {name!r} of the dataset holds {float(bound.value):.4g}"
            return f"{message}, whose square float32 cannot hold: scale it"
    return _if_diverged() if diverged else _FROM_THE_START


def not_finite(batch: object) -> str:
    """Return which fields of a batch have NaN or infinity, and in how many samples; an empty string if all values are finite."""
    found = []
    for name, value in (item for part in parts_of(batch) if isinstance(part, dict) for item in part.items()):
        if not isinstance(value, torch.Tensor) or not value.ndim or not value.is_floating_point():
            continue
        if odd := int((~torch.isfinite(value)).reshape(len(value), -1).any(dim=1).sum()):
            found.append(f"{name!r} has NaN or infinity in {odd} of {len(value)} samples of this batch")
    return ", and ".join(found)


def _size(batch: object) -> int:
    whole = parts_of(batch)[0]
    tensors = [each for each in whole.values() if isinstance(each, torch.Tensor)] if isinstance(whole, dict) else []
    return len(tensors[0]) if tensors and tensors[0].ndim else 0


def _noted(seen: Tensor | None, loss: Tensor, step: int) -> Tensor:
    """Return `seen` with a further loss, without a copy from the loss's device."""
    if seen is None:
        seen = torch.tensor(_NOTHING, dtype=torch.float64, device=loss.device)
    value = loss.to(torch.float64)
    place = torch.full_like(value, step)
    good, good_step, bad, bad_step = seen
    fine = torch.isfinite(value) & (bad_step == _NEVER)
    first = ~torch.isfinite(value) & (bad_step == _NEVER)
    return torch.stack(
        [
            torch.where(fine, value, good),
            torch.where(fine, place, good_step),
            torch.where(first, value, bad),
            torch.where(first, place, bad_step),
        ]
    )
