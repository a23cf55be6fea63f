"""A module of another repository, trained by the command: its imports work, and the run is repeated without the repository."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from trainer.runs.run import load_record
from trainer.source.project import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout
    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]
MODULE: Final = """
import lightning as L
import torch
from src.models.components import Net


class Points(L.LightningModule):
    def __init__(self, net: torch.nn.Module, width: int = 4):
        super().__init__()
        self.net, self.body = net, Net(width)

    def forward(self, x):
        return self.net(self.body(x))

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""
FILES: Final = {
    "src/models/points.py": MODULE,
    "src/models/components.py": "import torch\nclass Net(torch.nn.Linear):\n    def __init__(self, width): super().__init__(2, width)\n",
    "src/data/points.py": """
import lightning as L
import torch
from helpers import samples
from torch.utils.data import DataLoader, TensorDataset


class PointData(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(*samples(64)), batch_size=8, shuffle=True)
""",
    "src/helpers.py": "import torch\ndef samples(count): return torch.randn(count, 2), torch.ones(count, 1)\n",
    "scripts/train.py": """
import json, os
from helpers import samples
from src.models.components import Net

open("results.json", "w").write(json.dumps({"in": Net(4).in_features, "rate": float(open("configs/rate.txt").read())}))
""",
    "configs/rate.txt": "0.5",
    "tests/__init__.py": "",
    "wrong.py": "import lightning as L\nimport tests\nclass M(L.LightningModule):\n    def training_step(self, b): ...\n",
}
NET: Final = ("--net", "torch.nn.Linear(in_features=4, out_features=1)", "--max-epochs", "2", "--no-publish")


def write_repository(root: Path, *, packages: bool) -> Path:
    """Write a repository with one commit; with `packages`, its folders have an `__init__.py`."""
    inits = {f"src/{folder}__init__.py": "" for folder in ("", "models/", "data/")} if packages else {}
    for path, text in (FILES | inits).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return root


def last_record(checkout: Checkout) -> tuple[Path, Record]:
    folder = max((checkout.root / "runs").glob("2*"), key=lambda path: path.stat().st_ctime_ns)
    return folder, load_record(folder / "attempts/1/record.json")


@pytest.fixture(autouse=True)
def _checkout_without_src(checkout: Checkout) -> None:
    """Remove the folder `src` that tests of a template repository may have written into the shared checkout."""
    shutil.rmtree(checkout.root / "src", ignore_errors=True)


@pytest.mark.parametrize("packages", [True, False])
def test_a_module_of_another_repository_trains_and_is_repeated_without_it(
    checkout: Checkout, tmp_path: Path, *, packages: bool
) -> None:
    theirs = write_repository(tmp_path / "theirs", packages=packages)
    data = str(theirs / "src/data/points.py") if packages else "src/data/points.py:PointData"
    exp = ("--exp", str(theirs / "src/models/points.py"), "--data", data, *NET)
    described = checkout.reprise("train", *exp, "--print-settings")
    assert described.returncode == 0, described.stderr
    code, _, err = checkout.train(*exp)
    assert code == 0, err
    folder, record = last_record(checkout)
    assert record.ingredients.experiment == f"{FOLDER}/src/models/points.py"
    assert record.ingredients.settings["data"] == data.removeprefix(f"{theirs}/")
    project = record.circumstances.source.project
    assert project is not None
    assert (project.path, project.dirty, len(project.commit)) == (FOLDER, False, 40)
    assert f"{FOLDER}: {project.files} files of the experiment's project, commit {project.commit}" in err
    assert project.commit in checkout.reprise("runs", "show", folder.name).stdout
    assert record.circumstances.imported is not None
    assert f"{FOLDER}/src/models/components.py" in record.circumstances.imported.files
    shutil.rmtree(theirs)
    repeated = checkout.reprise("reproduce", folder.name, "--no-container", "--allow-drift")
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
    assert "identical" in repeated.stdout


def test_a_script_of_another_repository_runs_in_its_copy(checkout: Checkout, tmp_path: Path) -> None:
    theirs = write_repository(tmp_path / "theirs", packages=False)
    code, _, err = checkout.train("--script", str(theirs / "scripts/train.py"), "--no-publish")
    assert code == 0, err
    folder, record = last_record(checkout)
    assert record.outcome.metrics == {"in": 2, "rate": 0.5}
    assert (folder / "attempts/1/output/results.json").is_file()
    assert "reads" not in record.circumstances.limits


def test_check_finds_the_modules_of_another_repository(checkout: Checkout, tmp_path: Path) -> None:
    theirs = write_repository(tmp_path / "theirs", packages=True)
    done = checkout.reprise("check", str(theirs / "src/models/points.py"), "--data", "src/data/points.py", *NET[:2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "repeatable        ok" in done.stdout


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--exp", "{}/wrong.py"), "wrong.py:2 imports tests, which is a package of the checkout too", "rename tests"),
        (
            ("--exp", "{}/src/models/points.py", *NET, "--data", "src/data/pionts.py"),
            "setting data is 'src/data/pionts.py', which is not a file of the run's source",
            "in the experiment's repository",
        ),
    ],
)
def test_conflicting_imports_and_missing_files_of_another_repository_are_errors(
    checkout: Checkout, tmp_path: Path, words: tuple[str, ...], message: str, hint: str
) -> None:
    theirs = write_repository(tmp_path / "theirs", packages=True)
    (checkout.root / "tests").mkdir(exist_ok=True)
    (checkout.root / "tests/__init__.py").write_text("")
    code, _, err = checkout.train(*(word.format(theirs) for word in words))
    (checkout.root / "tests/__init__.py").unlink()
    assert code not in {0, 1}, err
    assert message in err
    assert hint in err
