"""One training: assemble net, data and callbacks, train, test the served checkpoint, and write its tensors."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
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
    RepriseError,
)
from trainer.comparison.trace import FILE as TRACE
from trainer.runs.checkpoint_pointer import BEST, FOLDER, Checkpoint
from trainer.runs.record import EvaluatedWeights
from trainer.settings.ledger import call_configured, configured, use_ledger
from trainer.settings.shards import shards_of
from trainer.training.assembly import Assembly, TrainingJob, assemble, open_joined
from trainer.training.data import RunData
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import WatchSwitches, apply_level
from trainer.training.failures import PACKAGE, hide_missing_compiler, own_failure
from trainer.training.finite_losses import StopIfNotFinite
from trainer.training.logs.displays import displays
from trainer.training.logs.guarded_loggers import own_loggers
from trainer.training.logs.loggers import METRICS, finish, loggers
from trainer.training.logs.losses import log_at_steps
from trainer.training.logs.telemetry import Telemetry, Waits
from trainer.training.logs.wandb_page import facts
from trainer.training.optimization.callbacks import early_stopping, require_direction
from trainer.training.plain.experiment import PlainExperiment
from trainer.training.results import forget_results, is_plain, results_of, undefined_of
from trainer.training.resuming.checkpoint_file import WholeCheckpointIO
from trainer.training.resuming.checkpoints import Checkpoints, epoch_of, read_saved, served
from trainer.training.resuming.stop_between_steps import StopBetweenSteps
from trainer.training.shards.compare_ranks import CompareRanks
from trainer.training.shards.parts import load_whole
from trainer.training.shards.ranks import from_rank_0, meeting, share_files
from trainer.training.shards.strategies import sharded_strategy
from trainer.training.step_callbacks import CheckBeforeFirstStep, SeedEveryStep
from trainer.training.tracing.trace import Tracer, frozen_in, parameter_names, tracers, write_tensors
from trainer.training.trained import Trained
from trainer.training.transforms import transform_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lightning.pytorch.loggers import Logger

    from trainer.training.assembly import FetchedDataset
    from trainer.training.experiment import Experiment
    from trainer.training.initial_weights import WeightsFile
    from trainer.training.shards.place import RankPlace
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
"""Exceptions that restoring raises for a checkpoint that belongs to another net or has another format."""
_LONGEST: Final = 300
_WITHOUT_EXTRAS: Final[dict[str, Any]] = {
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
"""Arguments that disable the parts of Lightning that this package replaces or does not need."""
_ABOUT_RESULTS: Final = (
    "Trying to infer the `batch_size`",
    "ReduceLROnPlateau conditioned on metric",
    r"Found \d+ module\(s\) in eval mode",
    "You defined a `validation_step` but",
    "You passed in a `val_dataloader` but",
    "You have overridden `",
    "The ``compute`` method of metric",
    "`training_step` returned `None`",
)
"""Beginnings of warnings about the results of a plain module, such as an epoch's mean with a wrong weight for each batch."""
_OTHER: Final = "remove the file to use the previous checkpoint, or start a new run"


def train(job: TrainingJob) -> Trained:
    """Train, test the served checkpoint and write its tensors; exceptions of the experiment propagate."""
    quieten(shown=_ABOUT_RESULTS if isinstance(job.experiment, PlainExperiment) else ())
    with use_ledger(job.ledger), meeting(job.place, call_configured(kind_of, job.device), check=job.check_ranks):
        call_configured(require_direction, job.ledger.origins())
        job = replace(job, saved=from_rank_0(job.saved))
        job = replace(job, initial=_initial_weights(job))
        apply_level()
        switches = call_configured(WatchSwitches, job.on_switched)
        seed_start()
        clock = Telemetry(job.into, waits=Waits(), gauges=job.gauges)
        traced = tracers(job.into)
        assembled = assemble(job, switches)
        checkpoints = call_configured(
            Checkpoints,
            job.into / FOLDER,
            lambda: log_sizes(job.into, traced),
            run=job.run,
            saves_within_epoch=assembled.saves_within_epoch,
            on_saved=job.on_saved,
        )
        guards = [switches, call_configured(StopIfNotFinite, assembled.inspection)]
        ranks = [] if job.place is None else [CompareRanks()]
        parts = [*assembled.checks, *ranks, clock, *traced, *assembled.outputs, *job.watching]
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


