"""Nets with several inputs, and nets with several outputs, each with a loss and metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.checking import ROOT, run_checks_on
from tests.small_training import Small
from trainer.base.errors import DatasetError, ExperimentError, RepriseError
from trainer.data.reader import ArraysReader
from trainer.training.check_result import CheckStatus

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.declaration import Dataset

pytestmark = pytest.mark.torch
TWO_INPUTS = """
class Settings(RegressionSettings):
    dataset = "dots"
    target_field = "y"

class Net(Regressor):
    input_fields = ("x", "z")

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Linear(6, 1)

    def forward(self, x, z):
        return self.layers(torch.cat([x, z], dim=1))[:, 0]
"""
TWO_OUTPUTS = """
from torchmetrics.classification import BinaryAccuracy
from trainer.training.tasks.multi_task import MultiTask, MultiTaskSettings, Output

class Settings(MultiTaskSettings):
    dataset = "dots"
    learning_rate = 0.05

class Net(MultiTask):
    input_fields = ("x", "z")

    def __init__(self) -> None:
        super().__init__()
        self.body, self.size, self.kind = nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(8, 2)

    def make_outputs(self):
        class Accuracy(BinaryAccuracy):
            def update(self, predicted, wanted):
                super().update(predicted.argmax(dim=1), wanted)

        return {
            "size": Output(field="y", loss=nn.MSELoss()),
            "kind": Output(field="k", loss=nn.CrossEntropyLoss(), metrics={"accuracy": Accuracy()}, weight=2.0),
        }

    def forward(self, x, z):
        hidden = self.body(torch.cat([x, z], dim=1)).relu()
        return {"size": self.size(hidden)[:, 0], "kind": self.kind(hidden)}
