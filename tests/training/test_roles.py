"""A run whose splits come from several datasets, by the real command."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout
    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]
WORDS = ("--no-publish", "--max-epochs", "1")
ROLES = "train=dots,test=others"


@pytest.fixture(scope="module")
def runs(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Record]:
    """Train with the dataset of the checkout, and again with the test split of another dataset; return both records."""
    folder: Path = tmp_path_factory.mktemp("others")
    random = np.random.default_rng(1)
    np.save(folder / "images.npy", random.random((30, 1, 4, 4), dtype=np.float32))
    np.save(folder / "labels.npy", random.integers(0, 2, 30))
    words = ("--array", "image=images.npy", "--array", "label=labels.npy", "--split", "test=0:30")
    done = checkout.reprise("data", "publish", "others", str(folder), *words)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)
    made = []
    for more in ((), ("--dataset", ROLES)):
        code, _, err = checkout.train(*WORDS, *more)
        assert code == 0, err
        made.append(checkout.last()[1])
    return made[0], made[1]


def test_the_test_uses_the_other_dataset_and_the_training_is_the_same(runs: tuple[Record, Record]) -> None:
    one, several = runs
    assert several.outcome.weights == one.outcome.weights
    assert several.outcome.metrics["val_loss"] == one.outcome.metrics["val_loss"]
    assert several.outcome.metrics["test_loss"] != one.outcome.metrics["test_loss"]


def test_each_dataset_is_an_ingredient_under_its_role(runs: tuple[Record, Record]) -> None:
    one, several = runs
    roles = {name: each.roles for name, each in several.ingredients.datasets.items()}
    assert roles == {"dots": ["train", "val"], "others": ["test"]}
    assert several.ingredients.settings["dataset"] == {"train": "dots", "val": "dots", "test": "others"}
    assert several.circumstances.manifests.keys() == {"dots", "others"}
    assert json.loads(one.to_json())["ingredients"]["datasets"]["dots"].keys() == {"content", "version"}


def test_a_run_of_several_datasets_is_reproduced(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    done = checkout.reprise("reproduce", runs[1].run, "--no-container")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical:")


def test_compare_and_show_name_the_role(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    found = checkout.reprise("compare", *(each.run for each in runs))
    assert "of test" in found.stdout, found.stdout
    assert "of train" not in found.stdout
    page = checkout.reprise("runs", "show", runs[1].run).stdout
    assert "for train, val" in page
    assert "for test" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dataset", "test=others"), "a dataset for train"),
        (("--dataset", "train=dots,tets=others"), "setting dataset"),
        (("--dataset", "train=dots,test=otters"), "dataset 'otters' is not declared"),
        (("--dataset", "train=dots,val=others"), "dataset others has no split 'val'"),
    ],
)
def test_wrong_roles_are_rejected_and_no_run_is_kept(
    checkout: Checkout, runs: tuple[Record, Record], words: tuple[str, ...], said: str
) -> None:
    assert runs
    known = set((checkout.root / "runs").iterdir())
    code, _, err = checkout.train(*WORDS, *words)
    assert code != 0
    assert said in err, err
    assert "Traceback" not in err
    assert set((checkout.root / "runs").iterdir()) == known


OWN_STEPS = """
    def test_step(self, batch, number):
        super().test_step(batch, number)
"""


def test_a_missing_split_is_rejected_before_anything_is_fetched(
    checkout: Checkout, runs: tuple[Record, Record], tmp_path: Path
) -> None:
    assert runs
    for name, body in (("images", np.zeros((9, 1, 4, 4), dtype=np.float32)), ("labels", np.arange(9) % 2)):
        np.save(tmp_path / f"{name}.npy", body)
    words = ("--array", "image=images.npy", "--array", "label=labels.npy", "--split", "train=0:5", "--split", "val=5:9")
    assert checkout.reprise("data", "publish", "untested", str(tmp_path), *words).returncode == 0
    (checkout.root / "own.py").write_text((checkout.root / "dots.py").read_text() + OWN_STEPS)
    for given in ("untested", "train=dots,test=untested"):
        code, _, err = checkout.train("--exp", "own.py", *WORDS, "--dataset", given)
        assert code != 0
        assert "dataset untested has no split 'test'; it has train, val" in err
        assert not (checkout.root.parent / "cache/versions/untested").exists()


TITLE = "dots@1 (train, val) and others@1 (test)"
TWIN = """
[twin.image]
dtype = "float32"
shape = [1, 4, 4]
range = [0.0, 1.0]