def _initial_weights(job: TrainingJob) -> WeightsFile | None:
    """Return the file of initial weights on this machine. A run's file is copied from rank 0; every machine fetched a dataset's file."""
    of_run: WeightsFile | None = from_rank_0(job.initial if job.initial and job.initial.sha256 else None)
    if of_run is None or job.saved is not None:
        return job.initial
    share_files(job.place, job.into, {of_run.path.name})
    return replace(of_run, path=job.into / of_run.path.name)


def log_sizes(folder: Path, traced: list[Tracer]) -> dict[str, int]:
    """Flush the logs and return the size of each log in bytes."""
    for tracer in traced:
        tracer.flush()
    return {name: (folder / name).stat().st_size for name in (METRICS, TRACE) if (folder / name).exists()}


def _fit(job: TrainingJob, machine: L.Trainer, assembled: Assembly, checkpoints: Checkpoints) -> list[list[str]]:
    """Train; return the names of each optimizer's parameters."""
    path, net = None, assembled.net
    if job.saved is not None:
        checkpoints.resume_from(job.saved)
        assembled.start_at(epoch=job.saved.epoch, batch=job.saved.batch)
        path = job.into / FOLDER / job.saved.path
        share_files(job.place, job.into / FOLDER, {each.path for each in (job.saved, job.saved.best) if each})
    try:
        machine.fit(net, datamodule=assembled.data, ckpt_path=path, weights_only=False)
    except _UNFIT as fault:
        is_own = own_failure(fault, file=job.experiment.file, root=PACKAGE.parent) is not None
        if path is None or not checkpoints.restoring or is_own or isinstance(fault, torch.OutOfMemoryError):
            raise
        message = f"{type(fault).__name__}: {' '.join(str(fault).split())[:_LONGEST]}"
        message = fault.message if isinstance(fault, RepriseError) else message
        raise CheckpointError(f"checkpoint {path.name} cannot be restored: {message}", hint=_OTHER) from fault
    if checkpoints.monitor is not None and machine.is_global_zero and not (job.into / FOLDER / BEST).exists():
        why = undefined_of(net).get(checkpoints.monitor, "it was NaN")
        job.say(f"no epoch is the best: {checkpoints.monitor} was never a number ({why}); the last epoch is tested")
    return parameter_names(net, machine.optimizers)


