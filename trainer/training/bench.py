"""The benchmark of an experiment: training steps, timed alternately as a whole and in parts.

Even steps are timed as a whole, from the end of the previous step to their own end; odd steps are timed in parts. On a GPU the timer
synchronizes at the end of each part; a step timed as a whole synchronizes only at its end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, profile

from trainer.settings.ledger import Ledger, call_configured, use_ledger
from trainer.training.compilation import compiling
from trainer.training.finite_losses import StopIfNotFinite
from trainer.training.fit import prepare, small_trainer
from trainer.training.logs.loggers import loggers
from trainer.training.logs.losses import LossLines
from trainer.training.step_callbacks import SeedEveryStep
from trainer.training.timing import PARTS, Bench, SlowOperation, interval
from trainer.training.tracing.trace import tracers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import lightning as L

    from trainer.settings.origins import Resolved
    from trainer.training.assembly import FetchedDataset
    from trainer.training.experiment import Experiment

DEAREST: Final = 10
_PROFILED: Final = 10
_WARM: Final = 3
"""Steps before the profiled steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """The inputs of a benchmark, the number of its steps and its time limit."""

    experiment: Experiment
    resolved: Resolved[Any]
    datasets: Sequence[FetchedDataset]
    description: str
    """A description of the data for the report."""
    device: str
    root: Path
    folder: Path
    """The folder for the files that the training run writes."""
    warmup: int
    steps: int
    seconds: float
    """The time limit in seconds: when it has passed, training ends as soon as half of the steps are timed."""


def bench(course: BenchPlan) -> Bench:
    """Time a training run and return the benchmark."""
    watch = Stopwatch(course)
    net = _trained(course, [watch], profiler=watch.parts, steps=course.warmup + course.steps)
    settings = course.resolved.settings
    size = int(settings.value_of("batch_size"))
    whole = interval(watch.wholes)
    return Bench(
        experiment=course.experiment.name,
        data=course.description,
        device=torch.cuda.get_device_name() if course.device == "gpu" else "cpu",
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        determinism=str(settings.value_of("determinism")),
        precision=str(settings.value_of("precision")),
        batch_size=size,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        warmup=course.warmup,
        steps=watch.counted,
        samples_per_second=whole.inverse(size),
        seconds_per_step=whole,
        parts={name: interval([step[name] for step in watch.split]) for name in PARTS},
        memory=_memory(course.device),
    )


def profiled(course: BenchPlan, path: Path) -> list[SlowOperation]:
    """Write a trace of a few steps for Chrome's viewer or Perfetto; return the ten most expensive operations."""
    on_gpu = course.device == "gpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    window = ProfiledSteps(profile(activities=activities, acc_events=True))
    _trained(course, [window], profiler=None, steps=_WARM + _PROFILED)
    path.parent.mkdir(parents=True, exist_ok=True)
    window.profile.export_chrome_trace(str(path))
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = sorted(window.profile.key_averages(), key=lambda each: -float(getattr(each, own)))
    total = sum(float(getattr(each, own)) for each in found) or 1.0
    return [
        SlowOperation(
            name=each.key,
            calls=each.count / _PROFILED,
            seconds=float(getattr(each, own)) / 1e6 / _PROFILED,
            share=float(getattr(each, own)) / total,
        )
        for each in found[:DEAREST]
    ]


def _trained(
    course: BenchPlan, watching: list[Callback], *, profiler: Profiler | None, steps: int
) -> L.LightningModule:
    """Train on one device as a run does, but without validation, checkpoints or gradient accumulation; return the net."""
    changes = {"max_steps": steps, "accumulate": 1, "wandb": "off", "devices": 1}
    resolved = replace(course.resolved, settings=course.resolved.settings.model_copy(update=changes))
    with use_ledger(Ledger(resolved, root=course.root)):
        net, data = prepare(course.experiment, course.datasets)
        callbacks = [
            call_configured(StopIfNotFinite),
            call_configured(SeedEveryStep),
            call_configured(LossLines),
            *call_configured(compiling, course.device),
            *tracers(course.folder),
            *watching,
        ]
        options: dict[str, Any] = {"max_epochs": -1, "callbacks": callbacks, "profiler": profiler}
        small_trainer(course.device, course.folder, logger=loggers(course.folder), **options).fit(net, datamodule=data)
    return net


