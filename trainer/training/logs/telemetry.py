"""Telemetry: how fast a training goes and what it takes of the machine, a line now and then while it goes on.

Knows clocks, and where lines go: telemetry.jsonl, TensorBoard, Weights & Biases. Refuses to touch metrics.jsonl, of which equal runs
write equal bytes, and to bear on a result or on a resume: a resumed attempt begins a file of its own.

A line is written at most twice a second, and ever more rarely as a run grows old, so that it costs a day's run what it costs a minute's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler

from trainer.base.digest import canonical
from trainer.reporting.curves import TELEMETRY
from trainer.training.logs.log_file import LogFile
from trainer.training.logs.loggers import JsonLines
from trainer.training.tracing.fingerprints import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import lightning as L

    Clock = Callable[[], float]
    Gauges = Callable[[str | None], dict[str, float]]
    """What the machine tells of this process, and of the GPU with this UUID."""

_FETCH: Final = "[_TrainingEpochLoop].train_dataloader_next"
"""What Lightning calls its waiting for the next batch."""
_OFTEN: Final = 0.5
_RARELY: Final = 60.0
"""Seconds between two lines: a two-hundredth of the time so far, between these."""
_PASSED: Final = nullcontext()


class Waits(PassThroughProfiler):
    """Sums up how long a training waits for data. Everything else that Lightning would have measured is passed over, at no cost."""

    def __init__(self, clock: Clock = monotonic) -> None:
        """Begin at nothing."""
        super().__init__()
        self.clock = clock
        self.seconds = 0.0
        self._began = 0.0

    def start(self, action_name: str) -> None:
        """Begin to wait."""
        if action_name == _FETCH:
            self._began = self.clock()

    def stop(self, action_name: str) -> None:
        """Have waited."""
        if action_name == _FETCH:
            self.seconds += self.clock() - self._began

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Measure nothing."""
        del action_name
        return _PASSED


class Telemetry(Callback):
    """Counts samples and the time they take; validations and the time between epochs do not count."""

    def __init__(self, folder: Path, *, waits: Waits, gauges: Gauges) -> None:
        """Write into the attempt's folder."""
        self.file, self.waits, self.gauges, self.clock = LogFile(folder / TELEMETRY), waits, gauges, waits.clock
        self.began = self.mark = self.next = 0.0
        self.first: float | None = None
        """When the first step began."""
        self.samples = self.batches = 0
        self.busy = 0.0
        self.told = (0, 0.0, 0.0)
        """Samples, seconds and seconds of waiting that earlier lines tell of."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self.began = self.mark = self.clock()
        self.next = self.began + _OFTEN

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on after what lies between two epochs."""
        del trainer, pl_module
        self.mark = self.clock()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on after a validation."""
        del trainer, pl_module
        self.mark = self.clock()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note the first."""
        del trainer, pl_module, batch, batch_idx
        if self.first is None:
            self.first = self.clock()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the batch; now and then, tell."""
        del outputs, batch_idx
        now = self.clock()
        self.busy += now - self.mark
        self.mark = now
        self.batches += 1
        self.samples += len(next(tensors_in(batch), ())) * trainer.world_size
        if now >= self.next:
            self._tell(trainer, pl_module, now)
            self.mark = self.clock()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have all ranks agree on the epoch's metrics now: reading them exchanges values, and the first rank alone would wait for ever."""
        del pl_module
        _ = trainer.callback_metrics

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of the rest."""
        if self.samples > self.told[0]:
            self._tell(trainer, pl_module, self.clock())

    def summary(self, *, started: float) -> dict[str, float]:
        """Give the seconds from `started` to the first step, and speed and waiting since."""
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
        samples, busy, waited = self.samples - self.told[0], self.busy - self.told[1], self.waits.seconds - self.told[2]
        self.told = (self.samples, self.busy, self.waits.seconds)
        values = {
            "samples_per_second": samples / max(busy, 1e-9),
            "data_wait": min(1.0, waited / max(busy, 1e-9)),
            **_rate(trainer),
            **_on_device(net.device),
            **self.gauges(_uuid(net.device)),
        }
        line = canonical({"step": trainer.global_step, "seconds": round(now - self.began, 3), **values})
        self.file.append(line + b"\n")
        for logger in trainer.loggers:
            if not isinstance(logger, JsonLines):
                logger.log_metrics({f"telemetry/{name}": value for name, value in values.items()}, trainer.global_step)


def _rate(trainer: L.Trainer) -> dict[str, float]:
    groups: list[dict[str, Any]] = trainer.optimizers[0].param_groups if trainer.optimizers else []
    return {"learning_rate": float(groups[0]["lr"])} if groups else {}


def _on_device(device: torch.device) -> dict[str, float]:
    """The most memory that torch held on the GPU so far."""
    return {"cuda_memory_gib": torch.cuda.max_memory_allocated(device) / (1 << 30)} if device.type == "cuda" else {}


def _uuid(device: torch.device) -> str | None:
    """The GPU as the driver names it."""
    if device.type != "cuda":
        return None
    known = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if known is None else f"GPU-{known}"
