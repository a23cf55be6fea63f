"""The torch switches of each level of determinism, and the calls that must happen before threads start.

The launcher sets the environment variables; `apply_level` raises if a variable is wrong, because a library may have read it already.
"""

from __future__ import annotations

import os
import re
from typing import Final

import torch

from trainer.base.errors import MachineError, NotDeterministicError, SettingError
from trainer.settings.determinism import Level, differing, threads_at, variables
from trainer.settings.ledger import configured

_VECTOR_OPS: Final = """
acos asin atan ceil cos cosh erf erfc erfinv exp expm1 floor lgamma log log10 log1p log2 round sigmoid sin sinh sqrt tan tanh trunc
"""
_NO_KERNEL: Final = re.compile(r"(\S+) does not have a deterministic implementation, but you set")
_CUBLAS: Final = "Deterministic behavior was enabled with either"
"""The start of both of torch's messages (aten/src/ATen/Context.cpp); the same words elsewhere in a message have another meaning."""


@configured
def apply_level(*, determinism: Level, threads: int | None, precision: str) -> None:
    """Set torch's switches for the level; raise `MachineError` if the launcher's variables are not set, or CUDA is in use."""
    count = threads_at(determinism, threads)
    wrong = differing(variables(determinism, threads=count), os.environ)
    if wrong:
        raise MachineError(
            f"this process was not started for determinism {determinism}: {wrong[0]}",
            hint="start it with `reprise train`",
        )
    torch.set_num_threads(count)
    if determinism is Level.OFF:
        return
    if determinism is Level.PORTABLE and precision != "32-true":
        raise SettingError(
            f"precision is {precision} at determinism portable; expected 32-true", hint="or choose determinism machine"
        )
    if determinism is Level.PORTABLE:
        require_avx2(torch.backends.cpu.get_cpu_capability())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise MachineError(
            "CUDA is in use before the run was set up", hint="do not touch the GPU while the experiment is imported"
        )
    if torch.get_num_interop_threads() != 1:  # it can be set once in a process
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

    Its first call from several threads races silently (pytorch issue 188792); every process does this, loader workers too.
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
        f"{name} has no deterministic kernel, and determinism is on",
        hint="replace the operation, or run with --determinism off: then no rerun is promised to be equal",
    )


def choose_exact_kernels() -> None:
    """Set torch's switches for the levels `machine` and `portable`."""
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
