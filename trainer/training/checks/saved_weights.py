"""Checks of saved weights, checkpoints and the exported program: they must reproduce the net's output."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.base.document import read_json
from trainer.runs.checkpoint_pointer import FOLDER, PREVIOUS, Saved
from trainer.training.assembly import FetchedDataset, open_joined
from trainer.training.check_result import CheckFailed, NothingToCheck, listed, require
from trainer.training.checks.exporting import ExampleCall, export, exporting, require_equal_outputs
from trainer.training.checks.first_epoch import outputs
from trainer.training.checks.module_location import TOLERANCE
from trainer.training.checks.short_training import lenient_ledger, train_shortly
from trainer.training.determinism.seeds import seed_all
from trainer.training.resuming.checkpoint_file import read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.checks.subject import CheckSubject, Trial
    from trainer.training.readers import Samples
    from trainer.training.tasks.task import Task
    from trainer.training.trained import Trained

_HALF: Final = 3
"""The number of steps before the checkpoint, and of steps after it."""


def saving(trial: Trial) -> str:
    """Load saved weights into a net with other initial weights."""
    trial.subject.folder.mkdir(exist_ok=True)
    path = trial.subject.folder / "saved.safetensors"
    with path.open("wb") as body:
        write_checkpoint(body, _checkpoint(trial.net))
    other = trial.fresh(seed=1)
    try:
        other.load_state_dict(read_checkpoint(path)["state_dict"])
    except RuntimeError as fault:
        line = (str(fault).strip().splitlines() or [""])[-1].strip()[:200]
        raise CheckFailed(f"the saved weights cannot be loaded: {line}") from fault
    seed_all(0)
    before = outputs(trial.net.eval(), trial.given)
    seed_all(0)
    after = outputs(other.eval(), trial.given)
    same = all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    require(same, "a new net that loads the saved weights returns other outputs")
    return f"{path.stat().st_size:,} bytes; a net with other initial weights returns equal bits after loading them"


def _checkpoint(net: Task) -> dict[str, Any]:
    """Return the net's part of a checkpoint. A hook that needs the trainer is tested by the check `resume`."""
    checkpoint: dict[str, Any] = {"state_dict": net.state_dict()}
    try:
        net.on_save_checkpoint(checkpoint)
    except RuntimeError as fault:
        if "not attached to a `Trainer`" not in str(fault):
            raise
    return checkpoint


def resuming(trial: Trial) -> str:
    """Compare an uninterrupted training with one that is resumed from the checkpoint in its middle."""
    whole, folder = train_few(trial, "whole"), trial.subject.folder
    previous = folder / "whole" / FOLDER / PREVIOUS
    if not previous.exists():
        raise NothingToCheck(f"{whole.steps} steps write only one checkpoint")
    saved = read_json(previous, Saved)
    again = folder / "again" / FOLDER
    again.mkdir(parents=True)
    (again / saved.path).hardlink_to(folder / "whole" / FOLDER / saved.path)
    if saved.best and saved.best.path != saved.path:
        (again / saved.best.path).hardlink_to(folder / "whole" / FOLDER / saved.best.path)
    rest = train_few(trial, "again", saved=saved)
    require(rest.steps == whole.steps, f"the resumed training ended at step {rest.steps}; expected {whole.steps}")
    odd = _differing(folder)
    require(not odd, f"after step {saved.step} of {whole.steps}, the resumed training differs in {listed(odd)}")
    return f"{saved.step} steps, resumed for {whole.steps - saved.step} more, equal {whole.steps} steps bit for bit, also in the optimizer"


def train_few(trial: Trial, name: str, *, saved: Saved | None = None, **settings: object) -> Trained:
    """Train on the first samples, by default six steps, into the folder `name`; resume from `saved`, if given.

    `settings` replace the subject's settings. Set `trial.lenient_ledger` on first use.
    """
    subject = trial.subject
    declared, few = trial.first_samples
    net = _with_samples(subject, few)
    data = FetchedDataset(declared=declared, files=subject.datasets[0].files)
    small = replace(subject, experiment=replace(subject.experiment, net=net), datasets=[data])
    changes = {"max_steps": 2 * _HALF, "checkpoint_every": _HALF, "max_epochs": 2 * _HALF, "accumulate": 1}
    ledger = lenient_ledger(small, **(changes | settings))
    trial.lenient_ledger = trial.lenient_ledger or ledger
    return train_shortly(small, subject.folder / name, ledger, saved=saved)


def _with_samples(subject: CheckSubject, few: Samples) -> type[Task]:
    """Return a subclass of the net that reads `few`. It also opens all samples, to bind the settings of the net's own reader."""
    kind = subject.experiment.net

    def samples(net: Task, *_: object) -> Samples:
        open_joined(subject.datasets, partial(kind.samples, net))
        return few

    return type(kind.__name__, (kind,), {"samples": samples, "__module__": kind.__module__})


def _differing(folder: Path) -> list[str]:
    one, other = (json.loads((folder / name / "tensors.json").read_bytes()) for name in ("whole", "again"))
    return [
        name
        for part in ("weights", "optimizer")
        for name in sorted(one[part].keys() | other[part].keys())
        if one[part].get(name) != other[part].get(name)
    ]


def exporting_any_size(trial: Trial) -> str:
    """Export the net as a torch program for any number of samples, and compare its output with the net's."""
    subject = trial.subject
    with exporting():
        net = trial.fresh()  # torch.export may change the net that it exports
        net.load_state_dict(trial.net.state_dict())
        net.eval()
        example = ExampleCall(positional=trial.given if isinstance(trial.given, tuple) else (trial.given,))
        program = export(net, example, dim=torch.export.Dim("batch"), file=subject.experiment.file, root=subject.root)
        whole = len(example.positional[0])
        for count in dict.fromkeys((whole, max(2, whole // 2))):
            require_equal_outputs(net, program, example.first(count))
    return f"the exported program's output is equal within {TOLERANCE:g}, also for other batch sizes"
