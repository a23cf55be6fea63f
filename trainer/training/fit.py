"""One training: assemble net, data and callbacks, train, test the served checkpoint, and write its tensors."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import LambdaCallback, ProgressBar

from trainer.base.errors import CheckpointError, DeviceError, DigestMismatchError, DocumentError, RepriseError
from trainer.comparison.trace import FILE as TRACE
from trainer.runs.checkpoint_pointer import BEST, FOLDER, Checkpoint, Saved
from trainer.runs.record import EvaluatedWeights, Record
from trainer.settings.ledger import call_configured, configured, use_ledger
from trainer.training.data import RunData
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import WatchSwitches, apply_level
from trainer.training.failures import PACKAGE, hide_missing_compiler, own_failure
from trainer.training.figures.gallery import Gallery
from trainer.training.finite_losses import StopIfNotFinite
from trainer.training.inspection import Inspector
from trainer.training.logs.loggers import METRICS, LossLines, displays, finish, log_at_steps, loggers
from trainer.training.logs.telemetry import Telemetry, Waits
from trainer.training.optimization.callbacks import averaging, early_stopping
from trainer.training.resuming.checkpoint_file import WholeCheckpointIO
from trainer.training.resuming.checkpoints import Checkpoints, StopBetweenSteps, epoch_of, read_saved, served
from trainer.training.step_callbacks import CheckBeforeFirstStep, SeedEveryStep
from trainer.training.tasks.fit_checks import CheckNet
from trainer.training.tracing.trace import Tracer, tracers, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.data.cache.folder import CachedInspection
    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection
    from trainer.settings.ledger import Ledger
    from trainer.training.experiment import Experiment
    from trainer.training.logs.telemetry import Gauges
    from trainer.training.resuming.stop_requests import Stop
    from trainer.training.tasks.task import Task

_UNFIT: Final = (
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    DocumentError,
    DigestMismatchError,
)
"""Exceptions of restoring a checkpoint that belongs to another net or has another format."""
_LONGEST: Final = 300
_WITHOUT_EXTRAS: Final[dict[str, Any]] = {
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
"""Arguments that disable what this package does itself, or does not need."""
_OTHER: Final = "remove the file, and the one before it is used; or start a new run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The inputs of a training."""

    run: str
    experiment: Experiment
    ledger: Ledger
    dataset: Dataset
    data: Files
    """The files of the fetched dataset."""
    into: Path
    """The folder of the attempt."""
    stop: Stop
    say: Callable[[str], None]
    on_first_step: Callable[[], None]
    """Called when the first step begins: from then on the run is recorded."""
    on_terminal: bool
    device: str
    """The device that the launcher found: `cpu` or `gpu`."""
    started: float
    """The time on the monotonic clock when the command started."""
    saved: Saved | None = None
    """The checkpoint in the attempt's folder from which to resume."""
    record: Record | None = None
    """The run's record, if this process writes it."""
    inspection: CachedInspection | None = None
    """Storage for the dataset's inspection, if this process makes an inspection: rank 0 does."""
    on_switched: Callable[[str], None] = lambda _: None
    """Called with each line that reports that the net changed the level of determinism."""
    gauges: Gauges = lambda _: {}
    """Returns measurements of this process and of its GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The results of a training."""

    metrics: dict[str, float]
    undefined: dict[str, str]
    """The reason for each metric that is NaN."""
    telemetry: dict[str, float]
    steps: int
    evaluated: EvaluatedWeights
    weights: str
    """The digest of the weights' table in `tensors.json`."""
    inspection: Inspection | None = None
    """The inspection of the dataset before the first step."""


def train(job: Job) -> Trained:
    """Train, test the served checkpoint and write its tensors; exceptions of the experiment propagate."""
    quieten()
    with use_ledger(job.ledger):
        apply_level()
        switches = call_configured(WatchSwitches, job.on_switched)
        seed_start()
        net = job.experiment.make_net()
        switches.require_unchanged("the constructor of the net")
        samples = net.samples(job.dataset, job.data)
        net.class_names = samples.classes
        data = call_configured(RunData, job.dataset, samples)
        shown = Gallery(job.into, job.say, dataset=job.dataset, samples=samples)
        clock = Telemetry(job.into, waits=Waits(), gauges=job.gauges)
        traced = tracers(job.into)
        checkpoints = call_configured(Checkpoints, job.into / FOLDER, lambda: log_sizes(job.into, traced), run=job.run)
        inspector = Inspector(data=data, stored=job.inspection, say=job.say)  # in rank 0, before other ranks start
        seen = inspector.inspect(net, resumed=job.saved is not None) if job.record else None
        guards = [switches, call_configured(StopIfNotFinite, seen)]
        parts = [CheckNet(job.experiment, data, seen, job.say), clock, *traced, shown]
        machine = _trainer(job, checkpoints, clock.waits, guards, parts)
        try:
            _fit(job, machine, net, data, checkpoints)
            return replace(_test(job, machine, net, data, clock), inspection=seen)
        finally:
            finish(machine.loggers)


def log_sizes(folder: Path, traced: list[Tracer]) -> dict[str, int]:
    """Flush the logs and return the size of each log in bytes."""
    for tracer in traced:
        tracer.flush()
    return {name: (folder / name).stat().st_size for name in (METRICS, TRACE) if (folder / name).exists()}