"""


@dataclass(slots=True, kw_only=True)
class Several(Small):
    """A small training with two inputs, x and z, and two targets, y and k."""

    kind: str = "int64"
    """The type of k."""
    odd: int | None = None
    """The value of k in row 30, which is in val."""

    def dataset(self) -> Dataset:
        declared = Small.dataset(self)
        random = np.random.default_rng(1)
        z = random.random((40, 2), dtype=np.float32)
        np.save(self.place / "data/z.npy", z)
        kinds = (z[:, 0] > 0.5).astype(self.kind)
        if self.odd is not None:
            kinds[30] = self.odd
        np.save(self.place / "data/k.npy", kinds)
        np.save(self.place / "data/y.npy", z.sum(axis=1))
        fields = {name: f"{name}.npy" for name in ("x", "y", "z", "k")}
        return declared.model_copy(update={"reader": ArraysReader(kind="arrays", fields=fields)})


def train(folder: Path, code: str, patch: pytest.MonkeyPatch, *words: str, record: Any = None) -> Any:
    folder.mkdir(exist_ok=True)
    return Several(place=folder, code=code, record=record).train(patch, *words)


def test_forward_gets_each_input_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = train(tmp_path / "1", TWO_INPUTS, monkeypatch, "--max-epochs", "3", record=object())
    swapped = TWO_INPUTS.replace('("x", "z")', '("z", "x")').replace("self, x, z", "self, z, x")
    other = train(tmp_path / "2", swapped, monkeypatch, "--max-epochs", "3", "--workers", "1")
    assert one.weights == other.weights
    assert one.metrics == other.metrics


@pytest.mark.parametrize("kind", ["uint8", "int32", "bool"])
def test_targets_of_a_loss_of_classes_may_have_any_integer_type(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for each in ("int64", kind):
        (tmp_path / each).mkdir()
        found.append(Several(place=tmp_path / each, code=TWO_OUTPUTS, kind=each).train(monkeypatch))
    assert (found[0].weights, found[0].metrics) == (found[1].weights, found[1].metrics)


def test_a_mask_of_another_loss_stays_a_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "lambda predicted, known: predicted[known].square().mean()"
    code = TWO_OUTPUTS.replace('nn.CrossEntropyLoss(), metrics={"accuracy": Accuracy()}', own)
    trained = Several(place=tmp_path, code=code, kind="bool").train(monkeypatch)
    assert "test_kind_loss" in trained.metrics


def test_each_output_has_its_loss_and_metrics_and_the_net_learns_their_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train(tmp_path, TWO_OUTPUTS, monkeypatch, "--max-epochs", "40", record=object())
    names = ("loss", "size_loss", "kind_loss", "kind_accuracy")
    assert set(trained.metrics) == {f"{split}_{name}" for split in ("val", "test") for name in names}
    found = {name: trained.metrics[f"test_{name}"] for name in names}
    assert found["loss"] == pytest.approx(found["size_loss"] + 2 * found["kind_loss"], rel=1e-6)
    assert found["kind_accuracy"] > 0.7
    lines = [json.loads(line) for line in (tmp_path / "attempt/metrics.jsonl").read_text().splitlines()]
    assert any("val_kind_accuracy" in str(line) for line in lines)


def test_a_metric_of_an_output_can_be_monitored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--monitor", "val_kind_accuracy", "--monitor-mode", "max", "--max-epochs", "2")
    assert train(tmp_path, TWO_OUTPUTS, monkeypatch, *words).metrics


@pytest.mark.parametrize(
    ("code", "old", "new", "kind", "message"),
    [
        (TWO_INPUTS, '("x", "z")', '("x", "zz")', DatasetError, "has no field 'zz'"),
        (TWO_OUTPUTS, 'field="k"', 'field="kk"', DatasetError, "has no field 'kk'"),
        (TWO_OUTPUTS, 'return {"size"', 'return {"sizes"', ExperimentError, "returns no output 'size'; expected a dict with"),
        (TWO_OUTPUTS, "(hidden)}\n", '(hidden), "more": z}\n', ExperimentError, "returns the output 'more'"),
        (TWO_OUTPUTS, 'return {"size": self.size(hidden)[:, 0], "kind": self.kind(hidden)}', "return hidden", ExperimentError,
         r"returns float32 \[2, 8\]; expected a dict with size, kind"),
        (TWO_OUTPUTS, "(hidden)[:, 0]", "(hidden)", ExperimentError, r"'size' as float32 \[2, 1\]; the targets are float32 \[2\]"),
        (TWO_OUTPUTS, "weight=2.0", "weight=-1", ExperimentError, "the weight of output 'kind' is -1"),
        (TWO_OUTPUTS, '{"accuracy": Accuracy()}', '{"loss": Accuracy()}', ExperimentError,
         "two values that are named 'kind_loss'"),
        (TWO_OUTPUTS, "        return {\n", "        return None\n        return {\n", ExperimentError, "make_outputs returns None"),
    ],
)  # fmt: skip
def test_mismatched_outputs_or_targets_are_rejected_with_a_hint(
    code: str,
    old: str,
    new: str,
    kind: type[RepriseError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert old in code
    fault = Several(place=tmp_path, code=code.replace(old, new)).failed(monkeypatch)
    with pytest.raises(kind, match=message):
        raise fault
    assert getattr(fault, "hint", None)


def test_an_input_field_that_is_given_has_no_effect_beside_input_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Several(place=tmp_path, code=TWO_INPUTS).failed(monkeypatch, "--input-field", "x")
    assert isinstance(fault, RepriseError)
    assert "input_field" in fault.message


@pytest.mark.filterwarnings("ignore")
def test_a_net_with_several_outputs_passes_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_checks_on(ROOT / "tests/training/tasks/several.py", tmp_path, monkeypatch)
    wrong = [each for each in findings.values() if each.status is CheckStatus.FAILED]
    assert not wrong, wrong


@pytest.mark.filterwarnings("ignore")
def test_a_net_with_several_inputs_passes_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "both.py"
    text = (ROOT / "tests/training/tasks/several.py").read_text()
    text = text.replace("class Net(MultiTask):\n", 'class Net(MultiTask):\n    input_fields = ("image", "label")\n\n')
    text = text.replace("self, images: Tensor)", "self, images: Tensor, labels: Tensor)")
    file.write_text(text.replace("self.ink(pixels)[:, 0]", "self.ink(pixels)[:, 0] + labels"))
    findings = run_checks_on(file, tmp_path, monkeypatch)
    wrong = [each for each in findings.values() if each.status is CheckStatus.FAILED]
    assert not wrong, wrong
    assert findings["forward"].message == "[32, 1, 8, 8], [32] to [32, 10], [32]"


def test_the_loss_of_a_split_is_that_of_its_outputs_if_one_ignores_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.random.default_rng(0).integers(0, 2, 40)
    labels[[25, 27, 28, 29, 33, 34, 36, 38]] = -100
    found = Small(place=tmp_path, code=MASKED, y=labels).train(monkeypatch, "--batch-size", "3").metrics
    x, weights = np.load(tmp_path / "data" / "x.npy"), load_file(tmp_path / "attempt" / "weights.safetensors")
    for split, rows in (("val", slice(24, 32)), ("test", slice(32, 40))):
        scores = torch.from_numpy(x[rows]) @ weights["layers.weight"].T + weights["layers.bias"]
        expected = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels[rows])).item()
        assert found[f"{split}_kind_loss"] == pytest.approx(expected, rel=1e-5)
        whole = 3 * expected + scores.square().mean().item()
        assert found[f"{split}_loss"] == pytest.approx(whole, rel=1e-5)


MASKED = """
from trainer.training.tasks.multi_task import MultiTask, MultiTaskSettings, Output

