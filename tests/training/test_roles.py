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
    """Train on one dataset, and test on another."""
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


def test_the_checks_use_one_dataset(checkout: Checkout, runs: tuple[Record, Record]) -> None:
    assert runs
    done = checkout.reprise("check", "dots.py", "--dataset", ROLES)
    assert "reprise check` uses one" in done.stderr + done.stdout, done.stderr
    assert "Traceback" not in done.stderr
