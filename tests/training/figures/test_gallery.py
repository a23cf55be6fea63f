"""A run's figures are written at the end of its test, with the same bytes each time, and never make a run fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from trainer.base.document import read_json
from trainer.data.declaration import Dataset
from trainer.data.reader import ArraysReader
from trainer.runs.figure import FILE, BarFigure, Figure, Figures, LineFigure, PictureFigure, TextFigure
from trainer.settings.ledger import Ledger, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.figures.gallery import SAMPLES, Gallery
from trainer.training.readers import Pick, Sample, Samples
from trainer.training.tasks.classification import ClassificationSettings, Classifier
from trainer.training.tasks.regression import Regressor
from trainer.training.tasks.sequences import NOT_WANTED, SequenceModel
from trainer.training.tasks.verification import Verifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.training.tasks.task import Task

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")]
NOTHING = f"sha256:{'0' * 64}"
READER = ArraysReader(kind="arrays", fields={"image": "x.npy"})
DATASET = Dataset(
    name="dots", version=1, manifest=NOTHING, content=NOTHING, files=1, bytes=1, splits={"train": (0, 4)}, reader=READER
)


class Settings(ClassificationSettings):
    """The settings for three classes, and those that verification and sequences need."""

    dataset: str = "dots"
    classes: int = 3
    margin: float = 1.0
    vocabulary: int | None = None
    context: int = 8


class DotSamples(Samples):
    def __len__(self) -> int:
        return 4

    def sample(self, pick: Pick) -> Sample:
        return {"image": torch.full((1, 4, 4), pick.index / 4)}


class Net(Classifier):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3]


class Number(Regressor):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, 0]


class Pair(Verifier):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


class Text(SequenceModel):
    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*text.shape, 256)


class Broken(Net):
    def figures(self) -> list[Figure]:
        raise KeyError("no such thing")


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    with use_ledger(Ledger(resolve(Settings, Origins(options=parse_options([]), environ={})))):
        yield


def end_test(net: Task, folder: Path, expected: torch.Tensor) -> list[str]:
    """Record a batch, end the test, and return the printed messages."""
    lines: list[str] = []
    net.setup("test")
    given = torch.linspace(0, 1, len(expected) * 16).reshape(-1, 1, 4, 4)
    net.record_outputs(given, net(given), expected)
    gallery = Gallery(folder, lines.append, dataset=DATASET, samples=DotSamples())
    machine: Any = SimpleNamespace(is_global_zero=True)
    gallery.on_test_end(machine, net)
    return lines


def test_a_classification_shows_confusion_curves_and_its_worst_samples(tmp_path: Path) -> None:
    assert end_test(Net(), tmp_path, torch.tensor([0, 1, 2, 1])) == []
    figures = read_json(tmp_path / FILE, Figures).figures
    assert [figure.name for figure in figures] == ["confusion", "roc", "most-wrong", "samples"]
    assert all((tmp_path / figure.file).is_file() for figure in figures if isinstance(figure, PictureFigure))


def test_a_regression_shows_parity_and_residuals(tmp_path: Path) -> None:
    assert end_test(Number(), tmp_path, torch.tensor([0.0, 1.0, float("nan")])) == []
    assert [figure.name for figure in read_json(tmp_path / FILE, Figures).figures] == ["parity", "residuals", "samples"]


def test_a_verification_shows_its_curve_the_distances_and_its_worst_pairs(tmp_path: Path) -> None:
    assert end_test(Pair(), tmp_path, torch.tensor([1, 1, 0, 2, 3, 3])) == []
    figures = read_json(tmp_path / FILE, Figures).figures
    assert [figure.name for figure in figures] == ["roc", "distances", "most-wrong", "samples"]
    distances = figures[1]
    assert isinstance(distances, BarFigure)
    assert [sum(each.y) for each in distances.series] == [2, 1]


def test_a_sequence_model_shows_each_position_and_generated_text(tmp_path: Path) -> None:
    net = Text()
    net.setup("test")
    expected = torch.tensor([[65, 66, 10], [10, NOT_WANTED, NOT_WANTED]])
    net.record_outputs(expected, net(expected), expected)
    gallery = Gallery(tmp_path, print, dataset=DATASET, samples=DotSamples())
    machine: Any = SimpleNamespace(is_global_zero=True)
    gallery.on_test_end(machine, net)
    places, text, _ = read_json(tmp_path / FILE, Figures).figures
    assert isinstance(places, LineFigure)
    assert isinstance(text, TextFigure)
    assert list(places.series[0].x) == [0, 1, 2]
    assert list(places.series[0].y) == pytest.approx([8, 8, 8])
    assert len(text.text) > 100


def test_equal_tests_write_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        end_test(Net(), tmp_path / name, torch.tensor([0, 1, 2, 1]))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted([FILE, "most-wrong.png", SAMPLES])
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_figures_that_raise_are_omitted_and_reported(tmp_path: Path) -> None:
    (message,) = end_test(Broken(), tmp_path, torch.tensor([0, 1]))
    assert message.startswith("figures left out: test_gallery.py:")
    assert "raised KeyError: 'no such thing'" in message
    assert [figure.name for figure in read_json(tmp_path / FILE, Figures).figures] == ["samples"]


def test_a_diverged_net_still_has_figures(tmp_path: Path) -> None:
    net = Net()
    net.forward = lambda images: torch.full((len(images), 3), float("nan"))  # type: ignore[method-assign]
    assert end_test(net, tmp_path, torch.tensor([0, 1])) == []
