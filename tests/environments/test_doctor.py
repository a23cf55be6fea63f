"""The doctor's findings about simulated machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.memory import FACTS
from trainer.base.errors import DotenvError, EngineAbsentError
from trainer.environments import doctor
from trainer.environments.doctor import Diagnosis, Severity

if TYPE_CHECKING:
    from trainer.environments.engine import EngineFacts

BLOCK = {"REPRISE_ENVIRONMENT": "cpu", "REPRISE_IMAGE": "localhost/reprise/cpu@sha256:1"}
NVIDIA = replace(FACTS, runtimes=("nvidia", "runc"))


def test_a_current_engine_passes() -> None:
    assert doctor.engine(FACTS).state is Severity.WELL


def test_an_old_engine_fails_and_an_engine_without_manifests_is_noted() -> None:
    assert doctor.engine(replace(FACTS, version="20.10.24+dfsg1")).state is Severity.FAULT
    assert doctor.engine(replace(FACTS, keeps_manifests=False)).state is Severity.NOTE


def test_a_missing_plugin_is_named() -> None:
    found = doctor.plugins({"buildx": None, "compose": "2.26.1"})
    assert found.found == "docker finds no plugin buildx"
    assert found.remedy == "scripts/machine/engine ensure"


@pytest.mark.parametrize(
    ("devices", "driver", "facts", "state", "message"),
    [
        (0, None, FACTS, Severity.WELL, "no NVIDIA device"),
        (2, "580.65.06", FACTS, Severity.FAULT, "no runtime that passes them"),
        (1, "535.129.03", NVIDIA, Severity.FAULT, "needs driver 580 or newer"),
        (1, "580.65.06", NVIDIA, Severity.WELL, "the lock's CUDA is 13.0"),
        (1, "580.65.06", replace(FACTS, devices=("nvidia.com/gpu=all",)), Severity.WELL, "driver 580.65.06"),
    ],
)
def test_gpus_are_checked_with_their_driver(
    devices: int, driver: str | None, facts: EngineFacts, state: Severity, message: str
) -> None:
    found = doctor.gpus(devices, driver=driver, cuda="13.0", facts=facts)
    assert found.state is state
    assert message in found.found


def test_low_disk_space_fails_with_its_own_code() -> None:
    assert doctor.disk(Path("/"), 10 * 10**9, environment="cpu").state is Severity.WELL
    assert doctor.disk(Path("/"), 10 * 10**9, environment="cuda").code == 71


def test_a_stale_block_lists_stale_variables() -> None:
    found = doctor.dotenv(
        {**BLOCK, "AWS_SECRET_ACCESS_KEY": "old"}, {**BLOCK, "AWS_SECRET_ACCESS_KEY": "new"}, edited=True, shadows=[]
    )
    assert found.found == ".env is stale: AWS_SECRET_ACCESS_KEY would change"
    assert found.code == DotenvError.code


@pytest.mark.parametrize(
    ("before", "edited", "shadows", "state"),
    [
        ({}, False, [], Severity.FAULT),
        (BLOCK, True, [], Severity.FAULT),
        (BLOCK, False, ["X"], Severity.NOTE),
        (BLOCK, False, [], Severity.WELL),
    ],
)
def test_the_block_is_checked(before: dict[str, str], edited: bool, shadows: list[str], state: Severity) -> None:  # noqa: FBT001
    assert doctor.dotenv(before, BLOCK, edited=edited, shadows=shadows).state is state


def test_an_exception_in_a_check_is_a_finding() -> None:

    def look() -> Diagnosis:
        raise EngineAbsentError("no Docker engine responds", hint="scripts/machine/engine start")

    found = doctor.run_check("engine", look)
    assert (found.state, found.remedy) == (Severity.FAULT, "scripts/machine/engine start")
    assert doctor.exit_code([doctor.well("disk", "much"), found]) == 61
    assert doctor.exit_code([doctor.well("disk", "much")]) == 0
