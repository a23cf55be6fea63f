"""Commands on a host without an engine, and with unknown words: one line, one hint, one exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli import main

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(Path("/opt/reprise/image.json").exists(), reason="is about hosts; this is an image")


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nothing.sock'}")


def run_reprise(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "trainer", *words], capture_output=True, text=True, env=environ, check=False
    )


@pytest.mark.usefixtures("socket")
@pytest.mark.parametrize(
    "words",
    [
        ("image", "ls"),
        ("image", "build", "cpu"),
        ("image", "show", "cpu"),
        ("image", "smoke", "cpu"),
        ("setup",),
        ("add", "einops"),
        ("add", "--system", "libgl1", "--environment", "cpu"),
        ("remove", "einops"),
    ],
)
def test_without_an_engine_the_error_has_a_hint(words: tuple[str, ...]) -> None:
    result = run_reprise(*words)
    assert result.returncode == 61
    assert result.stderr.splitlines()[-2:] == [
        "reprise: no Docker engine responds",
        "  -> scripts/machine/engine start, or scripts/machine/engine ensure if none is installed",
    ]


@pytest.mark.usefixtures("socket")
def test_an_unknown_environment_is_rejected_without_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "build", "cuba", "--json"]) == 43
    assert json.loads(capsys.readouterr().err) == {
        "error": "EnvironmentNameError",
        "message": "unknown environment 'cuba'",
        "hint": "did you mean cuda?",
        "code": 43,
    }


@pytest.mark.usefixtures("socket")
def test_an_unknown_stage_is_an_error_that_lists_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "build", "cpu", "--stage", "develop"]) == 2
    assert "did you mean development?" in capsys.readouterr().err


@pytest.mark.index
@pytest.mark.usefixtures("socket")
def test_doctor_continues_without_an_engine() -> None:
    document = run_reprise("doctor", "--json")
    assert document.returncode == 61
    findings = {finding["about"]: finding for finding in json.loads(document.stdout)["findings"]}
    assert findings["engine"]["state"] == "fault"
    assert "scripts/machine/engine" in findings["engine"]["remedy"]
    assert "network" in findings
