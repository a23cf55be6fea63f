"""Rebuild a run's net with its weights."""

from __future__ import annotations

from dataclasses import dataclass
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
    from collections.abc import Mapping
    from pathlib import Path

    from lightning import LightningModule

    from trainer.runs.record import Record
    from trainer.settings.origins import Resolved
    from trainer.training.experiment import Experiment

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNet:
    """A run's net with its weights, in evaluation mode on the CPU."""

    net: LightningModule
    experiment: Experiment | PlainExperiment
    resolved: Resolved[Any]
    """The settings of the run."""


def load_net(record: Record, folder: Path) -> LightningModule:
    """Return the net of a run in `folder` with the weights that its test evaluated, in evaluation mode on the CPU; see `load_saved`."""
    return load_saved(record, folder).net


def load_saved(record: Record, folder: Path, *, folders: Mapping[str, Path] | None = None) -> SavedNet:
    """Return a run's net, as in `load_net`, with its experiment; `folders` are the folders of the datasets that settings name.

    The experiment's module is imported from the run's frozen source. Raise `RunError` if the run has no weights, or if they do not fit the
    net; `DigestMismatchError` if the weights or the source differ from the record.
    """
    if record.ingredients.kind == "script":
        raise RunError(
            f"run {record.run} ran a script, which has no net", hint="see the outputs in output/ of its attempt"
        )
    weights = load(read_weights(record, folder))
    require_source(folder, record.ingredients.source)
    saved = _build_saved_net(record, folder / COPY, folders or {})
    try:
        saved.net.load_state_dict(weights)
    except RuntimeError as fault:
        message = short(" ".join(str(fault).split()))
        raise RunError(f"the weights of run {record.run} do not fit its net: {message}", hint=_OTHER) from fault
    saved.net.eval()
    return saved


_OTHER = "the checkout's package has changed since: check out the run's commit (`reprise runs show RUN`)"


def read_weights(record: Record, folder: Path) -> bytes:
    """Return the file of a run's weights. Raise `RunError` if the run has no weights, `DigestMismatchError` if the file was altered."""
    listed = next((file for file in record.outcome.files if file.path == WEIGHTS), None)
    if listed is None:
        message = f"run {record.run} has no weights: it is {record.outcome.status}"
        raise RunError(message, hint="name a run that completed: `reprise runs ls` lists them")
    with attempt_root(folder / ATTEMPTS / str(record.attempt)) as attempt:
        status = attempt.stat(WEIGHTS)
        is_longer = status is not None and status.st_size > listed.size
        data = b"" if is_longer else attempt.read(WEIGHTS, most=listed.size)
    if is_longer or digest_of_bytes(data) != listed.sha256:
        message = f"{WEIGHTS} of run {record.run} is not the recorded file"
        raise DigestMismatchError(message, hint="it was altered: pull the run again")
    return data


def _build_saved_net(record: Record, source: Path, folders: Mapping[str, Path]) -> SavedNet:
    name = record.ingredients.experiment
    path = source / (name if "/" in name or name.endswith(".py") else f"trainer/experiments/{name}.py")
    values = record.circumstances.execution | record.ingredients.settings
    chosen = {key: value for key, value in values.items() if key in {"model", "data"}}
    # so that the module is imported by its path, next to this checkout's module
    elsewhere = source / "no folder of the file"
    experiment = load_any_experiment(name, path, root=elsewhere, chosen=chosen)
    resolved = resolve(experiment.settings, Origins(options={}, environ={}, record=values))
    with use_ledger(Ledger(resolved)):
        net = experiment.make_net(folders) if isinstance(experiment, PlainExperiment) else experiment.make_net()
    return SavedNet(net=net, experiment=experiment, resolved=resolved)
