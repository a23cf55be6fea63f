"""Determinism levels, and the environment variables that each level sets.

Libraries read these variables when they are loaded, so the launcher sets them before it starts the process that imports torch. The
switches in code are in `trainer.training.determinism.switches`. docs/explanation/determinism.md lists what was measured to change bits,
and on which machines.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.base.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

THREADS: Final = 2
"""Default number of threads. It is fixed: the count changes a result's bits, and machines differ in their number of cores."""


class Level(StrEnum):
    """The scope in which a rerun is bit-identical."""

    OFF = "off"
    """No guarantee; fastest."""
    MACHINE = "machine"
    """On the same hardware, in the same image."""
    PORTABLE = "portable"
    """On any x86-64 CPU with AVX2 and FMA."""


_THREADED: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENT: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Waiting threads sleep instead of spinning: on shared cores, spinning made steps three to ten times slower."""
_MACHINE: Final = {
    "PYTHONHASHSEED": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE",
    "TORCHINDUCTOR_DETERMINISTIC": "1",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
}
_CAPS: Final = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def threads_at(level: Level, requested: int | None) -> int:
    """Return the number of threads per operation. Raise `SettingError` if more than 1 is requested for `portable`."""
    if level is Level.PORTABLE and requested not in {None, 1}:
        raise SettingError(
            f"threads is {requested} at determinism portable; expected 1",
            hint="omit threads, or choose determinism machine",
        )
    return 1 if level is Level.PORTABLE else (requested or THREADS)


def variables(level: Level, *, threads: int) -> dict[str, str]:
    """Return all variables that `level` sets.

    >>> variables(Level.OFF, threads=4)["OMP_NUM_THREADS"]
    '4'
    """
    common = {**dict.fromkeys(_THREADED, str(threads)), **_PATIENT}
    return common if level is Level.OFF else common | _MACHINE | capabilities(level)


def capabilities(level: Level) -> dict[str, str]:
    """Return the variables that limit the CPU instructions that libraries use.

    >>> capabilities(Level.MACHINE)
    {}
    """
    return dict(_CAPS) if level is Level.PORTABLE else {}


def differing(expected: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Return a line for each variable in `environ` that differs from its expected value.

    >>> differing({"TZ": "UTC"}, {"TZ": "CET"})
    ["TZ: expected 'UTC', found 'CET'"]
    """
    return [
        f"{name}: expected {value!r}, found {environ.get(name)!r}"
        for name, value in expected.items()
        if environ.get(name) != value
    ]
