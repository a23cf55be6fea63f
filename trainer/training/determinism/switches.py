"""The global torch flags of each level of determinism: set before a run and watched, so that no record states a level that the net changed.

The launcher sets the environment variables; `apply_level` raises if a variable is wrong, because a library may have read it already. The
flags are compared with their values right after `apply_level`. A change that is undone between two reads is not detected.
"""

from __future__ import annotations

import os
import re
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback

from trainer.base.errors import ExperimentError, MachineError, NotDeterministicError, SettingError
from trainer.settings.determinism import Level, differing, threads_at, variables
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning as L

_VECTOR_OPS: Final = """
acos asin atan ceil cos cosh erf erfc erfinv exp expm1 floor lgamma log log10 log1p log2 round sigmoid sin sinh sqrt tan tanh trunc
"""
_NO_KERNEL: Final = re.compile(r"(\S+) does not have a deterministic implementation, but you set")
_CUBLAS: Final = "Deterministic behavior was enabled with either"
"""The start of both of torch's messages (aten/src/ATen/Context.cpp); the same words elsewhere in a message have another meaning."""
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
_OFF: Final = "--determinism off, which does not guarantee equal reruns"
Switches = dict[str, Any]
"""The value of each global torch flag, by the expression that reads it."""


@configured
def apply_level(*, determinism: Level, threads: int | None, precision: str) -> None:
    """Set torch's global flags for the level.

    Raise `MachineError` if the launcher's variables are not set, CUDA is in use, or the CPU does not support `portable`; `SettingError` for
    another precision than float32 at `portable`.
    """
    count = threads_at(determinism, threads)
    if wrong := differing(variables(determinism, threads=count), os.environ):
        raise MachineError(
            f"this process was not started for determinism {determinism}: {wrong[0]}",
            hint="start it with `reprise train`",
        )
    torch.set_num_threads(count)
    if determinism is Level.OFF:
        return
    if determinism is Level.PORTABLE and precision != "32-true":
        raise SettingError(
            f"precision is {precision} at determinism portable; expected 32-true",
            hint="omit precision, or choose determinism machine",
        )
    if determinism is Level.PORTABLE:
        require_avx2(torch.backends.cpu.get_cpu_capability())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise MachineError(
            "CUDA is in use before the run was set up", hint="do not use the GPU while the experiment is imported"
        )
    if torch.get_num_interop_threads() != 1:  # a process can set it only once
        torch.set_num_interop_threads(1)
    choose_exact_kernels()
    warm_up()


def require_avx2(found: str) -> None:
    """Raise `MachineError` if torch does not compute with AVX2, which level `portable` requires."""
    if found != "AVX2":
        raise MachineError(
            f"torch computes with {found} here; determinism portable expects AVX2", hint="choose determinism machine"
        )


def warm_up() -> None:
    """Call each of oneMKL's vector functions once on one element.

    A first call from several threads at once races silently (pytorch issue 188792). Every process does this, including loader workers.
    """
    for kind in (torch.float32, torch.float64):
        one = torch.full((1,), 0.5, dtype=kind)
        for name in _VECTOR_OPS.split():
            getattr(torch, name)(one)


def translated(fault: RuntimeError) -> NotDeterministicError | None:
    """Return the error for an operation without a deterministic kernel, or None for any other failure."""
    text = str(fault)
    found = _NO_KERNEL.match(text)
    if found is None and not text.startswith(_CUBLAS):
        return None
    name = found[1] if found else "a matrix product of cuBLAS"
    return NotDeterministicError(
        f"{name} has no deterministic kernel, but determinism is on",
        hint="replace the operation, or use --determinism off, which does not guarantee equal reruns",
    )


def choose_exact_kernels() -> None:
    """Set torch's global flags for the levels `machine` and `portable`."""
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.enable_flash_sdp(enabled=False)
    torch.backends.cuda.enable_mem_efficient_sdp(enabled=False)
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    torch.backends.cuda.enable_math_sdp(enabled=True)


def read_switches() -> Switches:
    """Return the value of every flag; omit flags that this version of torch lacks or cannot read."""
    found: Switches = {}
    for name in (*_CALLS, *_VALUES):
        try:
            value: Any = reduce(getattr, name.removesuffix("()").split(".")[1:], torch)
            found[name] = value() if name.endswith("()") else value
        except (AttributeError, RuntimeError):  # allow_tf32 cannot be read once fp32_precision was set
            continue
    return found


def _read_cheap_switches() -> tuple[object, ...]:
    """Return the flags that are cheap to read and affect bits; reading them takes a microsecond per step."""
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
    """Reads the flags while a net is created and trained; a change before the first step is an error, a later change is recorded."""

    def __init__(self, tell: Callable[[str], None], *, determinism: Level, threads: int | None) -> None:
        """Use the current flags as the flags of the level; `tell` receives the line of each change, once."""
        self.tell, self.level = tell, determinism
        self.expected = read_switches() if determinism is not Level.OFF else {_THREADS: torch.get_num_threads()}
        self.variables = variables(determinism, threads=threads_at(determinism, threads))
        self.reported: set[str] = set()
        self.cheap = _read_cheap_switches()
        self.began = False

    def changed(self) -> dict[str, str]:
        """Return a line with the actual and the expected value of each flag or variable that differs from the level, by name."""
        now = read_switches()
        found = {
            name: f"{name} is {now.get(name, 'unreadable')}; expected {value} at determinism level {self.level}"
            for name, value in self.expected.items()
            if now.get(name) != value
        }
        return found | {line.partition(":")[0]: line for line in differing(self.variables, os.environ)}

    def require_unchanged(self, where: str) -> None:
        """Raise `ExperimentError` with the first changed flag; `where` names the code that changed it before any step."""
        if lines := list(self.changed().values()):
            hint = (
                "remove that call; use --threads N to set the number of threads"
                if _THREADS in lines[0]
                else "remove that call"
            )
            raise ExperimentError(f"{where} changes a global torch flag: {lines[0]}", hint=f"{hint}, or use {_OFF}")

    def report(self, when: str) -> None:
        """Report each changed flag once."""
        for name, line in self.changed().items():
            if name not in self.reported:
                self.reported.add(name)
                self.tell(f"{line} ({when})")

    def on_train_batch_start(self, *_: object) -> None:
        """Check before the first step: a change by setup code is still an error."""
        if not self.began:
            self.began = True
            self.require_unchanged("the setup of the net")

    def on_before_backward(self, trainer: L.Trainer, *_: object) -> None:
        """Check within a step, after the forward pass."""
        self._report_cheap(f"at step {trainer.global_step + 1}")

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Check after a step."""
        self._report_cheap(f"after step {trainer.global_step}")

    def on_train_end(self, trainer: L.Trainer, *_: object) -> None:
        """Check at the end of training."""
        self.report(f"after step {trainer.global_step}")

    def on_validation_end(self, trainer: L.Trainer, *_: object) -> None:
        """Check after a validation."""
        self.report(f"after a validation, at step {trainer.global_step}")

    def on_test_end(self, *_: object) -> None:
        """Check after the test."""
        self.report("after the test")

    def _report_cheap(self, when: str) -> None:
        if (now := _read_cheap_switches()) != self.cheap:
            self.cheap = now
            self.report(when)
