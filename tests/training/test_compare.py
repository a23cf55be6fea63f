"""`reprise compare` on real runs: each difference is reported with its candidate and its first step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.data.declaration import Draft, declared, load_dataset
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.stores import open_store

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]

NUDGED = """
import numpy as np
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier
from trainer.training.tracing.trace import Tracer

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    max_epochs = 2
    batch_size = 8
    optimizer = "sgd"
    learning_rate = 0.5
    nudge_at: int = 0

class Net(Classifier):
    tolerances = dict.fromkeys(("val_loss", "test_loss", "val_accuracy", "test_accuracy", "val_f1", "test_f1"), 1e-4)

    def __init__(self, *, classes: int, nudge_at: int) -> None:
        super().__init__()
        self.nudge_at = nudge_at
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(16, classes))

    def configure_callbacks(self):
        from pathlib import Path
        return [Tracer(Path(self.trainer.default_root_dir))]

    def on_train_batch_start(self, batch, index):
        if self.trainer.global_step + 1 == self.nudge_at:
            group = self.trainer.optimizers[0].param_groups[0]
            group["lr"] = float(np.nextafter(np.float32(group["lr"]), np.float32(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
"""


@pytest.fixture(scope="module")
def own_checkout(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a separate checkout whose experiment can be perturbed."""
    root = tmp_path_factory.mktemp("same") / "checkout"
    shutil.copytree(checkout.root, root, ignore=lambda folder, _: ["runs"] if Path(folder) == checkout.root else [])
    (root / "runs").mkdir()
    (root / "dots.py").write_text(NUDGED)
    return replace(checkout, root=root)


def train(mine: Checkout, *argv: str) -> Path:
    known = set((mine.root / "runs").glob("20*"))
    code, _, err = mine.train("--no-tensorboard", "--no-progress", *argv)
    assert code == 0, err
    (run,) = set((mine.root / "runs").glob("20*")) - known
    return run


@pytest.fixture(scope="module")
def first_run(own_checkout: Checkout) -> Path:
    return train(own_checkout)


def run_compare(mine: Checkout, a: Path, b: Path) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "trainer", "compare", str(a), str(b)]
    page = subprocess.run(command, env=mine.environ, capture_output=True, text=True, check=False)
    document = subprocess.run([*command, "--json"], env=mine.environ, capture_output=True, text=True, check=False)
    assert (page.returncode, page.stderr) == (document.returncode, document.stderr)
    return page.returncode, json.loads(document.stdout), page.stdout


def test_two_equal_trainings_are_identical(own_checkout: Checkout, first_run: Path) -> None:
    code, document, page = run_compare(own_checkout, first_run, train(own_checkout))
    assert (code, document["verdict"], document["same_run"]) == (0, "identical", False)
    assert (document["candidates"], document["divergence"], document["notes"]) == ([], None, [])
    assert page.startswith("identical: final weights and all result metrics (6) are equal bit for bit\n")


def test_another_seed_diverges_at_the_first_step(own_checkout: Checkout, first_run: Path) -> None:
    code, document, page = run_compare(own_checkout, first_run, train(own_checkout, "--seed", "1"))
    assert (code, document["verdict"]) == (20, "different")
    assert [(each["kind"], each["name"], each["from_b"]) for each in document["candidates"]] == [
        ("setting", "seed", "command line")
    ]
    assert (document["divergence"]["step"], document["divergence"]["stream"]) == (1, "data")
    assert "  setting  seed  0 (default)  1 (command line)\n" in page


def test_a_learning_rate_one_ulp_higher_at_step_seven_is_found_there(own_checkout: Checkout, first_run: Path) -> None:
    """The difference is found in the schedule, before it changes any weight; the results are within the declared tolerance."""
    code, document, page = run_compare(own_checkout, first_run, train(own_checkout, "--nudge-at", "7"))
    assert (code, document["verdict"]) == (10, "within tolerance")
    divergence = document["divergence"]
    assert (divergence["step"], divergence["stream"], divergence["quantity"]) == (7, "schedule", "0.lr")
    assert (divergence["a"], divergence["b"]) == ("0.5", "0.5000000596046448")
    assert document["weights"]["differing"]
    assert "  step 7, stream schedule\n" in page


def test_a_changed_package_is_named(own_checkout: Checkout, first_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(first_run, tmp_path / "copy")
    (copy / "attempts" / "1" / "published.json").unlink()
    path = copy / "attempts" / "1" / "record.json"
    record = json.loads(path.read_text())
    record["circumstances"]["inventory"]["distributions"]["numpy"]["version"] = "1.0"
    path.write_text(json.dumps(record))
    code, document, page = run_compare(own_checkout, first_run, copy)
    assert (code, document["same_run"]) == (0, False)
    (package,) = document["candidates"]
    assert (package["kind"], package["name"], package["b"]) == ("package", "numpy", "1.0")
    assert "differences: circumstances" in page


def test_a_changed_file_of_the_dataset_is_named(own_checkout: Checkout, first_run: Path, tmp_path: Path) -> None:
    dataset = load_dataset("dots", root=own_checkout.root)
    folder = tmp_path / "data"
    shutil.copytree(own_checkout.store.parent / "data", folder)
    labels = np.load(folder / "labels.npy")
    labels[3] = 1 - labels[3]
    np.save(folder / "labels.npy", labels)
    draft = Draft(name="dots", splits=dataset.splits, reader=dataset.reader)
    changed = publish_dataset(
        draft, source=SourceFolder(root=folder), store=open_store(str(own_checkout.store))
    ).dataset
    declaration = own_checkout.root / "datasets" / "dots.toml"
    before = declaration.read_text()
    declaration.write_text(declared(changed))
    try:
        code, document, _ = run_compare(own_checkout, first_run, train(own_checkout))
    finally:
        declaration.write_text(before)
    data = next(each for each in document["candidates"] if each["kind"] == "dataset")
    assert (code in {10, 20}, document["divergence"]["stream"]) == (True, "data")
    assert [line.split()[:2] for line in data["inside"]] == [["~", "labels.npy"]]