def _fit(job: Job, machine: L.Trainer, net: Task, data: RunData, checkpoints: Checkpoints) -> None:
    path = None
    if job.saved is not None:
        checkpoints.go_on_from(job.saved)
        data.start_at(epoch=job.saved.epoch, batch=job.saved.batch)
        path = job.into / FOLDER / job.saved.path
    try:
        machine.fit(net, datamodule=data, ckpt_path=path, weights_only=False)
    except _UNFIT as fault:
        is_own = own_failure(fault, file=job.experiment.file, root=PACKAGE.parent) is not None
        if path is None or not checkpoints.restoring or is_own or isinstance(fault, torch.OutOfMemoryError):
            raise
        said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:_LONGEST]}"
        said = fault.message if isinstance(fault, RepriseError) else said
        raise CheckpointError(f"checkpoint {path.name} cannot be restored: {said}", hint=_OTHER) from fault
    if checkpoints.monitor is not None and machine.is_global_zero and not (job.into / FOLDER / BEST).exists():
        why = net.undefined.get(checkpoints.monitor, "it was NaN")
        job.say(f"no epoch is the best: {checkpoints.monitor} was never a number ({why}); the last one is tested")


def _trainer(job: Job, checkpoints: Checkpoints, waits: Waits, guards: list[Any], parts: list[Any]) -> L.Trainer:
    shown = displays(job.say, on_terminal=job.on_terminal)
    machine = L.Trainer(
        **limits(),
        **placement(job.device),
        logger=loggers(job.into, job.record),
        callbacks=[
            checkpoints,
            StopBetweenSteps(job.stop, checkpoints),
            CheckBeforeFirstStep(job.ledger, job.say),
            *guards,
            LambdaCallback(on_train_batch_start=lambda *_: job.on_first_step()),
            call_configured(SeedEveryStep),
            call_configured(LossLines),
            *call_configured(averaging),
            *call_configured(early_stopping, job.say),
            *parts,
            *shown,
        ],
        plugins=[WholeCheckpointIO(checkpoints.read)],
        profiler=waits,
        default_root_dir=job.into,
        enable_progress_bar=any(isinstance(part, ProgressBar) for part in shown),
        **_WITHOUT_EXTRAS,
    )
    log_at_steps(machine)
    return machine


def prepare(experiment: Experiment, dataset: Dataset, files: Files) -> tuple[Task, RunData]:
    """Apply the level of determinism, and return a seeded new net and its data."""
    quieten()
    apply_level()
    seed_start()
    net = experiment.make_net()
    return net, call_configured(RunData, dataset, net.samples(dataset, files))


def small_trainer(device: str, folder: Path, **options: Any) -> L.Trainer:
    """Return a trainer without validations, checkpoints and displays, for a few steps; `options` replace other arguments."""
    arguments = limits() | placement(device) | {"limit_val_batches": 0, "enable_progress_bar": False} | _WITHOUT_EXTRAS
    return L.Trainer(**(arguments | options), default_root_dir=folder)


def _test(job: Job, machine: L.Trainer, net: Task, data: RunData, clock: Telemetry) -> Trained:
    mine: Any = served(job.into / FOLDER) if machine.is_global_zero else None
    saved: Checkpoint = machine.strategy.broadcast(mine)
    checkpoint = read_saved(job.into / FOLDER, saved)
    net.load_state_dict(checkpoint["state_dict"])
    net.results, net.undefined = {}, {}
    steps = machine.global_step
    if not checkpoint["reprise"]["results"]:  # `max_steps` ended the run before the epoch's validation
        machine.validate(net, datamodule=data, verbose=False)
    machine.test(net, datamodule=data, verbose=False)
    weights = write_tensors(job.into, net, checkpoint) if machine.is_global_zero else ""
    position = checkpoint["reprise"]
    return Trained(
        metrics=position["results"] | net.results,
        undefined=position.get("undefined", {}) | net.undefined,
        telemetry=clock.summary(started=job.started),
        steps=steps,
        evaluated=EvaluatedWeights(epoch=epoch_of(position), step=saved.step),
        weights=weights,
    )


@configured
def limits(
    *, max_epochs: int, max_steps: int | None, accumulate: int, clip_norm: float | None, log_every: int
) -> dict[str, Any]:
    """Return the arguments for the length of the training and for gradient accumulation."""
    return {
        "max_epochs": max_epochs,
        "max_steps": -1 if max_steps is None else max_steps,
        "accumulate_grad_batches": accumulate,
        "gradient_clip_val": clip_norm,
        "log_every_n_steps": log_every,
    }


@configured
def placement(found: str, *, accelerator: str, devices: int, precision: str) -> dict[str, Any]:
    """Return the arguments for the devices; several devices train as processes; raise `DeviceError` if a device is missing."""
    kind = found if accelerator == "auto" else accelerator
    usable = torch.cuda.device_count() if kind == "gpu" else devices
    if usable < devices:
        raise DeviceError(
            f"this run needs {devices} GPUs; torch can use {usable}",
            hint="`reprise doctor` says why, or give --accelerator cpu",
        )
    return {
        "accelerator": kind,
        "devices": devices,
        "precision": precision,
        "strategy": "ddp" if devices > 1 else "auto",
    }


@configured
def seed_start(*, seed: int) -> None:
    """Seed all generators for the initial weights."""
    seed_all(derived(seed, "init"))


def quieten() -> None:
    """Silence Lightning's advice: settings determine workers and devices."""
    hide_missing_compiler()
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", module=r"torchmetrics\..*")
