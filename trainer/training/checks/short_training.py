"""A short training of a checked experiment, with the package's own `train` and without external services."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.training.checks.setting_use import Notebook
from trainer.training.fit import Job, Trained, train
from trainer.training.resuming.stop_requests import Stop

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.checkpoint_pointer import Saved
    from trainer.settings.ledger import Ledger
    from trainer.training.checks.subject import Subject

_QUIET: Final[dict[str, Any]] = {
    "progress": False,
    "tensorboard": False,
    "wandb": "off",
    "trace": "off",
    "terminate_on_nan": False,
    "devices": 1,
    "workers": 0,
}


def notebook(subject: Subject, **settings: object) -> Notebook:
    """Return the ledger of a short training, with some settings changed."""
    told = subject.resolved.settings.model_copy(update=_QUIET | settings)
    return Notebook(replace(subject.resolved, settings=told), root=subject.root)


def train_shortly(subject: Subject, into: Path, ledger: Ledger, *, saved: Saved | None = None) -> Trained:
    """Train into the folder `into` with the settings of the ledger; resume from the checkpoint `saved`, if given."""
    into.mkdir(exist_ok=True)
    job = Job(
        run="check",
        experiment=subject.experiment,
        ledger=ledger,
        dataset=subject.dataset,
        data=subject.data,
        into=into,
        stop=Stop(),
        say=lambda _: None,
        on_first_step=lambda: None,
        on_terminal=False,
        device=subject.device,
        started=monotonic(),
        saved=saved,
    )
    return train(job)
