"""The monitor of a short fit: it records losses, gradients and changed weights, and ends the fit once the loss has halved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor, nn

    from trainer.training.tasks.task import Task

_LAST: Final = 3
"""The number of steps over which the last loss is averaged, because dropout makes single losses vary."""
_HALF: Final = 0.5


class FitObservations(Callback):
    """A callback that observes a fit and ends it early."""

    def __init__(self) -> None:
        self.net: Task
        self.losses: list[float] = []
        self.reached: set[str] = set()
        """Parameters that had a nonzero gradient at some step."""
        self.odd: dict[str, int] = {}
        """Parameters that had NaN or infinity in a gradient, with the first such step, counted from 1."""
        self.before: dict[str, Tensor] = {}
        self.steps = 0

    @property
    def of_several(self) -> bool:
        """Whether the net uses manual optimization without exactly one loss per step."""
        return not self.net.automatic_optimization and len(self.losses) != self.steps

    @property
    def last(self) -> float:
        """The mean loss of the last steps."""
        losses = self.losses[-_LAST:]
        return sum(losses) / len(losses)

    @property
    def is_sound(self) -> bool:
        """Whether all losses and gradients were finite."""
        return not self.odd and bool(torch.isfinite(torch.tensor(self.losses)).all())

    def fell(self, part: float) -> bool:
        """Return whether the loss fell by the fraction `part`."""
        return self.last <= self.losses[0] - part * abs(self.losses[0])

    def unchanged_parameters(self) -> list[str]:
        """Return the names of parameters that no step changed."""
        now = dict(self.net.named_parameters())
        return [name for name, value in self.before.items() if torch.equal(value, now[name].detach().cpu())]

    def on_train_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Store the initial weights."""
        self.before = {name: value.detach().cpu().clone() for name, value in pl_module.named_parameters()}

    def on_before_backward(self, _trainer: object, _net: object, loss: Tensor) -> None:
        """Record the loss."""
        self.losses.append(float(loss.detach()))

    def on_before_optimizer_step(self, _trainer: object, pl_module: L.LightningModule, *_: object) -> None:
        """Record which gradients are nonzero and which have NaN or infinity."""
        self._look(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, _net: object, _outputs: object, _batch: object, batch_idx: int
    ) -> None:
        """End the fit if the loss has halved, or if a loss or gradient is not finite."""
        self.steps = batch_idx + 1
        enough = self.steps >= _LAST and not self.of_several and self.fell(_HALF)
        trainer.should_stop = trainer.should_stop or enough or not self.is_sound

    def _look(self, net: nn.Module) -> None:
        for name, parameter in net.named_parameters():
            if parameter.grad is None:
                continue
            if not bool(torch.isfinite(parameter.grad).all()):
                self.odd.setdefault(name, len(self.losses))
            elif name not in self.reached and bool(parameter.grad.count_nonzero()):
                self.reached.add(name)
