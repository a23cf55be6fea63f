"""The tutorial's own blocks, typed on this machine's Python: from pictures in folders to a first curve.

What runs in an image there runs here without one; tests/e2e/test_tutorial.py types every block as it stands, in a clone on a real engine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
PAGE: Final = (Path(__file__).parents[2] / "docs" / "tutorial" / "your-own-data.md").read_text()


def blocks(section: str) -> list[str]:
    (text,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(section)]
    return re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def with_this_python(block: str) -> str:
    """Return the block with this Python in place of the image's."""
    python = f"'{sys.executable}' -m trainer"
    plain = block.replace("docker compose run --rm train", f"{python} train").replace("scripts/reprise", python)
    return plain.replace("python3 -", f"'{sys.executable}' -")


def test_the_tutorial_trains_a_net_that_recognizes_the_shapes(checkout: Checkout, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(
        checkout.root, root, ignore=lambda folder, _: {"runs" if Path(folder) == checkout.root else "dots.py"}
    )
    shutil.copy(checkout.root / "trainer/experiments/digits.py", root / "trainer/experiments")
    (root / "runs").mkdir()
    environ = {**checkout.environ, "PYTHONPATH": str(root), "REPRISE_CACHE": str(tmp_path / "cache")}
    for block in blocks("Pictures")[:-1]:
        done = subprocess.run(
            ["bash", "-euc", with_this_python(block)],
            cwd=root,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    (record,) = [json.loads(path.read_bytes()) for path in (root / "runs").glob("*/attempts/1/record.json")]
    assert record["outcome"]["metrics"]["test_accuracy"] > 0.9
    assert list((root / "runs").glob("*/attempts/1/figures.json"))
    assert list((root / "runs").glob("report-*.html"))
