"""Observation of torch's switches while a net is created and trained, so that a record does not claim a level that the net changed.

The switches are compared with their values right after `apply_level`. A change that is undone between two reads is not detected.
"""

from __future__ import annotations

import os
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback

from trainer.base.errors import ExperimentError
from trainer.settings.determinism import Level, differing, threads_at, variables
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning as L

_THREADS: Final = "torch.get_num_threads()"
_CALLS: Final = (
    _THREADS,
    "torch.get_num_interop_threads()",
    "torch.are_deterministic_algorithms_enabled()",
    "torch.is_deterministic_algorithms_warn_only_enabled()",
    "torch.get_float32_matmul_precision()",
    "torch.backends.cuda.flash_sdp_enabled()",
    "torch.backends.cuda.mem_efficient_sdp_enabled()",
    "torch.backends.cuda.cudnn_sdp_enabled()",
    "torch.backends.cuda.math_sdp_enabled()",
)
_VALUES: Final = (
    "torch.utils.deterministic.fill_uninitialized_memory",
    "torch.backends.cudnn.deterministic",
    "torch.backends.cudnn.benchmark",
    "torch.backends.cudnn.allow_tf32",
    "torch.backends.cudnn.fp32_precision",
    "torch.backends.cuda.matmul.allow_tf32",
    "torch.backends.cuda.matmul.fp32_precision",
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "torch.backends.mkldnn.enabled",
    "torch.backends.mkldnn.fp32_precision",
)
Switches = dict[str, Any]
"""The value of each switch, by the expression that reads it."""


def read_switches() -> Switches:
    """Return the value of every switch; omit switches that this version of torch lacks or cannot read."""
    found: Switches = {}
    for name in (*_CALLS, *_VALUES):
        try:
            value: Any = reduce(getattr, name.removesuffix("()").split(".")[1:], torch)
            found[name] = value() if name.endswith("()") else value
        except (AttributeError, RuntimeError):  # allow_tf32 cannot be read once fp32_precision was set
            continue
    return found


def _glance() -> tuple[object, ...]:
    """Return the switches that are cheap to read and affect bits: a microsecond per step."""
    cudnn: Any = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_num_threads(),
        cudnn.benchmark,
        cudnn.deterministic,
    )


@configured
class WatchSwitches(Callback):
    """Read the switches while a net is created and trained; a change before the first step is an error, a later change is recorded."""

    def __init__(self, tell: Callable[[str], None], *, determinism: Level, threads: int | None) -> None:
        """Use the current switches as those of the level; `tell` receives the line of each change, once."""
        self.tell, self.level = tell, determinism
        self.expected = read_switches() if determinism is not Level.OFF else {_THREADS: torch.get_num_threads()}
        self.variables = variables(determinism, threads=threads_at(determinism, threads))
        self.seen: set[str] = set()
        self.glanced = _glance()
        self.began = False

    def changed(self) -> dict[str, str]:
        """Return the expected and actual value of each switch that differs from the level."""
        now = read_switches()
        found = {
            name: f"{name} is {now.get(name, 'another')}; determinism {self.level} has {value}"
            for name, value in self.expected.items()
            if now.get(name) != value
        }
        return found | {line.partition(":")[0]: line for line in differing(self.variables, os.environ)}

    def require_unchanged(self, where: str) -> None:
        """Raise `ExperimentError` with the first switch that was changed `where` before any step."""
        if lines := list(self.changed().values()):
            hint = (
                "remove that call; give --threads N for other threads" if _THREADS in lines[0] else "remove that call"
            )
            raise ExperimentError(f"{where} changes a switch of torch: {lines[0]}", hint=f"{hint}, or give {_OFF}")

    def look(self, when: str) -> None:
        """Report each changed switch once."""
        for name, line in self.changed().items():
            if name not in self.seen:
                self.seen.add(name)
                self.tell(f"{line} ({when})")

    def on_train_batch_start(self, *_: object) -> None:
        """Check before the first step: a change by setup code is still an error."""
        if not self.began:
            self.began = True
            self.require_unchanged("what sets up the net")

    def on_before_backward(self, trainer: L.Trainer, *_: object) -> None:
        """Check within a step, after the forward pass."""
        self._look_quickly(f"at step {trainer.global_step + 1}")

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Check after a step."""
        self._look_quickly(f"after step {trainer.global_step}")

    def on_train_end(self, trainer: L.Trainer, *_: object) -> None:
        """Check at the end of the training."""
        self.look(f"after step {trainer.global_step}")

    def on_validation_end(self, trainer: L.Trainer, *_: object) -> None:
        """Check after a validation."""
        self.look(f"after a validation, at step {trainer.global_step}")

    def on_test_end(self, *_: object) -> None:
        """Check after the test."""
        self.look("after the test")

    def _look_quickly(self, when: str) -> None:
        if (found := _glance()) != self.glanced:
            self.glanced = found
            self.look(when)


_OFF: Final = "--determinism off: then no equal bits are promised"
