"""One training from assembled parts to files: net, data, steps, the test of what is served, its tensors.

Knows the order in which things are made and done. Refuses to know where the dataset came from, who keeps the record and who is told.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar

from trainer.errors import DeviceError
from trainer.ledger import configured, kept, made
from trainer.training.checkpoints import Checkpoints, Saved, WholeCheckpointIO, read_saved, served
from trainer.training.data import RunData
from trainer.training.exactness import apply_level
from trainer.training.finite import StopWhereNotFinite
from trainer.training.logs import TellFirstStep, displays, finish, loggers
from trainer.training.seeds import derived, seed_all
from trainer.training.steps import CheckBeforeFirstStep, SeedEveryStep, StepClock
from trainer.training.stopping import StopBetweenSteps
from trainer.training.tensors import write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.dataset import Dataset
    from trainer.files import Files
    from trainer.ledger import Ledger
    from trainer.training.experiment import Experiment
    from trainer.training.stop import Stop
    from trainer.training.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a training is handed."""

    run: str
    experiment: Experiment
    ledger: Ledger
    dataset: Dataset
    data: Files
    """The fetched dataset's files."""
    into: Path
    """The attempt's folder."""
    stop: Stop
    say: Callable[[str], None]
    on_first_step: Callable[[], None]
    """Told when the first step begins: from then on the run is one, whatever happens."""
    on_terminal: bool
    device: str
    """What the launcher found to train on: `cpu` or `gpu`."""
    started: float
    """The monotonic clock when the command was typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training gave."""

    metrics: dict[str, float]
    telemetry: dict[str, float]
    steps: int
    weights: str
    """The digest of the weights' table in `tensors.json`."""


def train(job: Job) -> Trained:
    """Train, test the checkpoint that is served, write its tensors. Raises what the experiment raises."""
    quieten()
    with kept(job.ledger):
        apply_level()
        _seed_start()
        net = configured(job.experiment.net)()
        data = made(RunData, job.dataset, net.samples(job.dataset, job.data))
        clock, checkpoints = StepClock(), made(Checkpoints, job.into / "checkpoints", run=job.run)
        machine = _machine(job, [clock, checkpoints])
        try:
            machine.fit(net, datamodule=data)
            return _closed(job, machine, net, data, clock)
        finally:
            finish(machine.loggers)


def _machine(job: Job, parts: list[Any]) -> L.Trainer:
    clock, checkpoints = parts
    shown = displays(job.say, on_terminal=job.on_terminal)
    return L.Trainer(
        **limits(),
        **placement(job.device),
        logger=loggers(job.into),
        callbacks=[
            CheckBeforeFirstStep(job.ledger),
            TellFirstStep(job.on_first_step),
            made(StopWhereNotFinite),
            made(SeedEveryStep),
            clock,
            *shown,
            checkpoints,
            StopBetweenSteps(job.stop, checkpoints),
        ],
        plugins=[WholeCheckpointIO()],
        default_root_dir=job.into,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(part, ProgressBar) for part in shown),
        enable_checkpointing=True,
    )


def _closed(job: Job, machine: L.Trainer, net: Task, data: RunData, clock: StepClock) -> Trained:
    mine: Any = served(job.into / "checkpoints") if machine.is_global_zero else None
    saved: Saved = machine.strategy.broadcast(mine)
    checkpoint = read_saved(job.into / "checkpoints", saved)
    net.load_state_dict(checkpoint["state_dict"])
    net.results = {}
    steps = machine.global_step
    machine.test(net, datamodule=data, verbose=False)
    weights = write_tensors(job.into, net, checkpoint) if machine.is_global_zero else ""
    metrics = {**checkpoint["reprise"]["results"], **net.results}
    return Trained(metrics=metrics, telemetry=clock.telemetry(started=job.started), steps=steps, weights=weights)


@configured
def limits(
    *, max_epochs: int, max_steps: int | None, accumulate: int, clip_norm: float | None, log_every: int
) -> dict[str, Any]:
    """Say how long to train and how steps are made of batches."""
    return {
        "max_epochs": max_epochs,
        "max_steps": -1 if max_steps is None else max_steps,
        "accumulate_grad_batches": accumulate,
        "gradient_clip_val": clip_norm,
        "log_every_n_steps": log_every,
    }


@configured
def placement(found: str, *, accelerator: str, devices: int, precision: str) -> dict[str, Any]:
    """Say what to train on: several devices are processes that exchange gradients. Raises `DeviceError`, never falls back."""
    kind = found if accelerator == "auto" else accelerator
    usable = torch.cuda.device_count() if kind == "gpu" else devices
    if usable < devices:
        raise DeviceError(
            f"this run wants {devices} GPUs; torch can use {usable}",
            hint="`reprise doctor` says why, or give --accelerator cpu",
        )
    return {
        "accelerator": kind,
        "devices": devices,
        "precision": precision,
        "strategy": "ddp" if devices > 1 else "auto",
    }


@configured
def _seed_start(*, seed: int) -> None:
    seed_all(derived(seed, "init"))


def quieten() -> None:
    """Keep Lightning's advice to itself: what it would say about workers and devices is settled by settings."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", module=r"torchmetrics\..*")
