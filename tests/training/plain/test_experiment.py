"""The classes of a plain experiment, and their choice by name."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.errors import ExperimentError
from trainer.training.plain.experiment import PlainExperiment, plain_experiment

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.torch
STEP = "\n    def training_step(self, batch): ...\n"
NET = f"import lightning as L\nclass Net(L.LightningModule):\n    def __init__(self, width: int = 4): ...{STEP}"
OTHERS = f"""
import lightning as L
from lightning.pytorch import LightningModule
from trainer.training.tasks.classification import Classifier
from {{nets}} import Net, Net as Alias
class First(LightningModule):{STEP}
class Second(LightningModule):
    def __init__(self, depth: int = 2): ...{STEP}
"""


def imported(path: Path, code: str, patch: pytest.MonkeyPatch) -> ModuleType:
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def experiment(folder: Path, code: str, patch: pytest.MonkeyPatch, **chosen: Any) -> PlainExperiment:
    imported(folder / "nets_of_a_team.py", NET, patch)
    file = folder / "file_of_a_team.py"
    module = imported(file, code.format(nets="nets_of_a_team"), patch)
    return plain_experiment(module, file.stem, file, chosen=chosen, load=lambda path: imported(path, "", patch))


@pytest.mark.parametrize(("word", "name"), [("First", "First"), ("Net", "Net"), ("Alias", "Net")])
def test_a_name_chooses_a_class_of_the_file_or_one_that_it_imports(
    word: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = experiment(tmp_path, OTHERS, monkeypatch, model=word)
    assert (found.net.__name__, found.choices) == (name, ("model",))
    assert ("width" in found.settings.__pydantic_fields__) is (name == "Net")


@pytest.mark.parametrize("code", [OTHERS, NET, "import lightning as L\nfrom {nets} import Net"])
def test_a_wrong_name_is_rejected_with_the_nearest_one(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExperimentError, match=r"file_of_a_team\.py has no LightningModule 'Nett'") as caught:
        experiment(tmp_path, code, monkeypatch, model="Nett")
    assert caught.value.hint == "did you mean Net?"


@pytest.mark.parametrize("word", ["LightningModule", "Classifier"])
def test_a_base_class_and_a_net_of_a_task_cannot_be_chosen(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExperimentError, match=f"has no LightningModule '{word}'"):
        experiment(tmp_path, OTHERS, monkeypatch, model=word)


def test_without_a_class_of_its_own_a_file_needs_the_name_of_an_imported_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExperimentError, match="nor a LightningModule") as caught:
        experiment(tmp_path, "from {nets} import Net", monkeypatch)
    assert caught.value.hint == "choose an imported class: --model Net"


@pytest.mark.parametrize("name", ["model", "data"])
def test_a_parameter_of_the_only_class_gets_the_word(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = NET.replace("width: int = 4", f"{name}: str = 'small'")
    found = experiment(tmp_path, code, monkeypatch, **{name: "large"})
    assert (found.net.__name__, found.choices) == ("Net", ())


def test_a_run_reads_the_splits_for_which_the_module_has_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = experiment(tmp_path, f"{NET}    def test_step(self, batch): ...\n", monkeypatch)
    assert found.reads_samples
    assert found.splits == ("train", "test")
