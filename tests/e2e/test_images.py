"""Real images: no build tools and no facts of the build machine inside, and bit-identical rebuilds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]


def reprise(*words: str) -> dict[str, Any]:
    done = subprocess.run([ROOT / "scripts" / "reprise", *words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def run_in_image(reference: str, script: str) -> str:
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", reference, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def cpu_image() -> dict[str, Any]:
    return reprise("image", "build", "cpu")


def test_an_image_contains_no_build_tools(cpu_image: dict[str, Any]) -> None:
    output = run_in_image(
        cpu_image["reference"],
        "id -u; command -v uv pip pip3; env | grep -E '^(UV|PIP|SSL)_'; ls -A /project /run/secrets 2>/dev/null; true",
    )
    assert output.split() == ["1000", "/project:"] or output.split() == ["1000"]


def test_an_image_describes_its_inputs(cpu_image: dict[str, Any]) -> None:
    baked = json.loads(run_in_image(cpu_image["reference"], "cat /opt/reprise/image.json"))
    assert (baked["build_id"], baked["lock"]) == (cpu_image["build_id"], cpu_image["lock"])
    inventory = json.loads(run_in_image(cpu_image["reference"], "cat /opt/reprise/inventory.json"))
    assert inventory["distributions"]["torch"]["version"] == "2.13.0+cpu"
    assert {"python3", "tini", "libgomp1", "fonts-wqy-microhei"} <= inventory["system"].keys()


def test_no_layer_contains_facts_of_the_build_machine(cpu_image: dict[str, Any]) -> None:
    history = subprocess.run(
        ["docker", "history", "--no-trunc", cpu_image["reference"]], capture_output=True, text=True, check=True
    ).stdout
    assert "index.invalid" not in history
    assert "://" not in history.replace("https://docs", "")


@pytest.mark.long
def test_two_builds_without_a_cache_are_bit_identical(cpu_image: dict[str, Any]) -> None:
    again = reprise("image", "build", "cpu", "--no-cache")
    assert {key: again[key] for key in ("manifest", "config", "layers")} == {
        key: cpu_image[key] for key in ("manifest", "config", "layers")
    }