def _trainer(
    job: TrainingJob, checkpoints: Checkpoints, waits: Waits, guards: list[Any], parts: list[Any]
) -> L.Trainer:
    shown = displays(job.say, on_terminal=job.on_terminal)
    machine = L.Trainer(
        **limits(),
        **placement(job.device, job.place),
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


def _loggers(job: TrainingJob, net: L.LightningModule) -> list[Logger]:
    """Return the loggers; for a plain module TensorBoard's is first: modules call `self.logger.experiment.add_image`."""
    lines, *others = loggers(job.into, job.record, job.on_limit)
    own = own_loggers(net, job.into, job.record, job.on_limit)
    for logger in own:
        logger.log_hyperparams(facts(job.record))  # type: ignore[arg-type] # without a record there are no own loggers
    return [*others, lines, *own] if isinstance(job.experiment, PlainExperiment) else [lines, *others, *own]


def prepare(experiment: Experiment, datasets: Sequence[FetchedDataset]) -> tuple[Task, RunData]:
    """Apply the level of determinism, and return a seeded new net and its data. Raise `DatasetError` if the data cannot be read."""
    quieten()
    apply_level()
    seed_start()
    net = experiment.make_net()
    declared, samples = open_joined(datasets, net.samples)
    net.class_names, net.alphabet = samples.classes, samples.alphabet
    data = call_configured(RunData, declared, samples, transform_of(net))
    net.fit_to_train(data.train_split())
    return net, data


def small_trainer(device: str, folder: Path, **options: Any) -> L.Trainer:
    """Return a trainer for a few steps, without validation, checkpoints or a progress display; `options` override its arguments."""
    arguments = limits() | placement(device) | {"limit_val_batches": 0, "enable_progress_bar": False} | _WITHOUT_EXTRAS
    return L.Trainer(**(arguments | options), default_root_dir=folder)


def _test(
    job: TrainingJob, machine: L.Trainer, assembled: Assembly, clock: Telemetry, names: Sequence[Sequence[str]]
) -> Trained:
    net, data = assembled.net, assembled.data
    mine: Any = served(job.into / FOLDER) if machine.is_global_zero else None
    saved: Checkpoint = machine.strategy.broadcast(mine)
    share_files(job.place, job.into / FOLDER, {saved.path})
    checkpoint = read_saved(job.into / FOLDER, saved)
    if is_plain(net):
        net.on_load_checkpoint(checkpoint)
    load_whole(net, checkpoint["state_dict"], strict=net.strict_loading)
    forget_results(net)
    steps = machine.global_step
    if not checkpoint["reprise"]["results"] and has_loop(net, data, "validation_step", "val_dataloader"):
        # `max_steps` ended training before the epoch's validation.
        machine.validate(net, datamodule=data, verbose=False)
    if has_loop(net, data, "test_step", "test_dataloader"):
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


def has_loop(net: L.LightningModule, data: L.LightningDataModule | None, step: str, loader: str) -> bool:
    """Return whether the net overrides `step`, and the net or its data module overrides `loader`; a task always does."""
    return is_overridden(step, net) and (is_overridden(loader, net) or is_overridden(loader, data))


@configured
def limits(
    *, max_epochs: int, max_steps: int | None, accumulate: int, clip_norm: float | None, log_every: int
) -> dict[str, Any]:
    """Return the arguments for the length of training and for gradient accumulation."""
    return {
        "max_epochs": max_epochs,
        "max_steps": -1 if max_steps is None else max_steps,
        "accumulate_grad_batches": accumulate,
        "gradient_clip_val": clip_norm,
        "log_every_n_steps": log_every,
    }


@configured
def kind_of(found: str, *, accelerator: str) -> str:
    """Return the kind of the device: `cpu` or `gpu`."""
    return found if accelerator == "auto" else accelerator


@configured
def placement(
    found: str,
    place: RankPlace | None = None,
    *,
    devices: int,
    shards: int | None,
    strategy: str | None,
    precision: str,
    seed: int,
) -> dict[str, Any]:
    """Return the arguments for the devices; each device has its own process. Raise `DeviceError` if torch cannot use `devices` GPUs."""
    kind = call_configured(kind_of, found)
    usable = torch.cuda.device_count() if kind == "gpu" else devices
    if usable < devices:
        raise DeviceError(
            f"this run needs {devices} GPUs; torch can use {usable}",
            hint="`reprise doctor` shows the cause; or use --accelerator cpu",
        )
    count = shards_of(shards, devices=devices)
    return {
        "accelerator": kind,
        "devices": 1 if place is None else place.here,
        "num_nodes": 1 if place is None else place.nodes,
        "precision": precision,
        "strategy": (
            "auto" if count == 1 else sharded_strategy(kind, place=place, shards=count, seed=seed, strategy=strategy)
        ),
    }


@configured
def seed_start(*, seed: int) -> None:
    """Seed all generators for the initial weights."""
    seed_all(derived(seed, "init"))


def quieten(*, shown: Sequence[str] = ()) -> None:
    """Silence the advice of Lightning and torchmetrics, such as on workers and devices, which the settings determine.

    Warnings of both that begin with one of the regular expressions `shown` are shown.
    """
    hide_missing_compiler()
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", module=r"torchmetrics\..*")
    for message in shown:
        warnings.filterwarnings("default", message=message, module=r"(lightning|torchmetrics)\..*")
