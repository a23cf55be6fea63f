"""One training: assemble net, data and callbacks, train, test the served checkpoint, and write its tensors."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import LambdaCallback, ProgressBar
from lightning.pytorch.utilities.model_helpers import is_overridden

from trainer.base.errors import (
    CheckpointError,
    DeviceError,
    DigestMismatchError,
    DocumentError,
    ExperimentError,
    RepriseError,
    SettingError,
)
from trainer.comparison.trace import FILE as TRACE
from trainer.runs.checkpoint_pointer import BEST, FOLDER, Checkpoint, Saved
from trainer.runs.record import EvaluatedWeights, Record
from trainer.settings.hints import option
from trainer.settings.ledger import call_configured, configured, use_ledger
from trainer.training.compilation import compiling
from trainer.training.data import RunData
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import WatchSwitches, apply_level
from trainer.training.failures import PACKAGE, hide_missing_compiler, own_failure
from trainer.training.figures.gallery import Gallery
from trainer.training.finite_losses import StopIfNotFinite
from trainer.training.inspection import Inspector
from trainer.training.logs.guarded_loggers import own_loggers
from trainer.training.logs.loggers import METRICS, LossLines, displays, facts, finish, log_at_steps, loggers
from trainer.training.logs.telemetry import Telemetry, Waits
from trainer.training.normalization import Normalize
from trainer.training.optimization.callbacks import averaging, early_stopping
from trainer.training.plain.experiment import PlainExperiment
from trainer.training.plain.loaders import HOOKS, ControlledLoaders
from trainer.training.readers import open_samples
from trainer.training.results import CollectResults, forget_results, is_plain, results_of, undefined_of
from trainer.training.resuming.checkpoint_file import WholeCheckpointIO
from trainer.training.resuming.checkpoints import Checkpoints, StopBetweenSteps, epoch_of, read_saved, served
from trainer.training.step_callbacks import CheckBeforeFirstStep, SeedEveryStep
from trainer.training.tasks.fit_checks import CheckNet
from trainer.training.tracing.trace import Tracer, frozen_in, parameter_names, tracers, write_tensors
from trainer.training.trained import Trained
from trainer.training.transforms import transform_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lightning.pytorch.loggers import Logger

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
    experiment: Experiment | PlainExperiment
    ledger: Ledger
    datasets: Sequence[FetchedDataset]
    """The datasets that the settings name; a task has exactly one."""
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
    on_limit: Callable[[str, str], object] = lambda _, __: None
    """Called with what the run does not promise, such as `resume`, and the reason."""
    gauges: Gauges = lambda _: {}
    """Returns measurements of this process and of its GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedDataset:
    """A dataset and its files."""

    declared: Dataset
    files: Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The net and the data of a training, and the parts that only its kind of experiment needs."""

    net: L.LightningModule
    data: L.LightningDataModule | None
    start_at: Callable[..., None]
    """Moves the training data to `epoch` and `batch`."""
    losses: list[Any] = field(default_factory=list)
    """Callbacks that log the loss and average the weights."""
    checks: list[Any] = field(default_factory=list)
    """Callbacks that check the net before the first step, and compile it."""
    outputs: list[Any] = field(default_factory=list)
    """Callbacks that collect results or write files of their own."""
    saves_within_epoch: Callable[[], bool] = lambda: True
    inspection: Inspection | None = None


def train(job: Job) -> Trained:
    """Train, test the served checkpoint and write its tensors; exceptions of the experiment propagate."""
    quieten()
    with use_ledger(job.ledger):
        apply_level()
        switches = call_configured(WatchSwitches, job.on_switched)
        seed_start()
        clock = Telemetry(job.into, waits=Waits(), gauges=job.gauges)
        traced = tracers(job.into)
        assembled = _assemble(job, switches)
        checkpoints = call_configured(
            Checkpoints,
            job.into / FOLDER,
            lambda: log_sizes(job.into, traced),
            run=job.run,
            saves_within_epoch=assembled.saves_within_epoch,
        )
        guards = [switches, call_configured(StopIfNotFinite, assembled.inspection)]
        parts = [*assembled.checks, clock, *traced, *assembled.outputs]
        machine = _trainer(
            job,
            checkpoints,
            clock.waits,
            guards,
            [*assembled.losses, *call_configured(early_stopping, job.say), *parts],
        )
        machine.loggers = _loggers(job, assembled.net)
        try:
            names = _fit(job, machine, assembled, checkpoints)
            return replace(_test(job, machine, assembled, clock, names), inspection=assembled.inspection)
        finally:
            finish(machine.loggers)


def _assemble(job: Job, switches: WatchSwitches) -> Assembly:
    if isinstance(job.experiment, PlainExperiment):
        return _assemble_plain(job, job.experiment, switches)
    return _assemble_task(job, job.experiment, switches)


def _assemble_task(job: Job, experiment: Experiment, switches: WatchSwitches) -> Assembly:
    net = experiment.make_net()
    switches.require_unchanged("the constructor of the net")
    call_configured(require_optimizing, net)
    (dataset,) = job.datasets
    samples = net.samples(dataset.declared, dataset.files)
    net.class_names = samples.classes
    data = call_configured(RunData, dataset.declared, samples, transform_of(net))
    shown = Gallery(job.into, job.say, dataset=dataset.declared, samples=samples)
    inspector = Inspector(data=data, stored=job.inspection, say=job.say)  # in rank 0, before other ranks start
    seen = inspector.inspect(net, resumed=job.saved is not None) if job.record else None
    fitted = net.fit_to_train(data.train_split(resumed=job.saved is not None))
    for line in fitted if job.record else ():
        job.say(line)
    return Assembly(
        net=net,
        data=data,
        start_at=data.start_at,
        losses=[call_configured(LossLines), *call_configured(averaging)],
        checks=[CheckNet(experiment, data, seen, job.say), *call_configured(compiling, job.device)],
        outputs=[shown],
        inspection=seen,
    )


def _assemble_plain(job: Job, experiment: PlainExperiment, switches: WatchSwitches) -> Assembly:
    folders = {each.declared.name: each.files.folder() for each in job.datasets}
    net = experiment.make_net(folders)
    switches.require_unchanged("the constructor of the net")
    call_configured(require_supported, net)
    require_no_normalize(net)
    compiles_itself = any(each.name == "compile" for each in experiment.parameters)
    checks = [] if compiles_itself else call_configured(compiling, job.device)
    if experiment.reads_samples:
        dataset = job.datasets[0]
        read = call_configured(RunData, dataset.declared, open_samples(dataset.declared, dataset.files), None)
        return Assembly(net=net, data=read, start_at=read.start_at, checks=checks, outputs=[CollectResults()])
    data = experiment.make_data(folders)
    loaders = call_configured(ControlledLoaders, job.on_limit)
    for owner, base in ((net, L.LightningModule), (data, L.LightningDataModule)):
        own = [hook for hook in HOOKS if owner is not None and getattr(type(owner), hook) is not getattr(base, hook)]
        loaders.control(owner, own)
    if not job.datasets:
        job.on_limit("data", "the data are not a dataset: their bytes are not recorded")
    return Assembly(
        net=net,
        data=data,
        start_at=loaders.start_at,
        checks=checks,
        outputs=[CollectResults()],
        saves_within_epoch=lambda: loaders.resumes_within_epoch,
    )


@configured
def require_supported(net: L.LightningModule, *, devices: int) -> None:
    """Raise `SettingError` for several devices, and for a setting without effect."""
    if devices > 1:
        message = (
            f"setting devices is {devices}; a plain LightningModule, as {type(net).__name__} is, trains on one device"
        )
        raise SettingError(message, hint="leave --devices out")
    call_configured(require_optimizing, net)


@configured
def require_optimizing(net: L.LightningModule, *, accumulate: int, clip_norm: float | None) -> None:
    """Raise `SettingError` for a setting without effect because the net steps its optimizers itself."""
    if net.automatic_optimization:
        return
    for name, is_given in (("accumulate", accumulate != 1), ("clip_norm", clip_norm is not None)):
        if is_given:
            message = f"setting {name} has no effect: {type(net).__name__} optimizes manually"
            raise SettingError(message, hint=f"leave {option(name)} out; the module does that itself")


def require_no_normalize(net: L.LightningModule) -> None:
    """Raise `ExperimentError` for a `Normalize` in a plain LightningModule: only a task's net is fitted."""
    if name := next((name for name, each in net.named_modules() if isinstance(each, Normalize)), None):
        said = f"{type(net).__name__}.{name} is a Normalize, which a run fits in the net of a task only"
        raise ExperimentError(
            said, hint="derive the net from a task (docs/how-to/experiments.md), or use nn.BatchNorm1d"
        )


