"""Telemetry: the speed and resource usage of a training run, logged at intervals.

Lines are written to telemetry.jsonl and to every logger except metrics.jsonl, which is equal for equal runs. Telemetry does not affect
results or a resume: a resumed attempt writes a new file.

Lines are written at most twice a second, and at growing intervals during a run, to bound their number.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING, Final

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler

from trainer.base.digest import canonical
from trainer.reporting.curves import LEARNING_RATE as RATE
from trainer.reporting.curves import TELEMETRY
from trainer.training.logs.log_file import LogFile
from trainer.training.logs.loggers import JsonLines
from trainer.training.shards.batch import samples_in
from trainer.training.tracing.trace import parameter_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import lightning as L
    from torch import nn
    from torch.optim import Optimizer

    Clock = Callable[[], float]
    Gauges = Callable[[str | None], dict[str, float]]
    """Returns the usage of this process, and of the GPU with this UUID."""

_FETCH: Final = "[_TrainingEpochLoop].train_dataloader_next"
"""Lightning's name for the wait for the next batch."""
_OFTEN: Final = 0.5
_RARELY: Final = 60.0
"""Maximum seconds between two lines; the interval is 1/200 of the elapsed time, within the bounds."""
_PASSED: Final = nullcontext()


class Waits(PassThroughProfiler):
    """Sums the time that training waits for data. Other actions are not measured."""

    def __init__(self, clock: Clock = monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = 0.0
        self._began = 0.0

    def start(self, action_name: str) -> None:
        """Start the measurement of a wait."""
        if action_name == _FETCH:
            self._began = self.clock()

    def stop(self, action_name: str) -> None:
        """End the measurement of a wait."""
        if action_name == _FETCH:
            self.seconds += self.clock() - self._began

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that measures nothing."""
        del action_name
        return _PASSED


class Telemetry(Callback):
    """Measures samples per second, not counting validation or the time between epochs."""

    def __init__(self, folder: Path, *, waits: Waits, gauges: Gauges) -> None:
        self.file, self.waits, self.gauges, self.clock = LogFile(folder / TELEMETRY), waits, gauges, waits.clock
        self.began = self.mark = self.next = 0.0
        self.first: float | None = None
        """The time when the first step began."""
        self.samples = self.batches = 0
        self.busy = 0.0
        self.last_line = (0, 0.0, 0.0)
        """Samples, seconds and seconds of waiting at the last line."""

    def on_train_start(self, *_: object) -> None:
        """Start the clock."""
        self.began = self.mark = self.clock()
        self.next = self.began + _OFTEN

    def on_train_epoch_start(self, *_: object) -> None:
        """Restart the clock: the time between two epochs is not counted."""
        self.mark = self.clock()

    def on_validation_end(self, *_: object) -> None:
        """Restart the clock: the time of a validation is not counted."""
        self.mark = self.clock()

    def on_train_batch_start(self, *_: object) -> None:
        """Store the time of the first step."""
        if self.first is None:
            self.first = self.clock()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, _outputs: object, batch: object, *_: object
    ) -> None:
        """Count the batch, and write a line if the interval has passed."""
        now = self.clock()
        self.busy += now - self.mark
        self.mark = now
        self.batches += 1
        self.samples += samples_in(batch) * trainer.world_size
        if now >= self.next:
            self._tell(trainer, pl_module, now)
            self.mark = self.clock()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Synchronize the metrics of the epoch on all ranks: a read on the first rank alone would block forever."""
        _metrics = trainer.callback_metrics

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last line."""
        if self.samples > self.last_line[0]:
            self._tell(trainer, pl_module, self.clock())

    def summary(self, *, started: float) -> dict[str, float]:
        """Return the seconds from `started` to the first step, and the speed and the share of waiting since then; empty without a step."""
        if self.first is None or not self.busy:
            return {}
        return {
            "seconds_to_first_step": self.first - started,
            "batches_per_second": self.batches / self.busy,
            "samples_per_second": self.samples / self.busy,
            "data_wait": min(1.0, self.waits.seconds / self.busy),
        }

    def _tell(self, trainer: L.Trainer, net: L.LightningModule, now: float) -> None:
        self.next = now + min(_RARELY, max(_OFTEN, (now - self.began) / 200))
        if not trainer.is_global_zero:
            return
        samples, busy, waited = (
            self.samples - self.last_line[0],
            self.busy - self.last_line[1],
            self.waits.seconds - self.last_line[2],
        )
        self.last_line = (self.samples, self.busy, self.waits.seconds)
        values = {
            "samples_per_second": samples / max(busy, 1e-9),
            "data_wait": min(1.0, waited / max(busy, 1e-9)),
            **self.gauges(_uuid(net.device)),
        }
        values |= learning_rates(net, trainer.optimizers)
        if net.device.type == "cuda":  # the peak that torch has allocated
            values["cuda_memory_gib"] = torch.cuda.max_memory_allocated(net.device) / (1 << 30)
        line = canonical({"step": trainer.global_step, "seconds": round(now - self.began, 3), **values})
        self.file.append(line + b"\n")
        for logger in trainer.loggers:
            if not isinstance(logger, JsonLines):
                logger.log_metrics({f"telemetry/{name}": value for name, value in values.items()}, trainer.global_step)


def learning_rates(net: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, float]:
    """Return the learning rate of each optimizer's first parameter group, by name: `learning_rate` for the first optimizer.

    A further optimizer is named after the module that contains all of its parameters, such as `learning_rate_discriminator`, or by its
    number.
    """
    found: dict[str, float] = {}
    for number, (each, owned) in enumerate(zip(optimizers, parameter_names(net, optimizers), strict=True), start=1):
        name = RATE if number == 1 else f"{RATE}_{_common_module(owned) or number}"
        found[f"{name}_{number}" if name in found else name] = float(each.param_groups[0]["lr"])
    return found


def _common_module(names: Sequence[str]) -> str:
    paths = [name.split(".")[:-1] for name in names]
    common = takewhile(lambda parts: len({*parts}) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in common)


def _uuid(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    known = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if known is None else f"GPU-{known}"
