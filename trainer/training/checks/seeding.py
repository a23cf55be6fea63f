"""Checks that the initial weights, the samples and a pass in training mode depend on no random source other than the seed.

Each value is read when the checks begin, and again with equal seeds after other samples were read, the global generators were advanced,
and a second has passed. Values that differ only between processes, such as a process ID, are not detected: use `check --bits`, which runs
two processes.
"""

from __future__ import annotations

import random
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trainer.settings.determinism import Level
from trainer.training.check_result import CheckFailed, NothingToCheck, listed
from trainer.training.checks.subject import state_of
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import choose_exact_kernels, read_switches
from trainer.training.readers import Pick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from trainer.training.checks.subject import Trial
    from trainer.training.determinism.switches import Switches
    from trainer.training.readers import Batch

_TICK: Final = 1.1
"""Seconds after which a clock with a resolution of one second has changed."""
_FEW: Final = 4
"""The number of samples that are read again."""
_DRAWS: Final[Mapping[str, Callable[[], object]]] = {
    "torch's": lambda: torch.default_generator.manual_seed(1),
    "NumPy's": lambda: np.random.seed(1),  # noqa: NPY002 - the global generator, which a reader may use
    "Python's": lambda: random.seed(1),
}


def read_first_values(trial: Trial) -> None:
    """Read each value once, when the checks begin. A failure is ignored: the check that uses the value reads it again and reports it."""
    for name, read in _VALUES.items():
        with suppress(Exception):
            trial.first_values[name] = (monotonic(), read(trial))


def constructor(trial: Trial) -> str:
    """Create the net twice with one seed."""
    first, second = _first_and_second(trial, "constructor")
    if first.keys() != second.keys():
        raise CheckFailed(
            f"two nets with one seed have different tensors: {listed(sorted(first.keys() ^ second.keys()))}"
        )
    odd = [name for name, value in first.items() if not _equal(value, second[name])]
    if odd:
        raise CheckFailed(f"two nets with one seed have different initial values in {listed(odd)}")
    return f"{len(first)} parameters and buffers of two nets with one seed are bit-identical"


def reader(trial: Trial) -> str:
    """Read some samples twice from the same state of the global generators, then from another state of each generator.

    With a transform, read transformed samples twice too.
    """
    first, second = _first_and_second(trial, "reader")
    for name, value in first.items():
        if not _equal(value, second.get(name)):
            raise CheckFailed(f"{name!r} of a sample differs when it is read again", hint=_OWN_GENERATOR)
    for whose, draw in _DRAWS.items():
        other = _samples(trial, draw=draw)
        if odd := next((name for name, value in first.items() if not _equal(value, other.get(name))), None):
            raise CheckFailed(f"{odd!r} of a sample depends on {whose} global generator, not on the sample's own")
    message = "samples are bit-identical when they are read again, whatever the state of the global generators"
    if trial.transform is None:
        return message
    one, again = _first_and_second(trial, "transform")
    if odd := next((name for name, value in one.items() if not _equal(value, again.get(name))), None):
        what = f"{odd!r} of a sample differs when {trial.transform.name} is called again"
        raise CheckFailed(what, hint="draw from `generator`, not from a counter, the clock, or an unseeded generator")
    return f"{message}; also after {trial.transform.name}"


def determinism(trial: Trial) -> str:
    """Check that creating the net and passing a batch change no global torch flag; at level `off`, no flag is checked."""
    level = trial.subject.resolved.settings.value_of("determinism")
    if level is Level.OFF:
        return "determinism is off: bit-identical results are not guaranteed"
    _require_equal(trial.switches, read_switches())
    enabled = torch.are_deterministic_algorithms_enabled()
    choose_exact_kernels()  # as a run does: with torch's defaults, a change by the net could go unnoticed
    before = read_switches()
    try:
        with suppress(Exception):  # the check `training pass` reports an exception of the pass
            _training_loss(trial)
        _require_equal(before, read_switches())
    finally:
        torch.use_deterministic_algorithms(enabled)
    return f"{len(before)} global torch flags are unchanged after the net was created and one batch passed"


def _require_equal(before: Switches, now: Switches) -> None:
    if odd := [name for name, value in before.items() if now.get(name) != value]:
        changed = f"{odd[0]} was {before[odd[0]]} and is {now.get(odd[0], 'not readable')}"
        raise CheckFailed(
            f"the net changes a global torch flag: {changed}",
            hint=f"remove what sets {listed(odd)}, or use --determinism off",
        )


def training_pass(trial: Trial) -> str:
    """Pass a batch in training mode through two nets created with one seed."""
    if not trial.fresh().automatic_optimization:
        raise NothingToCheck("manual optimization: training_step needs a complete training run")
    first, second = _first_and_second(trial, "training pass")
    if not _equal(first, second):
        raise CheckFailed(
            f"two nets with one seed have the losses {float(first):.9g} and {float(second):.9g} for one batch"
        )
    return "two nets with one seed have a bit-identical loss for a batch"


def _first_and_second(trial: Trial, name: str) -> tuple[Any, Any]:
    read = _VALUES[name]
    began, first = trial.first_values.get(name) or (monotonic(), read(trial))
    for _ in range(3):
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002, S311 - advances the global generators
    sleep(max(0.0, began + _TICK - monotonic()))
    return first, read(trial)


def _samples(trial: Trial, *, draw: Callable[[], object] | None = None) -> Batch:
    """Read samples from a fixed state of the global generators; `draw` changes the state of one of them.

    From the second time on, other samples are read before, so that a value that depends on earlier samples is noticed.
    """
    rows = [int(row) for row in trial.rows["train"][: 2 * _FEW]]
    if "reader" in trial.first_values:
        trial.samples.batch([Pick(index=row, epoch=1) for row in rows[::-1]])
    seed_all(0)
    if draw is not None:
        draw()
    found = trial.samples.batch([Pick(index=row, epoch=1) for row in rows[:_FEW]])
    return {name: value.clone() for name, value in found.items()}


def _transformed(trial: Trial) -> Batch:
    """Read samples with the net's transform, from the second time on after other samples."""
    rows = [int(row) for row in trial.rows["train"][: 2 * _FEW]]
    if "transform" in trial.first_values:
        trial.whole.trained.read([(1, row) for row in rows[::-1]])
    return trial.whole.trained.read([(1, row) for row in rows[:_FEW]])


def _training_loss(trial: Trial) -> Tensor:
    net = trial.fresh().train()
    seed_all(derived(0, "step"))
    with torch.no_grad():
        loss: Any = net.training_step(trial.batch, 0)
    return torch.as_tensor(loss).detach().clone()


def _equal(one: Tensor, other: Tensor | None) -> bool:
    """Return whether two tensors are bit-identical; NaN values with equal bits count as equal."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    with suppress(RuntimeError):
        return bool(torch.equal(*(each.reshape(-1).contiguous().view(torch.uint8) for each in (one, other))))
    return bool(torch.equal(one, other))


_VALUES: Final[Mapping[str, Callable[[Trial], Any]]] = {
    "constructor": lambda trial: state_of(trial.fresh()),
    "reader": _samples,
    "transform": _transformed,
    "training pass": _training_loss,
}
_OWN_GENERATOR: Final = "look for a counter, the clock or the reader's own generator; draw only from pick.generator()"
