"""Checks of a plain module's guarantees with short runs: repeatable, resumable, on several devices, and exportable.

A task's net has many checks; a plain module has its own loss, metrics and data, so only its runs can be checked.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.run_files import read_run_json
from trainer.runs.checkpoint_pointer import FOLDER, LATEST, PREVIOUS, Saved
from trainer.settings.ledger import Ledger
from trainer.training.assembly import FetchedDataset, TrainingJob
from trainer.training.check_result import CheckFailed, CheckNote, CheckStatus, Finding, NothingToCheck
from trainer.training.checks.exporting import FirstBatch, exportable
from trainer.training.fit import train
from trainer.training.resuming.stop_requests import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lightning.pytorch.callbacks import Callback

    from trainer.settings.origins import Resolved
    from trainer.training.plain.experiment import PlainExperiment
    from trainer.training.trained import Trained

STEPS: Final = 20
_SHARED: Final = 2
"""The number of steps with shards."""
_QUIET: Final[dict[str, Any]] = {"progress": False, "wandb": "off", "monitor": None, "patience": None}
"""Settings of the short runs. TensorBoard stays enabled: modules call `self.logger.experiment.add_scalar`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSubject:
    """A plain experiment to check, its data, and the folder for its short runs."""

    experiment: PlainExperiment
    resolved: Resolved[Any]
    datasets: Sequence[FetchedDataset]
    device: str
    root: Path
    folder: Path
    steps: int = STEPS


def check_promises(subject: PlainSubject) -> Iterator[Finding]:
    """Yield the findings about runs of the experiment: trained, recorded, repeatable, resumable, on several devices, exportable.

    Exceptions of the experiment propagate.
    """
    limits: dict[str, str] = {}
    began = monotonic()
    seen = FirstBatch()
    first = _train(subject, "first", limits, watching=[seen])
    names = ", ".join(sorted(first.metrics)) or "no metric: the module logs none"
    yield _finding("trained", f"{first.steps} steps; results: {names}", began=began)
    unrecorded = limits.get("data") or limits.get("order")
    yield _finding("recorded", unrecorded or "settings, source, image and datasets", began=began, notes=unrecorded)
    began, again = monotonic(), _train(subject, "again", {})
    equal = (first.weights, first.metrics) == (again.weights, again.metrics)
    text = "the same steps again give " + ("equal bits" if equal else "other weights or metrics")
    hint = "look for random numbers, times or hash order that the seed does not determine: `torch.seed()`, `set`, `time.time()`"
    yield _finding("repeatable", text, began=began, failed=None if equal else hint)
    began = monotonic()
    previous = subject.folder / "first" / FOLDER / PREVIOUS
    if why := limits.get("resume"):
        yield _finding("resumable", why, began=began, notes=why)
    elif not previous.exists():
        yield Finding(
            check="resumable", status=CheckStatus.SKIPPED, message="too few steps for a checkpoint before the last"
        )
    else:
        saved = read_run_json(previous, Saved)
        shutil.copytree(previous.parent, subject.folder / "resumed" / FOLDER)
        shutil.copy(previous, subject.folder / "resumed" / FOLDER / LATEST)
        resumed = _train(subject, "resumed", {}, saved=saved)
        equal = (first.weights, first.metrics) == (resumed.weights, resumed.metrics)
        text = f"resumed from step {saved.step}: " + ("equal bits" if equal else "other weights or metrics")
        hint = "look for state that a checkpoint does not store: save it in `on_save_checkpoint`, or register it as a buffer"
        yield _finding("resumable", text, began=began, failed=None if equal else hint)
    yield _shareable(subject)
    yield _exportable(seen, subject)


def _shareable(subject: PlainSubject) -> Finding:
    """Return whether several devices can share the batches: two steps with two shards, in one process."""
    began, check = monotonic(), "several devices"
    try:
        _train(subject, "shards", {}, settings={"shards": 2, "max_steps": _SHARED, "checkpoint_every": None})
    except (SettingError, ExperimentError) as fault:
        text = f"this module trains on one device only: {fault.message}"
        return _finding(check, text, began=began, notes=text)
    return _finding(check, f"{_SHARED} steps with 2 shards", began=began)


def _exportable(seen: FirstBatch, subject: PlainSubject) -> Finding:
    """Return whether the trained module can be exported. A failure is a note: a module that cannot be exported can be trained."""
    began = monotonic()
    try:
        text = exportable(seen, file=subject.experiment.file, root=subject.root)
    except NothingToCheck as fault:
        return Finding(check="exportable", status=fault.status, message=fault.message)
    except (CheckNote, CheckFailed) as fault:
        seconds = monotonic() - began
        return Finding(
            check="exportable", status=CheckStatus.NOTED, message=fault.message, hint=fault.hint, seconds=seconds
        )
    return _finding("exportable", text, began=began)


def _train(
    subject: PlainSubject,
    name: str,
    limits: dict[str, str],
    *,
    saved: Saved | None = None,
    watching: Sequence[Callback] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Trained:
    into = subject.folder / name
    into.mkdir(exist_ok=True)
    steps = {"max_steps": subject.steps, "checkpoint_every": max(1, subject.steps // 3)}
    changed = subject.resolved.settings.model_copy(update={**_QUIET, **steps, **settings})
    job = TrainingJob(
        run="check",
        experiment=subject.experiment,
        ledger=Ledger(replace(subject.resolved, settings=changed), root=subject.root),
        datasets=subject.datasets,
        into=into,
        stop=StopRequest(),
        say=lambda _: None,
        on_first_step=lambda: None,
        on_limit=limits.setdefault,
        on_terminal=False,
        device=subject.device,
        started=monotonic(),
        saved=saved,
        watching=watching,
    )
    return train(job)


def _finding(check: str, text: str, *, began: float, notes: str | None = None, failed: str | None = None) -> Finding:
    status = CheckStatus.FAILED if failed else CheckStatus.NOTED if notes else CheckStatus.PASSED
    return Finding(check=check, status=status, message=text, hint=failed, seconds=monotonic() - began)
