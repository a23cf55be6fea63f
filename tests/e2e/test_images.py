"""The real images: the same bit for bit, without what must not be in them, and good for training."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]


def reprise(*words: str) -> dict[str, Any]:
    """What the command answers, as a document."""
    done = subprocess.run([ROOT / "scripts" / "reprise", *words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def inside(reference: str, script: str) -> str:
    """What a shell in the image prints."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", reference, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def cpu() -> dict[str, Any]:
    """The image of this checkout's environment `cpu`."""
    return reprise("image", "build", "cpu")


def test_nothing_that_builds_is_in_it(cpu: dict[str, Any]) -> None:
    """No uv, no pip, no setting of an index or a CA bundle, no code; and no root."""
    said = inside(
        cpu["reference"],
        "id -u; command -v uv pip pip3; env | grep -E '^(UV|PIP|SSL)_'; ls -A /project /run/secrets 2>/dev/null; true",
    )
    assert said.split() == ["1000", "/project:"] or said.split() == ["1000"]


def test_it_says_what_it_was_built_from(cpu: dict[str, Any]) -> None:
    """The baked build id and lock are those that the host names; the inventory has the system's packages with versions."""
    baked = json.loads(inside(cpu["reference"], "cat /opt/reprise/image.json"))
    assert (baked["build_id"], baked["lock"]) == (cpu["build_id"], cpu["lock"])
    inventory = json.loads(inside(cpu["reference"], "cat /opt/reprise/inventory.json"))
    assert inventory["distributions"]["torch"]["version"] == "2.13.0+cpu"
    assert {"python3", "tini", "libgomp1", "fonts-wqy-microhei"} <= inventory["system"].keys()


def test_no_layer_tells_where_it_was_built(cpu: dict[str, Any]) -> None:
    """The history names secrets' mounts, never what was in them."""
    history = subprocess.run(
        ["docker", "history", "--no-trunc", cpu["reference"]], capture_output=True, text=True, check=True
    ).stdout
    assert "index.invalid" not in history
    assert "://" not in history.replace("https://docs", "")


@pytest.mark.long
def test_two_builds_from_nothing_are_the_same_bit_for_bit(cpu: dict[str, Any]) -> None:
    """Manifest, config and layers, minutes later and without a cache."""
    again = reprise("image", "build", "cpu", "--no-cache")
    assert {key: again[key] for key in ("manifest", "config", "layers")} == {
        key: cpu[key] for key in ("manifest", "config", "layers")
    }