[twin.label]
dtype = "int64"
classes = 2
"""


def test_check_reads_each_split_from_its_dataset(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    assert runs
    done = checkout.reprise("check", "dots.py", "--dataset", ROLES, "--steps", "3", "--json")
    document = json.loads(done.stdout)
    messages = {each["check"]: each["message"] for each in document["findings"]}
    assert document["data"] == f"{TITLE}, cpu"
    assert messages["data"].startswith("train 50, val 10, test 30; ")
    assert messages["splits"] == "no sample is in two splits (all 90 samples compared)"
    statuses = {each["check"]: each["status"] for each in document["findings"]}
    assert "failed" not in {statuses[name] for name in statuses if name != "one batch"}, messages


def test_check_reports_a_split_that_the_dataset_of_its_role_lacks(
    checkout: Checkout, runs: tuple[Record, Record]
) -> None:
    assert runs
    done = checkout.reprise("check", "dots.py", "--dataset", "train=dots,val=others", "--json")
    failed = {
        each["check"]: each["message"] for each in json.loads(done.stdout)["findings"] if each["status"] == "failed"
    }
    assert "dataset others has no split 'val'" in failed["data"]


PLAIN = """
import lightning as L
import torch
from torch import nn

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, images):
        return self.layer(images.flatten(1))

    def training_step(self, batch, number):
        return nn.functional.cross_entropy(self(batch["image"]), batch["label"])

    def test_step(self, batch, number):
        assert batch["image"].max() < 1, "samples of dots, whose second class has values from 1 to 2"
        self.log("test_mean", batch["image"].mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


def test_check_tests_a_plain_module_on_the_dataset_of_its_role(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    assert runs
    (checkout.root / "plain.py").write_text(PLAIN)
    done = checkout.reprise("check", "plain.py", "--dataset", ROLES, "--batch-size", "8", "--steps", "3", "--json")
    document = json.loads(done.stdout)
    assert document["data"] == f"{TITLE}, cpu"
    assert document["findings"][0]["message"] == "3 steps; results: test_mean", done.stderr


def test_bits_are_compared_with_several_datasets(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    assert runs
    done = checkout.reprise("check", "--bits", "dots.py", "--dataset", ROLES, "--steps", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("clean: ")


def test_bench_names_all_datasets(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    assert runs
    few = ("--steps", "20", "--warmup", "1", "--seconds", "1")
    done = checkout.reprise("bench", "dots.py", "--dataset", ROLES, *few, "--json")
    assert json.loads(done.stdout)["bench"]["data"] == TITLE, done.stderr


def test_synthetic_data_and_a_baseline_have_a_twin_for_each_role(
    checkout: Checkout, runs: tuple[Record, Record]
) -> None:
    assert runs
    code = (checkout.root / "dots.py").read_text()
    file = checkout.root / "trainer/experiments/roles.py"
    file.write_text(code.replace('dataset = "dots"', 'dataset = {"train": "dots", "test": "others"}'))
    declarations = [checkout.root / f"datasets/{name}.toml" for name in ("dots", "others")]
    texts = [each.read_text() for each in declarations]
    try:
        for each in declarations:
            each.write_text(each.read_text() + TWIN)
        done = checkout.reprise("check", "roles", "--synthetic", "--steps", "3", "--json")
        document = json.loads(done.stdout)
        assert document["data"] == f"synthetic data of {TITLE}, cpu"
        counts = next(each["message"] for each in document["findings"] if each["check"] == "data")
        assert counts.startswith("train 64, val 16, test 16; ")
        done = checkout.reprise("baseline", "measure", "roles", "--seeds", "1")
        measured = json.loads(done.stdout)
        assert {"val_loss", "test_loss"} <= measured["results"][0].keys(), done.stderr
        declarations[1].write_text(texts[1] + TWIN.replace("classes = 2", "classes = 3"))
        rejected = checkout.reprise("baseline", "measure", "roles", "--seeds", "1")
        assert "have different numbers of classes in 'label': 2 and 3" in rejected.stderr
    finally:
        file.unlink()
        for each, text in zip(declarations, texts, strict=True):
            each.write_text(text)
