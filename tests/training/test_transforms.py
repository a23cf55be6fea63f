"""The transform of training samples: bit-identical with any number of workers, different in each epoch, and of the same structure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.small_training import CLASSIFIER, REGRESSOR, VERIFIER, Small
from tests.training.test_data import SPLITS, declare
from trainer.base.errors import DatasetError, ExperimentError, RepriseError
from trainer.data.files import FolderFiles
from trainer.training.data import RunData
from trainer.training.readers import Batch, Pick, Sample, Samples, open_samples
from trainer.training.tasks.classification import Classifier
from trainer.training.transforms import transform_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.torch


class Squares(Samples):
    """Ten pictures of 1x4x4."""

    def __len__(self) -> int:
        return 10

    def sample(self, pick: Pick) -> Sample:
        return {"image": torch.full((1, 4, 4), float(pick.index)), "label": torch.tensor(pick.index % 2)}


class RandomShift(nn.Module):
    """Shifts a picture, by torch's global generator, as the random transforms of torchvision v2 do."""

    def forward(self, image: Tensor) -> Tensor:
        shift = int(torch.randint(0, 4, ()))
        return image.roll(shift, dims=-1) + torch.empty(1).uniform_(0, 0.1).item()


class Net(Classifier):
    """Draws from every generator that an experiment may use."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = RandomShift()

    def transform(self, sample: Sample, generator: torch.Generator) -> Sample:
        image = self.shift(sample["image"]) + random.random() + np.random.rand()  # noqa: NPY002, S311 - the global generators
        return sample | {"image": (image + torch.rand(image.shape, generator=generator)).float()}


def data_of(net: Classifier, samples: Samples | None = None, *, workers: int = 0, seed: int = 5) -> RunData:
    used = samples or Squares()
    return RunData(declare(splits=SPLITS), used, transform_of(net), batch_size=3, workers=workers, seed=seed)


def epochs(data: RunData, *numbers: int) -> list[Batch]:
    loader = data.train_dataloader()
    found: list[Batch] = []
    for number in numbers:
        loader.batch_sampler.set_epoch(number)  # type: ignore[union-attr]
        found += list(loader)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_no_number_of_workers_changes_a_bit_of_a_transformed_sample(workers: int) -> None:
    expected, found = epochs(data_of(Net()), 0, 1), epochs(data_of(Net(), workers=workers), 0, 1)
    assert len(found) == len(expected) == 6
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


def test_a_sample_differs_between_epochs_seeds_and_samples_and_not_between_batches_and_processes() -> None:
    data = data_of(Net())
    first = data.trained.read([(0, 3), (0, 4)])["image"]
    assert torch.equal(first[0], data.trained.read([(1, 7), (0, 3)])["image"][1])
    noise = first - torch.tensor([3.0, 4.0])[:, None, None, None]
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(first[0], data.trained.read([(1, 3)])["image"][0])
    assert not torch.equal(first[0], data_of(Net(), seed=6).trained.read([(0, 3)])["image"][0])


def test_two_draws_of_one_sample_are_independent() -> None:
    class Twice(Net):
        def transform(self, sample: Sample, generator: torch.Generator) -> Sample:
            return sample | {"image": torch.rand(1, 4, 4, generator=generator) - torch.rand(1, 4, 4)}

    assert data_of(Twice()).trained.read([(0, 3)])["image"].abs().max() > 0.1


def test_a_transform_leaves_the_global_generators_as_they_were() -> None:
    data = data_of(Net())

    def draw() -> list[float]:
        return [float(torch.rand(())), random.random(), np.random.rand()]  # noqa: NPY002, S311 - the global generators

    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002 - the global generator
    expected = draw()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002 - the global generator
    epochs(data, 0)
    assert draw() == expected


def test_only_the_training_split_is_transformed() -> None:
    data = data_of(Net())
    assert torch.equal(data.example()["image"], Squares().batch([Pick(index=0), Pick(index=1)])["image"])
    (batch,) = data.val_dataloader()
    assert torch.equal(batch["image"].amax(dim=(1, 2, 3)), torch.tensor([8.0, 9.0]))
    assert data_of(type("Plain", (Classifier,), {})()).train_dataloader().dataset.transform is None  # type: ignore[attr-defined]


def test_a_transform_may_change_its_sample_in_place_whatever_the_reader_keeps() -> None:
    class Kept(Squares):
        rows = torch.zeros(10, 1, 4, 4)

        def batch(self, picks: Any) -> Batch:
            first = picks[0].index
            return {"image": self.rows[first : first + len(picks)], "label": torch.zeros(len(picks), dtype=torch.int64)}

    def add_one(sample: Sample) -> Sample:
        sample["image"] += 1
        return sample

    batches = epochs(data_of(returning(add_one), Kept()), 0, 1)
    assert all(bool((batch["image"] == 1).all()) for batch in batches)


def returning(change: Callable[[Sample], Any]) -> Classifier:
    net: Classifier = type("Net", (Classifier,), {"transform": lambda _, sample, __: change(sample)})()
    return net


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, "Net.transform returns None; expected a dict of tensors by field, image, label"),
        (lambda sample: sample["image"], "Net.transform returns a Tensor; expected a dict of tensors by field"),
        (lambda sample: {"image": sample["image"]}, "returns no field 'label'; the sample has image, label"),
        (lambda sample: sample | {"images": sample["image"]}, "returns the field 'images', which the sample does not"),
        (
            lambda sample: sample | {"image": sample["image"].numpy()},
            "returns 'image' as ndarray; the sample has float",
        ),
        (
            lambda sample: sample | {"image": sample["image"].double()},
            r"as float64 \[1, 4, 4\]; the sample has float32",
        ),
        (
            lambda sample: sample | {"image": sample["image"][0]},
            r"as float32 \[4, 4\]; the sample has float32 \[1, 4, 4",
        ),
        (
            lambda sample: sample | {"image": sample["image"][:, : 1 + int(sample["label"])]},
            r"Net.transform: samples of one batch differ in 'image': \[1, 1, 4\] and \[1, 2, 4\]",
        ),
    ],
)
def test_another_structure_is_one_sentence_and_a_hint(change: Callable[[Sample], Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as caught:
        data_of(returning(change)).trained_example()
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_transform_that_uses_a_weight_is_rejected() -> None:
    class Weighing(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def transform(self, sample: Sample, generator: torch.Generator) -> Sample:
            del generator
            return sample | {"image": self.scale.reshape(-1, 1, 1)}

    with pytest.raises(ExperimentError, match="uses a parameter of the net for 'image'"):
        data_of(Weighing()).trained_example()


def test_a_transform_with_other_parameters_is_rejected_at_once() -> None:
    net = type("Net", (Classifier,), {"transform": lambda _, sample: sample})()
    with pytest.raises(ExperimentError, match=r"takes \(_, sample\); expected \(self, sample, generator\)"):
        transform_of(net)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_transform_names_its_line(workers: int) -> None:
    class Failing(Net):
        def transform(self, sample: Sample, generator: torch.Generator) -> Sample:
            del generator
            return sample["mask"]  # type: ignore[return-value] # it raises

    found: RepriseError | None = None
    try:
        list(data_of(Failing(), workers=workers).train_dataloader())
    except RepriseError as fault:
        found = fault.with_traceback(None)
    assert found is not None
    assert "test_transforms.py:" in found.message
    assert found.message.endswith("the experiment raised KeyError: 'mask'")


def test_lines_are_padded_after_the_transform(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abcdef\nab\nabc\n")
    dataset = declare(reader={"kind": "lines", "file": "a.txt"}, splits={"train": [0, 3]})
    samples = open_samples(dataset, FolderFiles(tmp_path))

    def cut(sample: Sample) -> Sample:
        assert len(sample["text"]) == int(sample["length"])
        return {"text": sample["text"][1:], "length": sample["length"] - 1}

    data = RunData(dataset, samples, transform_of(returning(cut)), batch_size=3, workers=0, seed=0)
    batch = data.trained.read([(0, 0), (0, 1), (0, 2)])
    assert [bytes(row) for row in batch["text"].numpy()] == [b"bcdef", b"b\0\0\0\0", b"bc\0\0\0"]
    assert batch["length"].tolist() == [5, 1, 2]
    wrong = RunData(dataset, samples, transform_of(returning(lambda each: each | {"text": each["text"][1:]})), **SMALL)
    with pytest.raises(ExperimentError, match="a sample has 5 bytes in 'text', but its length is 6") as caught:
        wrong.trained.read([(0, 0)])
    assert isinstance(caught.value.__cause__, DatasetError)


SMALL: dict[str, Any] = {"batch_size": 3, "workers": 0, "seed": 0}
NOISE = """
    def transform(self, sample, generator):
        return sample | {"x": sample["x"] + torch.rand(4, generator=generator) + torch.rand(4)}