class Settings(MultiTaskSettings):
    dataset = "dots"
    input_field = "x"

class Net(MultiTask):
    def make_outputs(self):
        return {
            "kind": Output(field="y", loss=nn.CrossEntropyLoss(), weight=3.0),
            "size": Output(field="y", loss=lambda predicted, wanted: predicted.square().mean()),
        }

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Linear(4, 2)

    def forward(self, x):
        scores = self.layers(x)
        return {"kind": scores, "size": scores}
"""


def test_the_sum_is_that_of_the_weighted_losses() -> None:
    from trainer.training.tasks.multi_task import Output, SummedLoss

    loss = SummedLoss(
        {"a": Output(field="y", loss=torch.nn.MSELoss()), "b": Output(field="y", loss=torch.nn.L1Loss(), weight=3)}
    )
    ones, zeros = torch.ones(4), torch.zeros(4)
    assert float(loss({"a": 2 * ones, "b": 2 * ones}, {"a": zeros, "b": zeros})) == 4 + 3 * 2


@pytest.mark.parametrize(
    ("found", "loss", "message"),
    [
        (7, "nn.CrossEntropyLoss()", r"'kind' in split val include 7 \(the first is in row 30\); `forward` gives scores for 2"),
        (-1, "nn.CrossEntropyLoss()", "targets of output 'kind' in split val include -1"),
        (7, "nn.CrossEntropyLoss(ignore_index=7)", ""),
        (7, "lambda scores, wanted: nn.functional.nll_loss(scores, wanted % 2)", ""),
        (3, "nn.BCEWithLogitsLoss()", "targets of output 'kind' in split val include 3 .*; its loss expects 0 to 1"),
    ],
)  # fmt: skip
def test_a_target_without_a_score_is_an_error_before_the_first_step(
    found: int, loss: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = TWO_OUTPUTS.replace('nn.CrossEntropyLoss(), metrics={"accuracy": Accuracy()}', loss)
    if "BCE" in loss:
        code = code.replace('"kind": self.kind(hidden)}', '"kind": self.kind(hidden)[:, 0]}')
    several = Several(
        place=tmp_path, code=code, kind="float32" if "BCE" in loss else "int64", odd=found, record=object()
    )
    if not message:
        assert several.train(monkeypatch).metrics
        return
    fault = several.failed(monkeypatch)
    with pytest.raises(DatasetError, match=message):
        raise fault
    assert getattr(fault, "hint", None)
