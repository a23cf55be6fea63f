"""Where the lock can be installed: the host's part and the developer's tools on every platform, the images' part only on Linux x86_64."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = ("--no-default-groups", "--group=host")
EVERYTHING: Final = ("--extra=cpu", "--extra=store", "--extra=samples")
SYSTEMS: Final = (
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "aarch64-apple-darwin",
    "x86_64-apple-darwin",
)


def would_install(part: tuple[str, ...], system: str, python: str, home: Path) -> str:
    """Return what uv would install of a part of the lock on another system and Python."""
    uv, expected = str(ROOT / "scripts" / "machine" / "uv"), str(home / "requirements.txt")
    export = ["export", "--quiet", "--frozen", "--no-emit-project", "--no-header", "--no-annotate", *part]
    subprocess.run([uv, *export, "--output-file", expected], cwd=ROOT, check=True)
    there = ["--python-platform", system, "--python-version", python, "--target", str(home / "there")]
    sync = ["pip", "sync", "--dry-run", "--no-config", "--no-build", "--require-hashes", *there, expected]
    done = subprocess.run([uv, *sync], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.index
@pytest.mark.parametrize(("system", "python"), list(zip(SYSTEMS, ("3.12", "3.11", "3.13", "3.11"), strict=True)))
def test_the_host_packages_have_wheels_for(system: str, python: str, tmp_path: Path) -> None:
    result = would_install(HOST, system, python, tmp_path)
    assert "+ boto3==" in result
    assert "torch" not in result


@pytest.mark.index
@pytest.mark.parametrize("system", SYSTEMS[1:])
def test_the_developer_tools_have_wheels_for(system: str, tmp_path: Path) -> None:
    result = would_install(EVERYTHING, system, "3.13", tmp_path)
    assert "+ ruff==" in result
    assert "torch" not in result


@pytest.mark.parametrize(("extra", "torch"), [("cpu", "torch==2.13.0+cpu"), ("cuda", "torch==2.13.0")])
def test_each_extra_has_its_own_torch(extra: str, torch: str) -> None:
    export = [
        "export",
        "--quiet",
        "--frozen",
        "--no-emit-project",
        "--no-hashes",
        "--no-default-groups",
        f"--extra={extra}",
    ]
    text = subprocess.run(
        [ROOT / "scripts" / "machine" / "uv", *export], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    pinned = [line.split()[0] for line in text.splitlines() if "==" in line]
    assert torch in pinned
    assert any(name.startswith("nvidia-cudnn-cu13") for name in pinned) is (extra == "cuda")
