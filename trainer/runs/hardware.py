"""The machine of a run: processor, memory, system, and GPUs as reported by NVML.

NVML does not create a CUDA context. If the library or the driver is missing, no GPU is reported; this is not an error.
"""

from __future__ import annotations

import functools
import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.digest import digest_of_document
from trainer.runs.record import Gpu, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CORES_PER_MULTIPROCESSOR: Final = {6: 128, 7: 64, 8: 128, 9: 128, 10: 128, 11: 128, 12: 128}
"""CUDA cores by major compute capability; 6.0 and 8.0 have 64 (CUDA C++ Programming Guide, "Compute Capabilities")."""
_LIMITS: Final = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def read_host(root: Path = Path("/"), *, name: str | None = None) -> Host:
    """Return the description of this machine for the record; `root` contains /proc and /sys.

    `name` is the name of the host, which a process in a container cannot read.
    """
    cpu, flags = _processor(_text(root / "proc/cpuinfo"))
    driver, cuda, gpus = _nvml()
    return Host(
        name=name or platform.node() or "unknown",
        system=_system(),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu,
        cpu_flags=digest_of_document(flags) if flags else None,
        cores=usable_cores(),
        memory=_memory(root),
        gpus=gpus,
        driver=driver,
        cuda_driver=cuda,
    )


def read_gauges(uuid: str | None = None, *, root: Path = Path("/")) -> dict[str, float]:
    """Return the memory use of this process and the gauges of the GPU with this UUID; unavailable gauges are omitted."""
    pages = _text(root / "proc/self/statm").split()
    memory = {"memory_gib": int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 30)} if len(pages) > 1 else {}
    handle = None if uuid is None else _gpu_handle(uuid)
    return memory if handle is None else memory | dict(_gpu_gauges(_library(), handle))


@functools.cache
def _library() -> Any:
    """Return the NVML bindings; `None` if they are not installed. They are imported here because most commands do not query GPUs."""
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


@functools.cache
def _gpu_handle(uuid: str) -> Any:
    """Return the NVML handle of a GPU, or `None` if NVML does not find it. NVML stays open until the process ends."""
    if (pynvml := _library()) is None:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None


def _gpu_gauges(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    """Yield each gauge that the GPU reports; shared and old GPUs report only some."""
    gauge: dict[str, Callable[[], float]] = {
        "gpu_utilisation": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "gpu_memory_gib": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / (1 << 30),
        "gpu_temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "gpu_power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    }
    for name, read in gauge.items():
        with suppress(nvml.NVMLError):
            yield name, float(read())


def gpu_nodes(root: Path = Path("/")) -> list[str]:
    """Return the names of the GPU device files in `/dev`, sorted; they show a GPU even without NVML."""
    with suppress(OSError):
        return sorted(node.name for node in (root / "dev").iterdir() if re.fullmatch(r"nvidia\d+", node.name))
    return []


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor(cpuinfo: str) -> tuple[str, list[str]]:
    fields = dict(re.findall(r"^(model name|flags|Features)\s*: (.*)$", cpuinfo, re.MULTILINE))
    model = fields.get("model name") or platform.processor() or platform.machine() or "unknown"
    return model.strip(), sorted((fields.get("flags") or fields.get("Features") or "").split())


def _memory(root: Path) -> int:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [int(text) for name in _LIMITS if (text := _text(root / name).strip()).isdigit()]
    return min([whole, *limits])


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def _nvml() -> tuple[str | None, str | None, list[Gpu]]:
    """Return the driver version, its CUDA version and the GPUs; `None`, `None` and no GPUs if NVML is missing or fails."""
    if (pynvml := _library()) is None:
        return None, None, []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None, None, []
    try:
        return _devices(pynvml)
    except pynvml.NVMLError:
        return None, None, []
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _devices(nvml: Any) -> tuple[str, str, list[Gpu]]:
    version = nvml.nvmlSystemGetCudaDriverVersion()
    gpus = [_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(place)) for place in range(nvml.nvmlDeviceGetCount())]
    return _plain(nvml.nvmlSystemGetDriverVersion()), f"{version // 1000}.{version % 1000 // 10}", gpus


def _gpu(nvml: Any, handle: Any) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    cores = None
    with suppress(nvml.NVMLError, AttributeError):
        cores = nvml.nvmlDeviceGetNumGpuCores(handle)
    return Gpu(
        name=_plain(nvml.nvmlDeviceGetName(handle)),
        uuid=_plain(nvml.nvmlDeviceGetUUID(handle)),
        memory=nvml.nvmlDeviceGetMemoryInfo(handle).total,
        multiprocessors=multiprocessors(cores, major, minor),
        capability=f"{major}.{minor}",
    )


def multiprocessors(cores: int | None, major: int, minor: int) -> int | None:
    """Return the number of streaming multiprocessors, from NVML's count of CUDA cores; `None` for an unknown architecture.

    >>> multiprocessors(16896, 9, 0)
    132
    """
    each = 64 if (major, minor) in {(6, 0), (8, 0)} else _CORES_PER_MULTIPROCESSOR.get(major)
    return cores // each if cores and each else None


def _plain(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
