"""Whether a net fits its task: tried on two samples before the first step, so that what does not is refused and no run is kept.

Knows how to ask a net without changing it. Refuses to know what each task wants: `Task.check_batch` and `Task.check_output` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch.callbacks import Callback

from trainer.training.task import Task

if TYPE_CHECKING:
    import lightning as L

    from trainer.training.data import RunData
    from trainer.training.experiment import Experiment


class CheckNet(Callback):
    """Asks the net for what it makes of two samples; raises `DatasetError` or `ExperimentError` where that is not its task's."""

    def __init__(self, experiment: Experiment, data: RunData) -> None:
        """Take the samples from `data`."""
        self.experiment, self.data = experiment, data

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ask, on the device and in the precision of the run."""
        if isinstance(pl_module, Task) and self.experiment.reads_fields:
            batch = trainer.precision_plugin.convert_input(self.data.example())
            batch = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.forward_context():
                try_out(pl_module, batch)


@torch.no_grad()
def try_out(net: Task, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Give what a net makes of a batch when it is not trained, and leave it as it was."""
    modes = {module: module.training for module in net.modules()}
    given, wanted = net._parted(batch)  # noqa: SLF001 - the task's own
    net.check_batch(given, wanted)
    net.eval()
    try:
        predicted: torch.Tensor = net(given)
    finally:
        for module, training in modes.items():
            module.training = training
    net.check_output(predicted, wanted)
    return predicted
