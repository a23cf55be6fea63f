"""The commands of the tutorial, run with this machine's Python: from pictures in folders to a first curve.

No command runs in a container; tests/e2e/test_tutorial.py runs every block unchanged, in a clone with a Docker engine.
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

from trainer.data.declaration import load_dataset
from trainer.data.files import FolderFiles
from trainer.data.splits import select
from trainer.training.readers import open_samples

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


def own_environ(root: Path, environ: dict[str, str]) -> dict[str, str]:
    """Return the variables of a command in the checkout `root`."""
    return {**environ, "PYTHONPATH": str(root), "REPRISE_CACHE": str(root.parent / "cache")}


def processor_seconds() -> float:
    """Return the CPU seconds of all commands that ended, which do not include other programs on the machine."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def typed(section: list[str], root: Path, environ: dict[str, str]) -> dict[str, float]:
    """Run the blocks of a section; return the metrics of the run."""
    for block in section:
        done = subprocess.run(
            ["bash", "-euc", with_this_python(block)],
            cwd=root,
            env=own_environ(root, environ),
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


def predicted(root: Path, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run `reprise predict latest` in the checkout `root`."""
    command = [sys.executable, "-m", "trainer", "predict", "latest", *words]
    return subprocess.run(
        command, cwd=root, env=own_environ(root, environ), capture_output=True, text=True, check=False
    )


def test_the_tutorial_trains_a_net_that_recognizes_the_shapes(checkout: Checkout, copied: Path) -> None:
    accuracy = typed(blocks("Pictures")[:-1], copied, checkout.environ)["test_accuracy"]
    assert accuracy > 0.9
    dataset, folder = load_dataset("shapes", root=copied), copied.parent / "shapes"
    layout = open_samples(dataset, FolderFiles(folder)).layout
    names = [layout.name_of(row) for row in select("test", dataset.splits, layout, dataset="shapes")]
    done = predicted(copied, checkout.environ, *(str(folder / name) for name in names), "--json")
    answers = [each["answer"]["class"] for each in json.loads(done.stdout)["predictions"]]
    right = [answer == name.partition("/")[0] for answer, name in zip(answers, names, strict=True)]
    assert sum(right) / len(right) == pytest.approx(accuracy)
    code = f"from trainer import runs; print(runs.load().predict({str(folder / names[0])!r})[0]['answer']['class'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copied,
        env=own_environ(copied, checkout.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{answers[0]}\n"
    (copied / "text.pgm").write_text("hello")
    done = predicted(copied, checkout.environ, "text.pgm")
    assert (done.returncode, "text.pgm cannot be decoded as a picture: found text" in done.stderr) == (44, True)


def test_the_tutorial_trains_a_classifier_from_a_csv_file(checkout: Checkout, copied: Path) -> None:
    before = processor_seconds()
    assert typed(blocks("From a CSV"), copied, checkout.environ)["test_auc"] > 0.9
    assert processor_seconds() - before < 300
    rows = (copied.parent / "churn.csv").read_text().splitlines()
    done = predicted(copied, checkout.environ, "../churn.csv", "--json")
    answers = [each["answer"]["class"] for each in json.loads(done.stdout)["predictions"]]
    right = [answer == row.rpartition(",")[2] for answer, row in zip(answers, rows[1:], strict=True)]
    assert sum(right) / len(right) > 0.88
    for line, code, message in (
        ("contract,months", 44, "has no column 'charge'"),
        ("contract,months,charge,total,payment\nyearly,x,1,2,card", 44, "line 2"),
        ("contract,months,charge,total,payment\nnever,1,1,2,card", 44, "'never'"),
    ):
        (copied / "odd.csv").write_text(f"{line}\n")
        done = predicted(copied, checkout.environ, "odd.csv")
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
