"""Checks of an experiment before a long training: their order, their dependencies and their hints. Other modules implement the checks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RepriseError
from trainer.settings.ledger import kept
from trainer.training.check_result import CheckFailed, CheckNote, Finding, NothingToCheck, Status
from trainer.training.checks import causality, evaluation, first_epoch, saved_weights, seeding, short_training, splits
from trainer.training.checks.subject import LARGEST_BATCH, Subject, Trial
from trainer.training.failures import attributed, first_line
from trainer.training.fit import quieten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["CHECKS", "LARGEST_BATCH", "Subject", "checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check: its function, the checks that must pass before it, and the hint for a failure."""

    run: Callable[[Trial], str]
    look: str
    needs: tuple[str, ...] = ()


CHECKS: Final = {
    "settings": Check(run=first_epoch.settings, look="the experiment's Settings, and the constructor of its net"),
    "data": Check(
        run=first_epoch.data,
        needs=("settings",),
        look="the reader and splits of the dataset; the net's `samples`, if it has one",
    ),
    "splits": Check(run=splits.splitting, needs=("data",), look="[splits] of the dataset; duplicate samples"),
    "declared": Check(
        run=first_epoch.declared, needs=("data",), look="[twin] and [sample] of the dataset's declaration"
    ),
    "forward": Check(
        run=first_epoch.forward, needs=("data",), look="the layer sizes in forward, compared with the batch"
    ),
    "targets": Check(
        run=first_epoch.targets,
        needs=("forward",),
        look="the last layer's size, and the settings for the number of outputs",
    ),
    "finite": Check(
        run=first_epoch.finite,
        needs=("targets",),
        look="divisions, logarithms and roots; initial weights; the learning rate",
    ),
    "finite gradients": Check(
        run=first_epoch.finite_gradients,
        needs=("targets", "finite"),
        look="functions without a finite gradient: sqrt and norm at 0, log near 0, also inside where()",
    ),
    "gradients": Check(
        run=first_epoch.gradients,
        needs=("targets", "finite", "finite gradients"),
        look="requires_grad, detach, modules that forward does not call; list intended ones in the net's `frozen`",
    ),
    "one batch": Check(
        run=first_epoch.overfits,
        needs=("targets", "finite", "finite gradients"),
        look="the loss, the optimizer's step, and whether the input reaches the output",
    ),
    "evaluation": Check(
        run=evaluation.evaluation,
        needs=("targets",),
        look="functional dropout without `training=self.training`; train() called in forward; buffers written to in forward",
    ),
    "determinism": Check(
        run=seeding.determinism,
        needs=("settings",),
        look="calls of use_deterministic_algorithms, torch.backends or set_num_threads in the net",
    ),
    "batch order": Check(
        run=evaluation.order,
        needs=("forward",),
        look="means, softmax or reshapes over the first dimension; batch statistics in eval mode",
    ),
    "causality": Check(
        run=causality.causality,
        needs=("forward",),
        look="the causal mask; padding of convolutions, only on the left; means and normalization over time; bidirectional nets",
    ),
    "save and load": Check(
        run=saved_weights.saving,
        needs=("targets",),
        look="tensors that are neither parameters nor buffers; a custom state_dict",
    ),
    "resume": Check(
        run=saved_weights.resuming,
        needs=("targets", "finite"),
        look="state that changes with each step and is in no checkpoint: counters, caches, custom generators",
    ),
    "constructor": Check(
        run=seeding.constructor,
        needs=("settings",),
        look="the clock, os.urandom, torch.seed(), generators without a seed: draw from torch's, NumPy's or Python's global generator",
    ),
    "reader": Check(
        run=seeding.reader,
        needs=("data",),
        look="draw random numbers of a sample from pick.generator(), or seed your own generator with pick.seed",
    ),
    "training pass": Check(
        run=seeding.training_pass,
        needs=("targets", "finite"),
        look="counters and caches of modules or classes, the clock, non-global generators",
    ),
    "settings used": Check(
        run=short_training.settings_used,
        needs=("targets", "finite"),
        look="the parameter that should take the setting: it must have the same name",
    ),
    "export": Check(
        run=saved_weights.exporting,
        needs=("forward",),
        look="branches on values, and Python numbers computed from tensors",
    ),
}


_HOLDS: Final = {Status.PASSED, Status.NOTED}


def checked(subject: Subject, checks: Mapping[str, Check] = CHECKS) -> Iterator[Finding]:
    """Run all checks in their order; an exception of the experiment is a finding, and each cause is reported once."""
    quieten()
    trial = Trial(subject)
    done: dict[str, Status] = {}
    with kept(trial.ledger), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeding.look_first(trial)
    causes: dict[str, str] = {}
    for name, check in checks.items():
        lacking = next((need for need in check.needs if done[need] not in _HOLDS), None)
        began = monotonic()
        if lacking is not None:
            finding = Finding(check=name, status=Status.SKIPPED, said=f"needs {lacking!r} to pass")
        else:
            with kept(trial.ledger), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                finding = _found(name, check, trial)
        if finding.status is Status.FAILED and causes.setdefault(finding.said, name) != name:
            said = f"fails for the same reason as {causes[finding.said]!r}"
            finding = Finding(check=name, status=Status.SKIPPED, said=said)
        done[name] = finding.status
        yield finding.model_copy(update={"seconds": round(monotonic() - began, 3)})


def _found(name: str, check: Check, trial: Trial) -> Finding:
    try:
        return Finding(check=name, status=Status.PASSED, said=check.run(trial))
    except NothingToCheck as fault:
        return Finding(check=name, status=Status.SKIPPED, said=str(fault))
    except CheckNote as fault:
        return Finding(check=name, status=Status.NOTED, said=fault.said, look=fault.look)
    except CheckFailed as fault:
        return Finding(check=name, status=Status.FAILED, said=fault.said, look=fault.look or check.look)
    except RepriseError as fault:
        return Finding(check=name, status=Status.FAILED, said=fault.message, look=fault.hint)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # noqa: BLE001 - any exception of the experiment is a finding
        return _raised(name, fault, trial)


def _raised(name: str, fault: BaseException, trial: Trial) -> Finding:
    """Return the finding for an exception, attributed as in a run; the check itself has no result."""
    experiment = trial.subject.experiment
    net = experiment.net.__name__
    worded = attributed(fault, file=experiment.file, root=trial.subject.root, net=net)
    said = worded.message if worded else f"{type(fault).__name__}{first_line(fault)}"
    notes = [note for note in getattr(fault, "__notes__", ()) if note not in said]
    look = (worded.hint or "") if worded else ""
    look = look.replace("\n", ";").replace("     ", " ")
    return Finding(check=name, status=Status.FAILED, said=", ".join([said, *notes]), look=look or None)
