"""Predictions for files: which samples are one batch, and which have no prediction."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from PIL import Image

from tests.models.serving.small_packages import Small, make_package, small
from trainer.base.errors import UsageError
from trainer.models.packaged import PackagedModel, load_package
from trainer.models.prediction import Prediction, Unread, results
from trainer.models.predictions_file import NOT_FINITE, PredictionsFile

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.models.inputs import InputReader
    from trainer.training.readers import Batch

pytestmark = pytest.mark.torch


@dataclass(slots=True)
class Noting:
    """A model that notes the sizes of its batches."""

    model: PackagedModel
    sizes: list[int] = field(default_factory=list)

    @property
    def reader(self) -> InputReader:
        return self.model.reader

    def predictions(self, batch: Batch) -> list[dict[str, Any]]:
        self.sizes.append(len(next(iter(batch.values()))))
        return self.model.predictions(batch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PackagedModel:
    return load_package(make_package(tmp_path_factory.mktemp("packages"), "pictures"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """150 files: pictures, except for number 70, counted from 0, and the last file."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for number in range(150):
        pixels = Image.fromarray(draw.integers(0, 256, (8, 8)).astype(np.uint8))
        pixels.save(folder / f"{number:03}.png")
    for number in (70, 149):
        (folder / f"{number:03}.png").write_bytes(b"text")
    return sorted(folder.iterdir())


def test_pictures_are_predicted_in_batches_in_their_order(model: PackagedModel, files: list[Path]) -> None:
    noting = Noting(model)
    found = list(results(noting, files))
    assert noting.sizes == [64, 6, 57, 21], "64, then those before and after the one that is no picture, and the rest"
    assert [each.file for each in found] == [str(each) for each in files]
    assert [number for number, each in enumerate(found) if isinstance(each, Unread)] == [70, 149]
    for each in found:
        if isinstance(each, Prediction):
            (alone,) = results(model, [files[int(each.file[-7:-4])]])
            assert isinstance(alone, Prediction)
            assert each.answer["scores"] == pytest.approx(alone.answer["scores"], rel=1e-5)


def test_pictures_of_different_sizes_are_not_one_batch(tmp_path: Path) -> None:
    made, shape = small("pictures"), (5, 1, 8, 8)
    own = {"reader": {**(made.reader or {})["reader"], "size": None, "resize": None}}
    net, inputs = torch.nn.AdaptiveAvgPool2d(1), {"image": torch.randint(0, 256, shape).float() / 255}
    pooled = torch.nn.Sequential(net, torch.nn.Flatten(), torch.nn.Linear(1, 3))
    package = Small(net=pooled, inputs=inputs, form=made.form, reader=own, variable=(2, 3))
    noting = Noting(load_package(make_package(tmp_path, "pictures", made=package)))
    for number, size in enumerate((8, 8, 9, 9, 9, 8)):
        Image.new("L", (size, size), number).save(tmp_path / f"{number}.png")
    assert len(list(results(noting, sorted(tmp_path.glob("*.png"))))) == 6
    assert noting.sizes == [2, 3, 1]


def test_the_command_that_removes_the_file_quotes_its_name(tmp_path: Path) -> None:
    path = tmp_path / "my predictions.jsonl"
    path.touch()
    with pytest.raises(UsageError) as caught:
        PredictionsFile(path, "a model", []).require_new()
    assert f"rm '{path}'" in str(caught.value.hint)


@pytest.mark.parametrize("stopped", [1, 63, 64, 65, 70, 71, 72, 148])
def test_a_command_that_was_stopped_anywhere_is_continued_with_equal_bytes(
    model: PackagedModel, files: list[Path], tmp_path: Path, stopped: int
) -> None:
    whole = PredictionsFile(tmp_path / "whole.jsonl", "a model", files)
    whole.write(model, report=lambda: None)
    reports = iter(range(1, 200))

    def stop() -> None:
        if next(reports) == stopped:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PredictionsFile(tmp_path / "again.jsonl", "a model", files).write(model, report=stop)
    again = PredictionsFile(tmp_path / "again.jsonl", "a model", files)
    again.write(model, report=lambda: None)
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert (again.predicted, again.faulty, whole.predicted, whole.faulty) == (148, 2, 148, 2)
    assert 0 < again.continued <= stopped


class Divided(torch.nn.Module):
    """A net whose output for 0 is infinite."""

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return 1 / numbers


def test_a_prediction_that_json_does_not_support_is_a_line_with_an_error(tmp_path: Path) -> None:
    made = Small(net=Divided(), inputs={"numbers": torch.ones(4, 2)}, form=small("tensors").form, reader=None)
    model = load_package(make_package(tmp_path, "tensors", made=made))
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.array([[1, 2], [0, 1], [4, 4]], dtype=np.float32))
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    target = PredictionsFile(tmp_path / "predictions.jsonl", "a model", files)
    target.write(model, report=lambda: None)
    lines = [json.loads(line) for line in target.path.read_bytes().splitlines()]
    assert [line.get("answer", {}).get("output") for line in lines] == [[1, 0.5], None, [0.25, 0.25]] * 2
    assert lines[1] == {"file": str(files[0]), "row": 1, "error": NOT_FINITE}
    assert (target.predicted, target.faulty) == (4, 2)
    partial = target._partial()
    partial.write_bytes(b"".join(target.path.read_bytes().splitlines(keepends=True)[:2]))
    again = PredictionsFile(tmp_path / "predictions.jsonl", "a model", files)
    again.write(model, report=lambda: None)
    assert [json.loads(line) for line in target.path.read_bytes().splitlines()] == lines