def log_sizes(folder: Path, traced: list[Tracer]) -> dict[str, int]:
    """Flush the logs and return the size of each log in bytes."""
    for tracer in traced:
        tracer.flush()
    return {name: (folder / name).stat().st_size for name in (METRICS, TRACE) if (folder / name).exists()}


def _fit(job: Job, machine: L.Trainer, assembled: Assembly, checkpoints: Checkpoints) -> list[list[str]]:
    """Train; return the names of each optimizer's parameters."""
    path, net = None, assembled.net
    if job.saved is not None:
        checkpoints.go_on_from(job.saved)
        assembled.start_at(epoch=job.saved.epoch, batch=job.saved.batch)
        path = job.into / FOLDER / job.saved.path
    try:
        machine.fit(net, datamodule=assembled.data, ckpt_path=path, weights_only=False)
    except _UNFIT as fault:
        is_own = own_failure(fault, file=job.experiment.file, root=PACKAGE.parent) is not None
        if path is None or not checkpoints.restoring or is_own or isinstance(fault, torch.OutOfMemoryError):
            raise
        said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:_LONGEST]}"
        said = fault.message if isinstance(fault, RepriseError) else said
        raise CheckpointError(f"checkpoint {path.name} cannot be restored: {said}", hint=_OTHER) from fault
    if checkpoints.monitor is not None and machine.is_global_zero and not (job.into / FOLDER / BEST).exists():
        why = undefined_of(net).get(checkpoints.monitor, "it was NaN")
        job.say(f"no epoch is the best: {checkpoints.monitor} was never a number ({why}); the last one is tested")
    return parameter_names(net, machine.optimizers)


