"""Rebuild a run's net with its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors.torch import load

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, RunError
from trainer.base.run_files import attempt_root
from trainer.base.suggestions import short
from trainer.runs.resume import require_source
from trainer.runs.run import ATTEMPTS
from trainer.settings.ledger import Ledger, use_ledger
from trainer.settings.origins import Origins, resolve
from trainer.source.capture import COPY
from trainer.training.experiment import load_any_experiment
from trainer.training.plain.experiment import PlainExperiment

if TYPE_CHECKING:
    from pathlib import Path

    from lightning import LightningModule
    from torch import Tensor

    from trainer.runs.record import Record
    from trainer.settings.origins import Resolved

WEIGHTS = "weights.safetensors"


def load_net(record: Record, folder: Path) -> LightningModule:
    """Return the net of a run in `folder` with the weights that its test evaluated, in evaluation mode on the CPU; see `load_saved`."""
    return load_saved(record, folder)[0]


def load_saved(record: Record, folder: Path) -> tuple[LightningModule, Resolved[Any]]:
    """Return the net of `load_net`, and the settings of the run.

    The experiment's module is imported from the run's frozen source. Raise `RunError` if the run has no weights, or if they do not fit the
    net; `DigestMismatchError` if the weights or the source are not the recorded ones.
    """
    if record.ingredients.kind == "script":
        raise RunError(
            f"run {record.run} ran a script, which has no net", hint="see the outputs in output/ of its attempt"
        )
    weights = _weights(record, folder)
    require_source(folder, record.ingredients.source)
    net, resolved = _net(record, folder / COPY)
    try:
        net.load_state_dict(weights)
    except RuntimeError as fault:
        message = short(" ".join(str(fault).split()))
        raise RunError(f"the weights of run {record.run} do not fit its net: {message}", hint=_OTHER) from fault
    return net.eval(), resolved


_OTHER = "the checkout's package has changed since: check out the run's commit (`reprise runs show RUN`)"


def _weights(record: Record, folder: Path) -> dict[str, Tensor]:
    listed = next((file for file in record.outcome.files if file.path == WEIGHTS), None)
    if listed is None:
        message = f"run {record.run} has no weights: it is {record.outcome.status}"
        raise RunError(message, hint="name a run that completed: `reprise runs ls` lists them")
    with attempt_root(folder / ATTEMPTS / str(record.attempt)) as attempt:
        data = attempt.read(WEIGHTS, most=listed.size)
    if digest_of_bytes(data) != listed.sha256:
        message = f"{WEIGHTS} of run {record.run} is not the recorded file"
        raise DigestMismatchError(message, hint="it was altered: pull the run again")
    return load(data)


def _net(record: Record, source: Path) -> tuple[LightningModule, Resolved[Any]]:
    name = record.ingredients.experiment
    path = source / (name if "/" in name or name.endswith(".py") else f"trainer/experiments/{name}.py")
    values = record.circumstances.execution | record.ingredients.settings
    chosen = {key: value for key, value in values.items() if key in {"model", "data"}}
    elsewhere = source / "no folder of the file"  # the module is imported by its path, beside this checkout's own
    experiment = load_any_experiment(name, path, root=elsewhere, chosen=chosen)
    resolved = resolve(experiment.settings, Origins(options={}, environ={}, record=values))
    with use_ledger(Ledger(resolved)):
        net = experiment.make_net({}) if isinstance(experiment, PlainExperiment) else experiment.make_net()
    return net, resolved
