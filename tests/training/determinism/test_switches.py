"""Observed changes of torch's global flags while a net is created and trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from trainer.base.errors import ExperimentError
from trainer.settings.determinism import Level, variables
from trainer.training.determinism.switches import WatchSwitches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.torch

SWITCHES: list[Callable[[bool], None]] = [
    lambda on: torch.use_deterministic_algorithms(mode=on),
    lambda on: torch.use_deterministic_algorithms(mode=True, warn_only=not on),
    lambda on: setattr(torch.backends.cudnn, "benchmark", not on),
    lambda on: setattr(torch.backends.cudnn, "deterministic", on),
    lambda on: setattr(torch.backends.cuda.matmul, "allow_tf32", not on),
    lambda on: torch.backends.cuda.enable_flash_sdp(not on),
    lambda on: setattr(torch.utils.deterministic, "fill_uninitialized_memory", on),
    lambda on: torch.set_float32_matmul_precision("highest" if on else "high"),
    lambda on: torch.set_num_threads(1 if on else 3),
]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Set level `machine` with one thread, and restore the process afterwards."""
    threads = torch.get_num_threads()
    for name, value in variables(Level.MACHINE, threads=1).items():
        monkeypatch.setenv(name, value)
    for switch in SWITCHES:
        switch(True)
    yield []
    torch.use_deterministic_algorithms(mode=False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cuda.enable_flash_sdp(True)
    torch.set_num_threads(threads)


def start_watching(lines: list[str], level: Level = Level.MACHINE) -> WatchSwitches:
    return WatchSwitches(lines.append, determinism=level, threads=1)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_that_the_constructor_changes_is_an_error(lines: list[str], switch: Callable[[bool], None]) -> None:
    watched = start_watching(lines)
    watched.require_unchanged("the constructor of the net")
    switch(False)
    with pytest.raises(ExperimentError, match="the constructor of the net changes a global torch flag: torch") as error:
        watched.require_unchanged("the constructor of the net")
    assert "--determinism off" in str(error.value.hint)
    switch(True)


def test_a_later_change_is_reported_once_with_its_location(lines: list[str]) -> None:
    watched = start_watching(lines)
    torch.use_deterministic_algorithms(mode=False)
    for _ in range(2):
        watched.report("after step 3")
    assert lines == [
        "torch.are_deterministic_algorithms_enabled() is False; expected True at determinism level machine (after step 3)"
    ]


def test_a_changed_environment_variable_is_reported(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    watched = start_watching(lines)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    watched.report("after the test")
    assert lines == ["CUBLAS_WORKSPACE_CONFIG: expected ':4096:8', found ':0:0' (after the test)"]


def test_at_level_off_only_the_recorded_threads_count(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(Level.OFF, threads=1).items():
        monkeypatch.setenv(name, value)
    watched = start_watching(lines, Level.OFF)
    torch.backends.cudnn.benchmark = True
    watched.require_unchanged("the constructor of the net")
    torch.set_num_threads(3)
    watched.report("after step 1")
    assert lines == ["torch.get_num_threads() is 3; expected 1 at determinism level off (after step 1)"]
    torch.backends.cudnn.benchmark = False
