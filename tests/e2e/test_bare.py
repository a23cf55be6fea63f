"""An unprepared machine: a privileged container of the base image, in which an engine is installed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
RUN: Final = re.compile(r"^run +([0-9a-z]+-[a-z2-7]{6}) \(completed\)$", re.MULTILINE)

pytestmark = [pytest.mark.engine, pytest.mark.long]


def run_on_bare_machine(*words: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command, or the README's first two commands, on a bare machine; return stdout and stderr as one text."""
    command = [str(ROOT / "scripts" / "machine" / "bare"), *words]
    both = subprocess.STDOUT
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=both, text=True, check=False, timeout=seconds)


def test_the_first_two_commands_of_the_readme_work_on_a_bare_machine() -> None:
    output = run_on_bare_machine(seconds=3000)
    assert output.returncode == 0, output.stdout
    first, everyday = output.stdout.split("+ docker compose run")
    assert len(set(RUN.findall(output.stdout))) == 2
    assert float(re.findall(r"test_accuracy +([0-9.]+)", first)[-1]) >= 0.95
    assert re.search(r"^record +runs/", first, re.MULTILINE)
    assert "published" in everyday
    assert "preparing" not in everyday


def test_an_engine_is_installed_started_and_stopped_without_changes_to_apt() -> None:
    steps = (
        "find /etc/apt -type f | xargs sha256sum >/before",
        "! scripts/machine/engine status",
        "! scripts/machine/engine ensure </dev/null",
        "scripts/machine/engine ensure --yes",
        "scripts/machine/engine status | grep 'by this script'",
        "docker buildx version && docker compose version",
        "scripts/machine/engine stop",
        "! docker version >/dev/null 2>&1",
        "scripts/machine/engine start && scripts/machine/engine start && scripts/machine/engine status",
        "find /etc/apt -type f | xargs sha256sum | diff /before -",
        "! dpkg-query --show libc6 | grep deb13",
        "echo all well",
    )
    output = run_on_bare_machine(
        "bash",
        "-c",
        "\n".join(f"{step} || {{ echo 'not so: {step.replace(chr(39), '')}'; exit 1; }}" for step in steps),
        seconds=900,
    )
    assert output.returncode == 0, output.stdout
    assert "all well" in output.stdout
