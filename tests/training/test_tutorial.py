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
from resource import RUSAGE_CHILDREN, getrusage
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


@pytest.fixture
def copied(checkout: Checkout, tmp_path: Path) -> Path:
    """Return a copy of the checkout with the experiments that the tutorial copies, and an empty folder of runs."""
    root = tmp_path / "checkout"
    shutil.copytree(
        checkout.root, root, ignore=lambda folder, _: {"runs" if Path(folder) == checkout.root else "dots.py"}
    )
    for name in ("digits.py", "customers.py"):
        shutil.copy(checkout.root / "trainer/experiments" / name, root / "trainer/experiments")
    (root / "runs").mkdir()
    return root


def processor_seconds() -> float:
    """Return the time of all commands that ended: other programs on the machine do not change it."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def typed(section: list[str], root: Path, environ: dict[str, str]) -> dict[str, float]:
    """Type the blocks of a section; return the metrics of the run."""
    for block in section:
        done = subprocess.run(
            ["bash", "-euc", with_this_python(block)],
            cwd=root,
            env={**environ, "PYTHONPATH": str(root), "REPRISE_CACHE": str(root.parent / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    (record,) = [json.loads(path.read_bytes()) for path in (root / "runs").glob("*/attempts/1/record.json")]
    assert list((root / "runs").glob("*/attempts/1/figures.json"))
    assert list((root / "runs").glob("report-*.html"))
    metrics: dict[str, float] = record["outcome"]["metrics"]
    return metrics


def test_the_tutorial_trains_a_net_that_recognizes_the_shapes(checkout: Checkout, copied: Path) -> None:
    assert typed(blocks("Pictures")[:-1], copied, checkout.environ)["test_accuracy"] > 0.9


def test_the_tutorial_trains_a_classifier_from_a_csv_file(checkout: Checkout, copied: Path) -> None:
    before = processor_seconds()
    assert typed(blocks("From a CSV"), copied, checkout.environ)["test_auc"] > 0.9
    assert processor_seconds() - before < 300
