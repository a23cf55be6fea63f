"""A misspelled or former hook of a net is noticed; a helper method with a similar name is not."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import ExperimentError
from trainer.cli import experiment_loading
from trainer.training.experiment import load_any_experiment
from trainer.training.hooks import FORMER, describe_misspelled_hooks, misspelled_hooks, require_hooks
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    import lightning as L

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]
TASK = """import torch
import torchvision_like as torchvision
from torch import nn
from trainer.training.tasks.classification import *
class Settings(ClassificationSettings):
    classes = 2
    dataset = "d"
class Net(Classifier):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)
    def forward(self, x):
        return self.layer(x)
"""
PLAIN = """import lightning as L
class Net(L.LightningModule):
    def training_step(self, batch, batch_idx):
        return None
"""


def loaded(folder: Path, text: str, *lines: str) -> type[L.LightningModule]:
    (folder / "torchvision_like.py").write_text("transforms = None\n")
    file = folder / f"mine_{abs(hash((folder, lines)))}.py"
    file.write_text(text + "".join(f"    {line}\n" for line in lines))
    return load_any_experiment("mine", file, root=folder).net


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize(
    ("line", "hook"),
    [
        ("def transforms(self, sample, generator): return sample", "transform"),
        ("def transforms(self, sample): return torchvision.transforms", "transform"),
        ("def transforms(self, sample, generator): return super().transforms(sample)", "transform"),
        ("def transfrom(self, sample, generator): return sample", "transform"),
        ("def configure_optimizer(self): return None", "configure_optimizers"),
        ("def figure(self): return []", "figures"),
        ("def make_metric(self): return None", "make_metrics"),
        ("def train_step(self, batch, index): return None", "training_step"),
        ("def on_train_epoch_ended(self): return None", "on_train_epoch_end"),
        ("tolerance = {'test_loss': 0.1}", "tolerances"),
        ("input_field = ('a', 'b')", "input_fields"),
    ],
)
def test_a_misspelled_hook_of_a_task_is_an_error(tmp_path: Path, line: str, hook: str) -> None:
    with pytest.raises(ExperimentError, match=rf"which nothing uses; a hook of its task is {hook}$") as caught:
        require_hooks(loaded(tmp_path, TASK, line))
    assert f"to {hook}" in str(caught.value.hint)


@pytest.mark.parametrize("name", FORMER)
def test_a_former_hook_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    parameters = ", ".join(["self", "a", "b", "c", "d"][: getattr(Task, FORMER[name]).__code__.co_argcount])
    with pytest.raises(ExperimentError, match=f"Net defines {name}, .* the hook's name is {FORMER[name]}"):
        require_hooks(loaded(tmp_path, TASK, f"def {name}({parameters}): return None"))


@pytest.mark.parametrize(
    ("line", "hint"),
    [("def loss(self, predicted, wanted): return 0", "override make_loss"), ("results = {}", "rename results")],
)
def test_a_name_that_the_task_replaces_is_an_error(tmp_path: Path, line: str, hint: str) -> None:
    with pytest.raises(ExperimentError, match="which its task replaces before the first step") as caught:
        require_hooks(loaded(tmp_path, TASK, line))
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "lines",
    [
        ("def sample(self, count): return count",),
        ("def transforms(self, sample, generator): return sample", "def other(self): return self.transforms"),
        ("def transforms(self, sample, generator): 0", "def transform(self, sample, generator): 0"),
        ("def note(self, line): print(line)",),
        ("def features(self, x): return x", "def embed(self, x): return x", "def make_layers(self): return []"),
        ("def _transforms(self, sample, generator): return sample",),
        ("transforms = nn.Identity()",),
        ("@property\n    def figure(self): return None",),
    ],
)
def test_a_helper_with_a_similar_name_is_accepted(tmp_path: Path, lines: tuple[str, ...]) -> None:
    require_hooks(loaded(tmp_path, TASK, *lines))


def test_a_misspelled_hook_of_a_base_class_of_the_author_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bases_of_mine.py").write_text("class Augmented:\n    def transforms(self, sample, generator): 0\n")
    text = f"from bases_of_mine import Augmented\n{TASK}".replace("Net(Classifier)", "Net(Augmented, Classifier)")
    with pytest.raises(ExperimentError, match="Net defines transforms"):
        require_hooks(loaded(tmp_path, text, "pass"))


def test_a_misspelled_hook_of_a_plain_module_is_described(tmp_path: Path) -> None:
    net = loaded(tmp_path, PLAIN, "def configure_optimizer(self): return None", "def validation_steps(self, x): 0")
    require_hooks(net)
    assert describe_misspelled_hooks(net) == [
        "nothing calls Net.configure_optimizer; the hook of Lightning is configure_optimizers"
    ]


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "trainer/experiments").glob("[a-z]*.py")])
def test_no_experiment_of_the_repository_has_a_misspelled_hook(name: str) -> None:
    module = importlib.import_module(f"trainer.experiments.{name}")
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, Task) and kind.__module__ == module.__name__:
            require_hooks(kind)
            assert [*misspelled_hooks(kind)] == []


def test_the_import_for_a_run_or_a_check_rejects_a_misspelled_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from trainer.runs.handoff import Launch

    loaded(tmp_path, TASK, "pass")
    (tmp_path / "idea.py").write_text(f"{TASK}    def transforms(self, sample, generator): return sample\n")
    monkeypatch.setattr(experiment_loading, "SOURCE", tmp_path)
    launch = Launch(
        experiment="idea.py",
        file="idea.py",
        device="cpu",
        command=["reprise"],
        started=datetime(2026, 1, 1, tzinfo=UTC),
        monotonic=0.0,
        frozen=None,
    )
    for load in (
        experiment_loading.import_experiment,
        lambda given: experiment_loading.import_any_experiment(given, []),
    ):
        with pytest.raises(ExperimentError, match="Net defines transforms, which nothing uses"):
            load(launch)
