"""The dev container, opened by the dev container CLI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.conftest import House, clone, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.index]

CLI: Final = "@devcontainers/cli@0.89.0"


@pytest.fixture(scope="module")
def devcontainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yield an open clone that belongs to an ordinary user; `devcontainer` is on its PATH."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, for the dev container CLI")
    tools, root = tmp_path_factory.mktemp("tools"), tmp_path_factory.mktemp("devcontainer-")
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(tools), CLI]
    subprocess.run(install, check=True, capture_output=True)
    root.chmod(0o755)
    clone(root)
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "1000:1000", root], check=True)
    path = f"{tools / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    house = House(root=root, env=os.environ | {"PATH": path, "REPRISE_STORE_PORT": str(free_port())})
    try:
        result = house.type("devcontainer", "up", "--workspace-folder", ".", seconds=1500)
        assert json.loads(result.out.splitlines()[-1])["outcome"] == "success", result.text
        yield house
    finally:
        house.type("docker", "compose", "--profile", "*", "down", "--volumes", "--remove-orphans")


def run_in_devcontainer(house: House, *words: str) -> str:
    """Run a command in the dev container and return its output; it must succeed."""
    result = house.type("devcontainer", "exec", "--workspace-folder", ".", *words, seconds=900)
    assert result.code == 0, result.text
    return result.out


def test_the_devcontainers_user_is_not_root(devcontainer: House) -> None:
    assert int(run_in_devcontainer(devcontainer, "id", "-u")) == devcontainer.root.stat().st_uid != 0
    run_in_devcontainer(devcontainer, "touch", "written")
    assert (devcontainer.root / "written").stat().st_uid == devcontainer.root.stat().st_uid
    (devcontainer.root / "written").unlink()


def test_the_devcontainer_has_the_environment_and_developer_tools(devcontainer: House) -> None:
    versions = run_in_devcontainer(
        devcontainer,
        "sh",
        "-c",
        "python -c 'import torch; print(torch.__version__)'; ruff --version; scripts/reprise --version",
    )
    assert [line.split()[0] for line in versions.splitlines()] == ["2.13.0+cpu", "ruff", "reprise"]


def test_a_run_in_the_devcontainer_records_its_image(devcontainer: House) -> None:
    run_in_devcontainer(devcontainer, "scripts/reprise", "data", "publish-samples")
    run_in_devcontainer(devcontainer, "scripts/reprise", "train", "--exp", "digits", "--max-epochs", "1")
    record = devcontainer.record("latest")
    values = dict(line.split("=", 1) for line in (devcontainer.root / ".env").read_text().splitlines() if "=" in line)
    assert record["circumstances"]["image"]["reference"] == values["REPRISE_DEV_IMAGE"]
    assert record["circumstances"]["image"]["known"] == "asserted"
    assert record["circumstances"]["drift"] == []


@pytest.mark.long
def test_the_fast_tests_pass_in_the_devcontainer(devcontainer: House) -> None:
    assert " passed" in run_in_devcontainer(devcontainer, "scripts/test", "--fast")


def test_the_tests_of_files_and_stores_pass_in_the_devcontainer(devcontainer: House) -> None:
    """All of `scripts/test --fast` takes minutes in the dev container, so only a long test runs it."""
    assert " passed" in run_in_devcontainer(
        devcontainer,
        "python",
        "-m",
        "pytest",
        "-q",
        "-m",
        "not s3 and not long",
        "tests/base",
        "tests/source",
        "tests/stores",
    )


def test_the_hosts_environments_are_not_changed(devcontainer: House) -> None:

    def names(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    assert names(devcontainer.root / ".venv") == set()
    assert "host" in names(devcontainer.root / ".reprise")
    assert not (devcontainer.root / ".reprise" / "host").is_symlink()