def _trainer(job: Job, checkpoints: Checkpoints, waits: Waits, guards: list[Any], parts: list[Any]) -> L.Trainer:
    shown = displays(job.say, on_terminal=job.on_terminal)
    machine = L.Trainer(
        **limits(),
        **placement(job.device),
        logger=False,
        callbacks=[
            checkpoints,
            StopBetweenSteps(job.stop, checkpoints),
            CheckBeforeFirstStep(job.ledger, job.say),
            *guards,
            LambdaCallback(on_train_batch_start=lambda *_: job.on_first_step()),
            call_configured(SeedEveryStep),
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


def _loggers(job: Job, net: L.LightningModule) -> list[Logger]:
    """Return the loggers; for a plain module TensorBoard's is first: modules call `self.logger.experiment.add_image`."""
    lines, *others = loggers(job.into, job.record, job.on_limit)
    own = own_loggers(net, job.into, job.record, job.on_limit)
    for logger in own:
        logger.log_hyperparams(facts(job.record))  # type: ignore[arg-type] # only a run with a record has its own
    return [*others, lines, *own] if isinstance(job.experiment, PlainExperiment) else [lines, *others, *own]


def prepare(experiment: Experiment, dataset: Dataset, files: Files) -> tuple[Task, RunData]:
    """Apply the level of determinism, and return a seeded new net and its data."""
    quieten()
    apply_level()
    seed_start()
    net = experiment.make_net()
    samples = net.samples(dataset, files)
    net.class_names = samples.classes
    data = call_configured(RunData, dataset, samples, transform_of(net))
    net.fit_to_train(data.train_split())
    return net, data


def small_trainer(device: str, folder: Path, **options: Any) -> L.Trainer:
    """Return a trainer without validations, checkpoints and displays, for a few steps; `options` replace other arguments."""
    arguments = limits() | placement(device) | {"limit_val_batches": 0, "enable_progress_bar": False} | _WITHOUT_EXTRAS
    return L.Trainer(**(arguments | options), default_root_dir=folder)


def _test(
    job: Job, machine: L.Trainer, assembled: Assembly, clock: Telemetry, names: Sequence[Sequence[str]]
) -> Trained:
    net, data = assembled.net, assembled.data
    mine: Any = served(job.into / FOLDER) if machine.is_global_zero else None
    saved: Checkpoint = machine.strategy.broadcast(mine)
    checkpoint = read_saved(job.into / FOLDER, saved)
    if is_plain(net):
        net.on_load_checkpoint(checkpoint)
    net.load_state_dict(checkpoint["state_dict"], strict=net.strict_loading)
    forget_results(net)
    steps = machine.global_step
    if not checkpoint["reprise"]["results"] and _has_loop(assembled, "validation_step", "val_dataloader"):
        machine.validate(net, datamodule=data, verbose=False)  # `max_steps` ended the run before the epoch's validation
    if _has_loop(assembled, "test_step", "test_dataloader"):
        machine.test(net, datamodule=data, verbose=False)
    weights = write_tensors(job.into, checkpoint, names, frozen=frozen_in(net)) if machine.is_global_zero else ""
    position = checkpoint["reprise"]
    return Trained(
        metrics=position["results"] | results_of(net),
        undefined=position.get("undefined", {}) | undefined_of(net),
        telemetry=clock.summary(started=job.started),
        steps=steps,
        evaluated=EvaluatedWeights(epoch=epoch_of(position), step=saved.step),
        weights=weights,
        tolerances=dict(getattr(job.experiment.net, "tolerances", {})),
    )


def _has_loop(assembled: Assembly, step: str, loader: str) -> bool:
    """Return whether the net has a step, and the net or its data a loader for it; a task always has both."""
    return is_overridden(step, assembled.net) and (
        is_overridden(loader, assembled.net) or is_overridden(loader, assembled.data)
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
