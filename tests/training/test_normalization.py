"""Normalization by the training split: fitted before the first step, saved with the weights, restored on resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.small_training import REGRESSOR, Small
from trainer.base.errors import DatasetError, ExperimentError
from trainer.training.normalization import Normalize
from trainer.training.train_split import TrainSplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.training.readers import Samples

pytestmark = pytest.mark.torch
NORMAL = """
from trainer.training.normalization import Normalize

class Settings(RegressionSettings):
    dataset = "dots"
    input_field = "x"
    target_field = "y"

class Net(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.unit = Normalize(4), Normalize(field="y")
        self.layers = nn.Linear(4, 1)

    def forward(self, x):
        return self.unit.inverse(self.layers(self.scale(x))[:, 0])

    def transform(self, sample, generator):
        return sample | {"x": sample["x"] + torch.rand(4)}
"""


def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.normal(5, 3, (40, 4)).astype(np.float32), random.normal(100, 20, 40).astype(np.float32)


def test_statistics_of_train_alone_are_saved_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    weights = []
    for number, words in enumerate([[], ["--workers", "1"], ["--ema-decay", "0.9"]]):
        (place := tmp_path / str(number)).mkdir()
        Small(place=place, code=NORMAL, x=x, y=y).train(monkeypatch, "--max-epochs", "3", *words)
        weights.append(load_file(place / "attempt/weights.safetensors"))
    for found in weights:
        assert torch.equal(found["scale.mean"], torch.from_numpy(x[:24].astype(np.float64).mean(axis=0)).float())
        assert torch.equal(found["scale.std"], torch.from_numpy(x[:24].astype(np.float64).std(axis=0)).float())
        assert found["unit.mean"] == pytest.approx(y[:24].mean(), rel=1e-6)
        assert (int(found["scale.count"]), int(found["unit.count"])) == (24, 24)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_constant_position_stays_finite_and_the_inverse_restores() -> None:
    class Train(TrainSplit):
        def values(self, field: str) -> Iterator[tuple[Any, Any]]:
            del field
            yield np.arange(3), np.array([[1, 7], [2, 7], [3, 7]], dtype=np.float32)

    def load() -> tuple[Samples, list[int]]:
        return [], [0, 1, 2]  # type: ignore[return-value] # only counted

    scale = Normalize(2)
    message = scale.fit(Train(load, dataset="small@1"), field="x", name="Net.scale")
    assert message == "Net.scale fitted to 'x' of 3 training samples; 1 of 2 positions have equal values"
    values = torch.tensor([[1.0, 7.0], [3.0, 8.0]])
    assert torch.isfinite(scale(values)).all()
    assert scale(values)[:, 1].tolist() == [0, 1]
    torch.testing.assert_close(scale.inverse(scale(values)), values)


def test_pictures_and_numbers_are_normalized_along_their_first_axes() -> None:
    scale = Normalize(3)
    scale.mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    scale.std.fill_(2)
    pixels = torch.arange(1, 4).reshape(1, 3, 1, 1).expand(2, 3, 4, 4)  # integers
    assert torch.equal(scale(pixels), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ExperimentError, match=r"Normalize\(3\) gets \[2, 4, 4\]; expected \[batch, 3, ..\]"):
        scale(torch.zeros(2, 4, 4))
    assert bool(Normalize()(torch.ones(2)).isnan().all())


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (
            "self.scale(x)",
            "self.scale(x / 2)",
            ExperimentError,
            "Net.scale is fitted to field 'x', but `forward` calls it with other values",
        ),
        ("Normalize(4)", "Normalize(3)", ExperimentError, r"Net.scale normalizes \[3\]; the samples have 'x' as"),
        ('field="y"', 'field="z"', DatasetError, "the samples of dots@1 have no field 'z'"),
    ],
)
def test_a_normalization_that_does_not_fit_is_rejected(
    old: str, new: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data()
    fault = Small(place=tmp_path, code=NORMAL.replace(old, new), x=x, y=y).failed(monkeypatch)
    assert isinstance(fault, error)
    with pytest.raises(error, match=message) as caught:
        raise fault
    assert getattr(caught.value, "hint", None)


def test_a_net_without_normalization_reads_no_sample_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("train was read")

    monkeypatch.setattr(TrainSplit, "values", read)
    x, y = data()
    assert Small(place=tmp_path, code=REGRESSOR, x=x, y=y).train(monkeypatch).steps == 3
