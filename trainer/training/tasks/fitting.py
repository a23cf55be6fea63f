"""Whether a net fits its task: tried on two samples before the first step, so that what does not is refused and no run is kept.

Knows how to ask a net without changing it. Refuses to know what each task wants: `Task.check_batch` and `Task.check_output` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch.callbacks import Callback

from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    import lightning as L

    from trainer.training.data import RunData
    from trainer.training.experiment import Experiment
    from trainer.training.readers import Batch


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
            self._check_labels(pl_module, batch)

    def _check_labels(self, net: Task, batch: Batch) -> None:
        """Have every label looked at, where the reader tells what the net is to predict without reading whole samples."""
        _, wanted = net._parted(batch)  # noqa: SLF001 - the task's own
        example, labels = self.data.labels(len(wanted))
        if wanted.ndim == 1 and example == wanted.tolist():
            net.check_labels(labels)


@torch.no_grad()
def try_out(net: Task, batch: Batch) -> torch.Tensor:
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
