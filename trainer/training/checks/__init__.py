"""Checks of an experiment before a long training: their order, their dependencies and their hints. Other modules implement the checks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RepriseError
from trainer.settings.ledger import use_ledger
from trainer.training.check_result import CheckFailed, CheckNote, Finding, NothingToCheck, Status
from trainer.training.checks import evaluation, first_epoch, saved_weights, seeding, short_training, splits
from trainer.training.checks.subject import LARGEST_BATCH, Subject, Trial
from trainer.training.failures import attributed, first_line
from trainer.training.fit import quieten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CHECKS", "LARGEST_BATCH", "Subject", "run_checks"]


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its function, the checks that must pass before it, and the hint for a failure."""

    run: Callable[[Trial], str]
    hint: str
    needs: tuple[str, ...] = ()


CHECKS: Final = {
    "settings": Check(first_epoch.settings, "the experiment's Settings, and the constructor of its net"),
    "data": Check(
        first_epoch.data, "the reader and splits of the dataset; the net's `samples`, if it has one", ("settings",)
    ),
    "splits": Check(splits.splitting, "[splits] of the dataset; duplicate samples", ("data",)),
    "declared": Check(first_epoch.declared, "[twin] and [sample] of the dataset's declaration", ("data",)),
    "forward": Check(first_epoch.forward, "the layer sizes in forward, compared with the batch", ("data",)),
    "targets": Check(
        first_epoch.targets, "the last layer's size, and the settings for the number of outputs", ("forward",)
    ),
    "finite": Check(
        first_epoch.finite, "divisions, logarithms and roots; initial weights; the learning rate", ("targets",)
    ),
    "finite gradients": Check(
        first_epoch.finite_gradients,
        "functions without a finite gradient: sqrt and norm at 0, log near 0, also inside where()",
        ("targets", "finite"),
    ),
    "gradients": Check(
        first_epoch.gradients,
        "requires_grad, detach, modules that forward does not call; list intended ones in the net's `frozen`",
        ("targets", "finite", "finite gradients"),
    ),
    "one batch": Check(
        first_epoch.overfits,
        "the loss, the optimizer's step, and whether the input reaches the output",
        ("targets", "finite", "finite gradients"),
    ),
    "evaluation": Check(
        evaluation.evaluation,
        "functional dropout without `training=self.training`; train() called in forward; buffers written to in forward",
        ("targets",),
    ),
    "determinism": Check(
        seeding.determinism,
        "calls of use_deterministic_algorithms, torch.backends or set_num_threads in the net",
        ("settings",),
    ),
    "batch order": Check(
        evaluation.order,
        "means, softmax or reshapes over the first dimension; batch statistics in eval mode",
        ("forward",),
    ),
    "causality": Check(
        evaluation.causality,
        "the causal mask; padding of convolutions, only on the left; means and normalization over time; bidirectional nets",
        ("forward",),
    ),
    "save and load": Check(
        saved_weights.saving, "tensors that are neither parameters nor buffers; a custom state_dict", ("targets",)
    ),
    "resume": Check(
        saved_weights.resuming,
        "state that changes with each step and is in no checkpoint: counters, caches, custom generators",
        ("targets", "finite"),
    ),
    "constructor": Check(
        seeding.constructor,
        "the clock, os.urandom, torch.seed(), generators without a seed: draw from torch's, NumPy's or Python's global generator",
        ("settings",),
    ),
    "reader": Check(
        seeding.reader,
        "draw random numbers of a sample from pick.generator(), or seed your own generator with pick.seed",
        ("data",),
    ),
    "training pass": Check(
        seeding.training_pass,
        "counters and caches of modules or classes, the clock, non-global generators",
        ("targets", "finite"),
    ),
    "settings used": Check(
        short_training.settings_used,
        "the parameter that should take the setting: it must have the same name",
        ("targets", "finite"),
    ),
    "export": Check(
        saved_weights.exporting_any_size, "branches on values, and Python numbers computed from tensors", ("forward",)
    ),
}
_PASSED: Final = {Status.PASSED, Status.NOTED}


def run_checks(subject: Subject, checks: Mapping[str, Check] = CHECKS) -> Iterator[Finding]:
    """Run all checks in their order; an exception of the experiment is a finding, and each cause is reported once."""
    quieten()
    trial = Trial(subject)
    statuses: dict[str, Status] = {}
    with use_ledger(trial.ledger), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeding.read_first_values(trial)
    causes: dict[str, str] = {}
    for name, check in checks.items():
        missing = next((need for need in check.needs if statuses[need] not in _PASSED), None)
        began = monotonic()
        if missing is not None:
            finding = Finding(check=name, status=Status.SKIPPED, message=f"needs {missing!r} to pass")
        else:
            with use_ledger(trial.ledger), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                finding = _finding_of(name, check, trial)
        if finding.status is Status.FAILED and causes.setdefault(finding.message, name) != name:
            message = f"fails for the same reason as {causes[finding.message]!r}"
            finding = Finding(check=name, status=Status.SKIPPED, message=message)
        statuses[name] = finding.status
        yield finding.model_copy(update={"seconds": round(monotonic() - began, 3)})


def _finding_of(name: str, check: Check, trial: Trial) -> Finding:
    try:
        return Finding(check=name, status=Status.PASSED, message=check.run(trial))
    except (NothingToCheck, CheckNote) as fault:
        return Finding(check=name, status=fault.status, message=fault.message, hint=fault.hint)
    except CheckFailed as fault:
        return Finding(check=name, status=fault.status, message=fault.message, hint=fault.hint or check.hint)
    except RepriseError as fault:
        return Finding(check=name, status=Status.FAILED, message=fault.message, hint=fault.hint)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # noqa: BLE001 - any exception of the experiment is a finding
        return _finding_of_exception(name, fault, trial)


def _finding_of_exception(name: str, fault: BaseException, trial: Trial) -> Finding:
    """Return the finding for an exception, attributed as in a run; the check itself has no result."""
    experiment, root = trial.subject.experiment, trial.subject.root
    attributed_fault = attributed(fault, file=experiment.file, root=root, net=experiment.net.__name__)
    message = attributed_fault.message if attributed_fault else f"{type(fault).__name__}{first_line(fault)}"
    notes = [note for note in getattr(fault, "__notes__", ()) if note not in message]
    hint = ((attributed_fault and attributed_fault.hint) or "").replace("\n", ";").replace("     ", " ")
    return Finding(check=name, status=Status.FAILED, message=", ".join([message, *notes]), hint=hint or None)
