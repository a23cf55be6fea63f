"""Each experiment is importable, its net fits its dataset, and its settings are valid."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from trainer.base.errors import ExperimentError, ExperimentFailedError, SettingError
from trainer.data.declaration import load_dataset
from trainer.settings.ledger import Ledger, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.experiment import load_experiment
from trainer.training.failures import own_failure
from trainer.training.tasks.classification import cross_entropy

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]
HEAD = "from torch import nn\nfrom trainer.training.tasks.classification import *\n"
SHAPES = {
    "digits": ((5, 1, 8, 8), (5, 10)),
    "faces": ((5, 1, 25, 25), (5, 2)),
    "diabetes": ((5, 10), (5,)),
    "pairs": ((6, 1, 8, 8), (6, 16)),
    "masks": ((5, 1, 16, 16), (5, 3, 16, 16)),
    "characters": ((5, 7), (5, 7, 256)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_net_accepts_the_datasets_samples(name: str) -> None:
    experiment = load_experiment(name, ROOT / f"trainer/experiments/{name}.py", root=ROOT)
    resolved = resolve(experiment.settings, Origins(options=parse_options([]), environ={}))
    dataset = load_dataset(experiment.datasets(resolved.settings)[0], root=ROOT)
    assert {"train", "val", "test"} <= dataset.splits.keys()
    given, gives = SHAPES[name]
    with use_ledger(Ledger(resolved)):
        kind = torch.int64 if name == "characters" else torch.float32
        assert experiment.make_net()(torch.zeros(given, dtype=kind)).shape == gives


def test_every_experiment_fits_on_a_page() -> None:
    for name in SHAPES:
        assert len((ROOT / f"trainer/experiments/{name}.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("def f(:", ExperimentFailedError, r"mine\.py:1: invalid syntax"),
        ("import nope", ExperimentFailedError, "ModuleNotFoundError: No module named 'nope'"),
        ("", ExperimentError, "neither a class Settings with a task's net"),
        (
            HEAD + "class Settings(ClassificationSettings):\n    classes = 2\n",
            ExperimentError,
            "has no net; expected exactly one net",
        ),
        (HEAD + "class Settings(ClassificationSettings):\n    threads = 2\n", ExperimentError, "sets threads"),
        (
            HEAD + "class Settings(ClassificationSettings):\n    dropout = max(0.1, 0)\n",
            ExperimentError,
            r"mine\.py:\d+: setting dropout has no type",
        ),
        (
            HEAD + "class Settings(ClassificationSettings):\n    learning_rat = 1e-3\n",
            ExperimentError,
            r"mine\.py:\d+: there is no setting learning_rat to override",
        ),
    ],
)
def test_an_incomplete_experiment_is_an_error_in_one_sentence(
    tmp_path: Path, text: str, kind: type[Exception], message: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(kind, match=message):
        load_experiment("mine", file, root=ROOT)


@pytest.mark.parametrize(
    ("beside", "message"), [(True, "`from FOLDER import nope`"), (False, "docs/how-to/environments.md")]
)
def test_an_import_error_has_a_hint_with_the_import_root(
    tmp_path: Path, message: str, monkeypatch: pytest.MonkeyPatch, *, beside: bool
) -> None:
    package = tmp_path / f"package_{beside}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text("import nope")
    if beside:
        (package / "nope.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExperimentFailedError) as caught:
        load_experiment("mine", package / "mine.py", root=tmp_path)
    assert message in str(caught.value.hint)


def test_a_file_outside_a_package_imports_its_neighbors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module next to the experiment is found, as next to a script."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "neighbor_of_mine.py").write_text("VALUE = 3")
    (tmp_path / "mine.py").write_text("from neighbor_of_mine import VALUE\nassert VALUE == 3\n")
    with pytest.raises(ExperimentError, match="nor a LightningModule"):
        load_experiment("mine", tmp_path / "mine.py", root=ROOT)


def test_a_label_beyond_the_classes_names_the_setting() -> None:
    with pytest.raises(SettingError, match="has the label 9; the net gives scores for 5 classes") as caught:
        cross_entropy(label_smoothing=0.0)(torch.zeros(2, 5), torch.tensor([1, 9]))
    assert "set classes to 10 or more" in str(caught.value.hint)


def test_a_failure_of_the_experiment_shows_only_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def forward(x):\n    return x.nothing\n")
    space: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)  # noqa: S102 - code that this test wrote
    with pytest.raises(AttributeError) as caught:
        space["forward"](1)  # type: ignore[operator]
    result = own_failure(caught.value, file=file)
    assert result is not None
    assert result.message.startswith("mine.py:2: the experiment raised AttributeError: ")
    assert "mine.py:2, in forward" in str(result.hint)
    assert own_failure(ValueError("ours"), file=file) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("self.counted = 3", "self.counted, which its task defines"),
        ("self.loss = nn.MSELoss()", "override make_loss"),
        ("self.samples = nn.Linear(1, 1)", "self.samples"),
    ],
)
def test_a_net_that_overrides_an_attribute_of_its_task_is_rejected(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "mine.py"
    text = f"class Net(Classifier):\n    def __init__(self):\n        super().__init__()\n        {line}\n"
    file.write_text(f"{HEAD}class Settings(ClassificationSettings):\n    classes = 2\n    dataset = 'd'\n{text}")
    with pytest.raises(ExperimentError) as result:
        load_experiment("mine", file, root=tmp_path).make_net()
    assert message in f"{result.value.message} {result.value.hint}"
