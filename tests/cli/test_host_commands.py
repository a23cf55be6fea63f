"""The host's commands on a machine without an engine, and with words they do not know: one line, one hint, a code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(Path("/opt/reprise/image.json").exists(), reason="is about hosts; this is an image")


def reprise(*words: str, socket: Path) -> subprocess.CompletedProcess[str]:
    """The command, where Docker would be asked at `socket`."""
    environ = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "trainer", *words], capture_output=True, text=True, env=environ, check=False
    )


@pytest.mark.parametrize(
    "words",
    [("image", "ls"), ("image", "build", "cpu"), ("image", "show", "cpu"), ("image", "smoke", "cpu"), ("setup",)],
)
def test_without_an_engine_the_remedy_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    """No traceback of a library, no address of a socket; and nothing is written."""
    said = reprise(*words, socket=tmp_path / "nothing.sock")
    assert said.returncode == 61
    assert said.stderr.splitlines()[-2:] == [
        "reprise: no Docker engine answers",
        "  -> scripts/engine start, or scripts/engine ensure where none is installed",
    ]


def test_an_unknown_environment_is_answered_without_asking_the_engine(tmp_path: Path) -> None:
    """The nearest name, and the code of an unknown environment."""
    said = reprise("image", "build", "cuba", "--json", socket=tmp_path / "nothing.sock")
    assert said.returncode == 43
    assert json.loads(said.stderr) == {
        "error": "EnvironmentNameError",
        "message": "unknown environment 'cuba'",
        "hint": "did you mean cuda?",
        "code": 43,
    }


def test_an_unknown_stage_names_the_known_ones(tmp_path: Path) -> None:
    """As for every word of a command."""
    said = reprise("image", "build", "cpu", "--stage", "develop", socket=tmp_path / "nothing.sock")
    assert said.returncode == 2
    assert "did you mean development?" in said.stderr


@pytest.mark.index
def test_the_doctor_goes_on_without_an_engine(tmp_path: Path) -> None:
    """What needs none is still looked at, and the exit code is the fault's."""
    said = reprise("doctor", "--json", socket=tmp_path / "nothing.sock")
    assert said.returncode == 61
    findings = {finding["about"]: finding for finding in json.loads(said.stdout)["findings"]}
    assert findings["engine"]["state"] == "fault"
    assert "scripts/engine" in findings["engine"]["remedy"]
    assert "network" in findings
