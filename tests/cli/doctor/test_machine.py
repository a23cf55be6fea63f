"""The findings of `reprise doctor` about the runs folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DiskFullError, MachineError
from trainer.cli import doctor
from trainer.cli.doctor import check_runs
from trainer.environments.doctor import Severity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("is_there", "room", "state", "code", "message"),
    [
        (True, 0, Severity.WELL, 0, "is writable for containers"),
        (True, 1 << 62, Severity.FAULT, DiskFullError.code, "MB free at"),
        (False, 0, Severity.FAULT, MachineError.code, "which cannot write"),
    ],
)
def test_a_read_only_or_full_runs_folder_is_a_fault(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    state: Severity,
    code: int,
    message: str,
    *,
    is_there: bool,
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor, "_FREE_BYTES", room)
    if is_there:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs").chmod(0o777)
    found = check_runs()
    assert (found.state, found.code, message in found.found) == (state, code, True)


@pytest.mark.parametrize("named", ["/proc/x", "/etc/hostname"])
def test_the_runs_folder_of_the_environment_variable_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "runs").mkdir(mode=0o777)
    (tmp_path / "runs").chmod(0o777)
    monkeypatch.setenv("REPRISE_RUNS", named)
    found = check_runs()
    assert (found.state, found.code) == (Severity.FAULT, MachineError.code)
    assert found.found.startswith(f"REPRISE_RUNS is {named}")
