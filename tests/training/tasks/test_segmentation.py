"""The segmentation task: a class for each pixel, with ignored pixels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassJaccardIndex

from tests.small_training import Small
from trainer.base.errors import DatasetError, ExperimentError, SettingError
from trainer.training.tasks.metrics import MeanIoU
from trainer.training.tasks.segmentation import PixelCrossEntropy, colored
from trainer.training.tasks.split_metrics import computed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
CODE = """
from trainer.training.tasks.segmentation import SegmentationSettings, Segmenter

class Settings(SegmentationSettings):
    dataset = "dots"
    classes = 3
    input_field = "x"
    target_field = "y"
    learning_rate = 0.05

class Net(Segmenter):
    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.layers = nn.Conv2d(1, classes, 3, padding=1)

    def forward(self, x):
        return self.layers(x)
"""


def small(folder: Path, code: str = CODE, *, ignored: int | None = None, dtype: str = "uint8") -> Small:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    masks = random.integers(0, 3, (40, 6, 5)).astype(dtype)
    x = (masks[:, None] / 2 + random.normal(0, 0.05, (40, 1, 6, 5))).astype(np.float32).clip(0, 1)
    if ignored is not None:
        masks[:, 0] = ignored
    return Small(place=folder, code=code, x=x, y=masks)


@pytest.mark.parametrize(
    ("words", "ignored"), [((), None), (("--ignore-index", "255"), 255), (("--class-weights", "balanced"), None)]
)
def test_pixels_are_learned_and_measured(
    words: tuple[str, ...], ignored: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = small(tmp_path, ignored=ignored).train(monkeypatch, "--max-epochs", "30", *words)
    assert set(trained.metrics) == {
        f"{split}_{name}" for split in ("val", "test") for name in ("loss", "accuracy", "iou")
    }
    assert trained.metrics["test_iou"] > 0.7
    (figure, *_) = json.loads((tmp_path / "attempt/figures.json").read_text())["figures"]
    assert figure["title"] == "Samples with the largest test losses: picture, mask, prediction"
    assert (tmp_path / "attempt/most-wrong.png").read_bytes().startswith(b"\x89PNG")


def test_values_of_ignored_pixels_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--ignore-index", "255", "--class-weights", "balanced")
    one, other = small(tmp_path / "1", ignored=255), small(tmp_path / "2", ignored=-7, dtype="int64")
    first = one.train(monkeypatch, *words)
    second = other.train(monkeypatch, *words[2:], "--ignore-index", "-7")
    assert first.weights == second.weights
    assert first.metrics == second.metrics


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_masks_of_any_integer_type_train_to_the_bits_of_int64(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (small(tmp_path / each, dtype=each).train(monkeypatch) for each in ("int64", dtype))
    assert (one.weights, one.metrics) == (other.weights, other.metrics)


@pytest.mark.parametrize(("dtype", "label", "ignored"), [(torch.uint8, 156, None), (torch.int8, -1, 255)])
def test_a_label_is_not_ignored_because_its_type_is_small(dtype: torch.dtype, label: int, ignored: int | None) -> None:
    masks = torch.full((1, 2, 2), label, dtype=dtype)
    assert float(PixelCrossEntropy(None, label_smoothing=0, ignore_index=ignored).mass(masks)) == 4


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 5.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_torchs_loss_of_pictures(weight: torch.Tensor | None, smoothing: float) -> None:
    scores, masks = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    masks[:, 1] = 255
    ours = PixelCrossEntropy(weight, label_smoothing=smoothing, ignore_index=255)
    torchs = nn.CrossEntropyLoss(weight, label_smoothing=smoothing, ignore_index=255)
    torch.testing.assert_close(ours(scores, masks.byte()), torchs(scores, masks))
    assert float(ours(scores, torch.full_like(masks, 255))) == 0


def test_mean_iou_is_that_of_torchmetrics_over_the_classes_that_occur() -> None:
    predicted, masks = torch.randint(0, 3, (4, 8, 8)), torch.randint(0, 3, (4, 8, 8))
    masks[0] = 255
    ours, theirs = MeanIoU(5, ignore_index=255), MulticlassJaccardIndex(num_classes=5, ignore_index=255)
    for metric in (ours, theirs):
        metric.update(predicted[:2], masks[:2])
        metric.update(predicted[2:], masks[2:])
    assert float(ours.compute()) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_mean_iou_without_a_pixel_is_undefined() -> None:
    metrics = MetricCollection({"iou": MeanIoU(2, ignore_index=255)})
    metrics.update(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 255))
    found, undefined = computed(metrics)
    assert bool(found["iou"].isnan())
    assert undefined == {"iou": "there is no pixel to judge"}


def test_the_mean_loss_of_a_split_does_not_depend_on_its_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for size in ("8", "3"):
        trained = small(tmp_path / size, ignored=255)
        trained.y[24, :4] = 255  # a sample with fewer pixels that count
        words = ("--ignore-index", "255", "--learning-rate", "1e-30", "--batch-size", size)
        losses.append(trained.train(monkeypatch, *words).metrics["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words", "kind", "message", "hint"),
    [
        ({"ignored": 255}, (), DatasetError, "masks include the label 255", "--ignore-index 255"),
        ({}, ("--classes", "2"), SettingError, "the net gives scores for 2 classes", "set classes to 3"),
        (
            {"dtype": "float32"},
            (),
            DatasetError,
            r"masks are float32 \[2, 6, 5\]; a segmentation expects",
            "--target-field",
        ),
        (
            {"code": CODE.replace("padding=1", "padding=0")},
            (),
            ExperimentError,
            r"returns float32 \[2, 3, 4, 3\]; the masks are int64 \[2, 6, 5\]",
            "F.interpolate(scores, size=(6, 5)",
        ),
        (
            {"code": CODE.replace("self.layers(x)", "self.layers(x)[:, :2]")},
            (),
            ExperimentError,
            r"expected float \[2, 3, 6, 5\], a score for each class at each pixel",
            "forward",
        ),
        ({}, ("--ignore", "255"), SettingError, "ignore", "ignore_index"),
    ],
)
def test_mismatched_outputs_or_targets_are_rejected_with_a_hint(
    change: dict[str, Any],
    words: tuple[str, ...],
    kind: type[Exception],
    message: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = small(tmp_path, **change)
    trained.record = object()
    fault = trained.failed(monkeypatch, *words)
    with pytest.raises(kind, match=message):
        raise fault
    assert hint.replace("_", "-") in str(getattr(fault, "hint", "")).replace("_", "-")


def test_classes_have_colors_and_ignored_pixels_are_gray() -> None:
    found = colored(torch.tensor([[0, 1, -1]]))
    assert found.shape == (3, 1, 3)
    assert found[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.allclose(found[:, 0, 2], torch.full((3,), 128 / 255))
