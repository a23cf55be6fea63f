"""The description of this machine."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

from trainer.runs.hardware import (
    _devices,
    _gpu_gauges,
    gpu_nodes,
    multiprocessors,
    read_gauges,
    read_host,
    usable_cores,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_this_machine_is_described() -> None:
    host = read_host()
    assert host.cpu
    assert host.cores == usable_cores() >= 1
    assert host.memory > 1 << 28
    assert host.kernel.startswith(os.uname().sysname)
    assert (host.driver is None) == (not host.gpus)


def test_the_hosts_name_comes_from_the_environment() -> None:
    assert read_host(name="lab-3").name == "lab-3"
    assert read_host(name="").name == read_host().name == os.uname().nodename


def test_processor_memory_limit_and_devices_are_read_from_linux(tmp_path: Path) -> None:
    for path, text in {
        "proc/cpuinfo": "model name\t: Some CPU\nflags\t\t: fma avx2\n",
        "sys/fs/cgroup/memory.max": "268435456\n",
        "dev/nvidia0": "",
        "dev/nvidiactl": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    host = read_host(tmp_path)
    assert (host.cpu, host.memory, gpu_nodes(tmp_path)) == ("Some CPU", 1 << 28, ["nvidia0"])
    (tmp_path / "proc/cpuinfo").write_text("model name\t: Some CPU\nflags\t\t: avx2 fma\n")
    assert read_host(tmp_path).cpu_flags == host.cpu_flags


def test_a_machine_without_proc_is_still_described(tmp_path: Path) -> None:
    host = read_host(tmp_path)
    assert host.cpu_flags is None
    assert gpu_nodes(tmp_path) == []


def test_multiprocessors_follow_from_cores_and_architecture() -> None:
    assert multiprocessors(6912, 8, 0) == 108
    assert multiprocessors(16896, 9, 0) == 132
    assert multiprocessors(1000, 99, 0) is None
    assert multiprocessors(None, 9, 0) is None


class Nvml:
    """A fake of NVML with two GPUs."""

    class NVMLError(Exception):
        """The exception that the library raises."""

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802 - the names of the library, here and below
        return 13000

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.95.05"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, place: int) -> int:  # noqa: N802
        return place

    def nvmlDeviceGetCudaComputeCapability(self, _: int) -> tuple[int, int]:  # noqa: N802
        return 9, 0

    def nvmlDeviceGetNumGpuCores(self, handle: int) -> int:  # noqa: N802
        if handle:
            raise self.NVMLError
        return 16896

    def nvmlDeviceGetName(self, _: int) -> str:  # noqa: N802
        return "NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, _: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=80 << 30)


def test_gpus_are_described_by_nvml() -> None:
    driver, cuda, gpus = _devices(Nvml())
    assert (driver, cuda) == ("580.95.05", "13.0")
    assert [(gpu.uuid, gpu.multiprocessors, gpu.capability) for gpu in gpus] == [
        ("GPU-0", 132, "9.0"),
        ("GPU-1", None, "9.0"),
    ]


def test_the_memory_of_this_process_is_read_and_an_unknown_gpu_is_omitted(tmp_path: Path) -> None:
    found = read_gauges("GPU-none")
    assert set(found) == {"memory_gib"}
    assert 0.01 < found["memory_gib"] < 100
    assert read_gauges(root=tmp_path) == {}


def test_a_gpu_reports_each_available_gauge() -> None:

    class Refused(Exception):  # noqa: N818 - a local stand-in for `NVMLError`
        """A stand-in for the exception that NVML raises."""

    def power(_: object) -> int:
        raise Refused

    nvml = SimpleNamespace(
        NVMLError=Refused,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=75),
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=3 << 30),
        nvmlDeviceGetTemperature=lambda _, __: 51,
        nvmlDeviceGetPowerUsage=power,
    )
    expected = {"gpu_utilisation": 0.75, "gpu_memory_gib": 3.0, "gpu_temperature_celsius": 51.0}
    assert dict(_gpu_gauges(nvml, object())) == expected
