"""Short training runs of an experiment for checks and baselines, with the package's own `train` and without external services.

A baseline's runs take about a minute on synthetic data, with several seeds or with perturbed weights; `trainer.comparison.baseline`
judges the results. The check `settings used` reads the ledger of a short training run.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.base.suggestions import nearest
from trainer.settings.fields import Role, roles
from trainer.settings.ledger import Ledger
from trainer.training.assembly import TrainingJob, by_role
from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck, listed
from trainer.training.checks.subject import LARGEST_BATCH, CheckSubject
from trainer.training.determinism.seeds import derived
from trainer.training.fit import quieten, train
from trainer.training.readers.synthetic import make_all_synthetic
from trainer.training.resuming.stop_requests import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.data.declaration import Dataset
    from trainer.runs.checkpoint_pointer import Saved
    from trainer.settings.origins import Resolved
    from trainer.training.checks.subject import Trial
    from trainer.training.experiment import Experiment
    from trainer.training.tasks.task import Task
    from trainer.training.trained import Trained

STEPS: Final = 40
_BATCHES: Final = 8
_NUDGE: Final = 2.0**-20
"""The relative change of perturbed weights: eight times the last bit of float32."""
_QUIET: Final[dict[str, Any]] = {
    "progress": False,
    "tensorboard": False,
    "wandb": "off",
    "trace": "off",
    "terminate_on_nan": False,
    "devices": 1,
    "workers": 0,
}


class LenientLedger(Ledger):
    """A ledger that lets training begin although a given setting has no effect, and records the setting."""

    idle_then: list[str] | None = None
    """The given settings without an effect before the first step; None if no first step was reached."""

    def require_bound(self) -> None:
        """Record the unused settings instead of raising: a run rejects them before its first step, even if its test uses them."""
        self.idle_then = self.unbound()


def lenient_ledger(subject: CheckSubject, **settings: object) -> LenientLedger:
    """Return the ledger of a short training run, with some settings changed."""
    changed = subject.resolved.settings.model_copy(update=_QUIET | settings)
    return LenientLedger(replace(subject.resolved, settings=changed), root=subject.root)


def train_shortly(subject: CheckSubject, into: Path, ledger: Ledger, *, saved: Saved | None = None) -> Trained:
    """Train into the folder `into` with the settings of the ledger; resume from the checkpoint `saved`, if given."""
    into.mkdir(exist_ok=True)
    job = TrainingJob(
        run="check",
        experiment=subject.experiment,
        ledger=ledger,
        datasets=subject.datasets,
        into=into,
        stop=StopRequest(),
        say=lambda _: None,
        on_first_step=lambda: None,
        on_terminal=False,
        device=subject.device,
        started=monotonic(),
        saved=saved,
    )
    return train(job)


def settings_used(trial: Trial) -> str:
    """Check the ledger of a short training run for unused settings, as a run does before its first step and at its end."""
    ledger = trial.lenient_ledger
    if ledger is None or ledger.idle_then is None:
        raise NothingToCheck("no short training run reached its first step")
    bearing = {name for name, role in roles(type(trial.subject.resolved.settings)).items() if role is Role.RESULT}
    if faults := [ledger.unused(name) for name in ledger.idle_then if name in bearing]:
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        raise CheckFailed("; ".join(fault.message for fault in faults), hint="; ".join(hints))
    if odd := [name for name in ledger.unread() if name in bearing]:
        near = nearest(odd[0], ledger.origins().keys() - {odd[0]}, most=1)
        raise CheckNote(
            f"nothing uses {listed(odd)}", hint=f"did you mean {near[0]} instead of {odd[0]}?" if near else None
        )
    return f"each of {len(bearing)} settings that affect the result is used or has its default"


def small_subject(
    experiment: Experiment, resolved: Resolved[Any], declared: Sequence[Dataset], *, root: Path, folder: Path
) -> CheckSubject:
    """Return a subject with the experiment's own settings, small batches on the CPU, and synthetic twins of eight batches."""
    size = min(int(resolved.settings.value_of("batch_size")), LARGEST_BATCH)
    settings = resolved.settings.model_copy(update={"batch_size": size, "max_steps": STEPS, "max_epochs": STEPS})
    return CheckSubject(
        experiment=experiment,
        resolved=replace(resolved, settings=settings),
        root=root,
        datasets=by_role(settings, make_all_synthetic(declared, rows=_BATCHES * size)),
        device="cpu",
        folder=folder,
    )


def seed_results(subject: CheckSubject, *, seeds: int) -> Iterator[dict[str, float]]:
    """Train once for each seed from 0, and yield the result metrics."""
    quieten()
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained = train_shortly(subject, subject.folder / f"seed{seed}", lenient_ledger(subject, seed=seed))
        yield trained.metrics


def perturbed_results(subject: CheckSubject, *, times: int) -> Iterator[dict[str, float]]:
    """Train with seed 0 and perturbed last bits of the initial weights, and yield the result metrics: they show the effect of rounding."""
    for number in range(1, times + 1):
        experiment = replace(subject.experiment, net=_with_perturbed_weights(subject.experiment.net, number))
        moved = replace(subject, experiment=experiment, folder=subject.folder / f"nudge{number}")
        moved.folder.mkdir()
        yield from seed_results(moved, seeds=1)


def _with_perturbed_weights(kind: type[Task], number: int) -> type[Task]:
    def on_fit_start(net: Task) -> None:
        kind.on_fit_start(net)
        generator = torch.Generator().manual_seed(derived(number, "nudge"))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1 + _NUDGE * torch.randn(parameter.shape, generator=generator))

    return type(kind.__name__, (kind,), {"on_fit_start": on_fit_start, "__module__": kind.__module__})
