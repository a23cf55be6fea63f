"""The checks of an experiment before a long training, with their order, dependencies and hints; the other modules implement them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RepriseError
from trainer.settings.ledger import use_ledger
from trainer.training.check_result import CheckFailed, CheckNote, CheckStatus, Finding, NothingToCheck
from trainer.training.checks import evaluation, first_epoch, saved_weights, seeding, sharing, short_training, splits
from trainer.training.checks.subject import LARGEST_BATCH, CheckSubject, Trial
from trainer.training.failures import attributed, first_line
from trainer.training.fit import quieten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CHECKS", "LARGEST_BATCH", "CheckSubject", "run_checks"]


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its function, the checks that must pass before it, and the hint for a failure."""

    run: Callable[[Trial], str]
    hint: str
    needs: tuple[str, ...] = ()


CHECKS: Final = {
    "settings": Check(first_epoch.settings, "check the experiment's Settings, and the constructor of its net"),
    "data": Check(
        first_epoch.data,
        "check the reader and splits of the dataset, and the net's `samples`, if it has one",
        ("settings",),
    ),
    "splits": Check(splits.splitting, "check [splits] in the dataset's declaration, and duplicate samples", ("data",)),
    "declared": Check(first_epoch.declared, "correct [twin] or [sample] in the dataset's declaration", ("data",)),
    "forward": Check(first_epoch.forward, "compare the layer sizes with the shape of the batch", ("data",)),
    "targets": Check(
        first_epoch.targets,
        "check the size of the last layer, and the settings for the number of outputs",
        ("forward",),
    ),
    "finite": Check(
        first_epoch.finite,
        "check divisions, logarithms and roots, the initial weights, and the learning rate",
        ("targets",),
    ),
    "finite gradients": Check(
        first_epoch.finite_gradients,
        "look for functions without a finite gradient: sqrt and norm at 0, log near 0, also inside where()",
        ("targets", "finite"),
    ),
    "gradients": Check(
        first_epoch.gradients,
        "look for requires_grad, detach, and modules that forward does not call; list intentionally frozen layers in the net's `frozen`",
        ("targets", "finite", "finite gradients"),
    ),
    "one batch": Check(
        first_epoch.overfits,
        "check the loss, the optimizer's step, and whether the output depends on the input",
        ("targets", "finite", "finite gradients"),
    ),
    "evaluation": Check(
        evaluation.evaluation,
        "look for functional dropout without `training=self.training`, and for train() or writes to buffers in forward",
        ("targets",),
    ),
    "determinism": Check(
        seeding.determinism,
        "remove calls of use_deterministic_algorithms and set_num_threads, and changes of torch.backends, from the net",
        ("settings",),
    ),
    "batch order": Check(
        evaluation.order,
        "look for means, softmax or reshapes over the first dimension, and for batch statistics in eval mode",
        ("forward",),
    ),
    "causality": Check(
        evaluation.causality,
        "check the causal mask; pad convolutions on the left only; look for means and normalization over time, and bidirectional layers",
        ("forward",),
    ),
    "save and load": Check(
        saved_weights.saving,
        "look for tensors that are neither parameters nor buffers, and for a custom state_dict",
        ("targets",),
    ),
    "resume": Check(
        saved_weights.resuming,
        "look for state that changes with each step and is in no checkpoint: counters, caches, custom generators",
        ("targets", "finite"),
    ),
    "constructor": Check(
        seeding.constructor,
        "replace the clock, os.urandom, torch.seed() and unseeded generators with torch's, NumPy's or Python's global generator",
        ("settings",),
    ),
    "reader": Check(
        seeding.reader,
        "draw a sample's random numbers from pick.generator(), or seed your own generator with pick.seed",
        ("data",),
    ),
    "training pass": Check(
        seeding.training_pass,
        "look for counters and caches of modules or classes, the clock, and non-global generators",
        ("targets", "finite"),
    ),
    "settings used": Check(
        short_training.settings_used,
        "rename the parameter that should receive the setting: it needs the same name",
        ("targets", "finite"),
    ),
    "export": Check(
        saved_weights.exporting_any_size,
        "look for branches on values, and for Python numbers computed from tensors",
        ("forward",),
    ),
    "several devices": Check(
        sharing.sharing, "use --devices 1; docs/how-to/devices.md lists what shards support", ("targets", "finite")
    ),
}
_PASSED: Final = {CheckStatus.PASSED, CheckStatus.NOTED}


def run_checks(subject: CheckSubject, checks: Mapping[str, Check] = CHECKS) -> Iterator[Finding]:
    """Run the checks in order and yield their findings. An exception of the experiment is a failed check.

    A check whose message was already reported by a failed check is skipped, so that each cause is reported once.
    """
    quieten()
    trial = Trial(subject)
    statuses: dict[str, CheckStatus] = {}
    with use_ledger(trial.ledger), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeding.read_first_values(trial)
    causes: dict[str, str] = {}
    for name, check in checks.items():
        missing = next((need for need in check.needs if statuses[need] not in _PASSED), None)
        began = monotonic()
        if missing is not None:
            finding = Finding(check=name, status=CheckStatus.SKIPPED, message=f"needs {missing!r} to pass")
        else:
            with use_ledger(trial.ledger), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                finding = _finding_of(name, check, trial)
        if finding.status is CheckStatus.FAILED and causes.setdefault(finding.message, name) != name:
            message = f"fails for the same reason as {causes[finding.message]!r}"
            finding = Finding(check=name, status=CheckStatus.SKIPPED, message=message)
        statuses[name] = finding.status
        yield finding.model_copy(update={"seconds": round(monotonic() - began, 3)})


def _finding_of(name: str, check: Check, trial: Trial) -> Finding:
    try:
        return Finding(check=name, status=CheckStatus.PASSED, message=check.run(trial))
    except (NothingToCheck, CheckNote) as fault:
        return Finding(check=name, status=fault.status, message=fault.message, hint=fault.hint)
    except CheckFailed as fault:
        return Finding(check=name, status=fault.status, message=fault.message, hint=fault.hint or check.hint)
    except RepriseError as fault:
        return Finding(check=name, status=CheckStatus.FAILED, message=fault.message, hint=fault.hint)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # noqa: BLE001 - any exception of the experiment is a failed check
        return _finding_of_exception(name, fault, trial)


def _finding_of_exception(name: str, fault: BaseException, trial: Trial) -> Finding:
    """Return a failed finding for an exception of the experiment, with the message and hint that a run would report."""
    experiment, root = trial.subject.experiment, trial.subject.root
    attributed_fault = attributed(fault, file=experiment.file, root=root, net=experiment.net.__name__)
    message = attributed_fault.message if attributed_fault else f"{type(fault).__name__}{first_line(fault)}"
    notes = [note for note in getattr(fault, "__notes__", ()) if note not in message]
    hint = ((attributed_fault and attributed_fault.hint) or "").replace("\n", ";").replace("     ", " ")
    return Finding(check=name, status=CheckStatus.FAILED, message=", ".join([message, *notes]), hint=hint or None)