class StepPartTimer(Profiler):
    """Sums the time of each part of a step, by the names of Lightning's actions; does nothing while `on` is false."""

    def __init__(self, *, on_gpu: bool) -> None:
        super().__init__()
        self.on = False
        self.on_gpu = on_gpu
        self.began: dict[str, float] = {}
        self.sums: defaultdict[str, float] = defaultdict(float)

    def start(self, action_name: str) -> None:
        """Record the start of a part."""
        if self.on and (part := _part(action_name)):
            self.began[part] = self._now()

    def stop(self, action_name: str) -> None:
        """Add the duration of a part."""
        if self.on and (part := _part(action_name)) and part in self.began:
            self.sums[part] += self._now() - self.began.pop(part)

    def part_seconds(self, whole: float) -> dict[str, float]:
        """Return the durations of a step's parts, and reset the sums for the next step."""
        sums, self.sums = self.sums, defaultdict(float)
        self.began.clear()
        within = sums["forward"] + sums["backward"] + sums["callbacks in it"]
        found = {
            "data": sums["data"],
            "forward": sums["forward"],
            "backward": max(0.0, sums["backward"] - sums["callbacks in backward"]),
            "optimizer": max(0.0, sums["optimizer"] - within),
            "callbacks": sums["callbacks"] + sums["callbacks in it"] + sums["callbacks in backward"],
        }
        return found | {"rest": max(0.0, whole - sum(found.values()))}

    def _now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        return perf_counter()


def _part(action: str) -> str | None:
    """Return the part of a step to which an action of Lightning belongs.

    >>> _part("[Strategy]SingleDeviceStrategy.backward"), _part("[Callback]Tracer.on_train_batch_end")
    ('backward', 'callbacks')
    """
    name = action.rpartition(".")[2]
    if action.startswith("[Callback]"):
        return _WITHIN.get(name, "callbacks")
    return _NAMES.get(name)


_NAMES: Final = {
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "optimizer",
}
_WITHIN: Final = {
    "on_before_zero_grad": "callbacks in it",
    "on_before_backward": "callbacks in backward",
    "on_after_backward": "callbacks in backward",
    "on_before_optimizer_step": "callbacks in it",
}
"""The parts of hooks that Lightning calls within the optimizer step, whose closure computes the loss, or within the backward pass."""


class Stopwatch(Callback):
    """Times even steps as a whole and odd steps in parts. Must be the last callback, so that a step includes all other callbacks."""

    def __init__(self, course: BenchPlan) -> None:
        self.course = course
        self.parts = StepPartTimer(on_gpu=course.device == "gpu")
        self.wholes: list[float] = []
        self.split: list[dict[str, float]] = []
        self.step = 0
        self.ended = self.began = 0.0

    @property
    def counted(self) -> int:
        """The number of timed steps."""
        return len(self.wholes) + len(self.split)

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """End a step and begin the next."""
        if self.parts.on_gpu:
            torch.cuda.synchronize()
        now = perf_counter()
        self.step += 1
        if self.step == self.course.warmup:
            self.began = monotonic()
            if self.parts.on_gpu:
                torch.cuda.reset_peak_memory_stats()
        if self.step > self.course.warmup and self.parts.on:
            self.split.append(self.parts.part_seconds(now - self.ended))
        elif self.step > self.course.warmup:
            self.wholes.append(now - self.ended)
        enough = self.counted >= self.course.steps // 2 and monotonic() - self.began > self.course.seconds
        trainer.should_stop = trainer.should_stop or enough
        self.parts.on = self.step % 2 == 1
        self.ended = perf_counter()


class ProfiledSteps(Callback):
    """Profiles a few steps after a warm-up."""

    def __init__(self, watching: profile) -> None:
        self.profile = watching
        self.step = 0

    def on_train_batch_end(self, *_: object) -> None:
        """Start the profiler after the warm-up; stop it after the profiled steps."""
        self.step += 1
        if self.step == _WARM:
            self.profile.start()
        elif self.step == _WARM + _PROFILED:
            self.profile.stop()


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes; `ru_maxrss` would include that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def _memory(device: str) -> dict[str, int]:
    resident = {"resident": peak_memory()}
    return resident | ({"allocated": torch.cuda.max_memory_allocated()} if device == "gpu" else {})