"""


@pytest.mark.parametrize("task", [CLASSIFIER, REGRESSOR, VERIFIER])
def test_trainings_with_a_transform_have_equal_bits_with_any_number_of_workers(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = np.arange(40, dtype=np.float32 if task is REGRESSOR else np.int64) % 2
    digests = []
    for number, (code, workers) in enumerate([(task + NOISE, "0"), (task + NOISE, "2"), (task, "0")]):
        (place := tmp_path / str(number)).mkdir()
        digests.append(Small(place=place, code=code, y=y).train(monkeypatch, "--workers", workers).weights)
    assert digests[0] == digests[1] != digests[2]


def test_a_wrong_structure_is_rejected_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CLASSIFIER + NOISE.replace("torch.rand(4)}", 'torch.rand(4)} if sample["y"] < 2 else {}')
    small = Small(place=tmp_path, code=code.replace('sample | {"x"', '{"x"'))
    fault = small.failed(monkeypatch)
    assert isinstance(fault, ExperimentError)
    assert fault.message == "Net.transform returns no field 'y'; the sample has x, y"
    assert not (tmp_path / "attempt/trace.jsonl").exists()


def test_a_transform_may_crop_the_training_samples_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CLASSIFIER.replace("self.layers(x)", "self.layers(x.mean(dim=1, keepdim=True).expand(-1, 4))")
    cut = '\n    def transform(self, sample, generator):\n        return sample | {"x": sample["x"][:3]}\n'
    assert Small(place=tmp_path, code=code + cut).train(monkeypatch).steps == 3
