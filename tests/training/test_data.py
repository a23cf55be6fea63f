"""The data of a run: the order of samples is the same with any number of workers, forked or spawned."""

from __future__ import annotations

import multiprocessing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.data.streams import published
from trainer.base.digest import digest_of_bytes
from trainer.base.document import typed
from trainer.base.errors import DatasetError, DigestMismatchError, ExperimentFailedError, RepriseError
from trainer.data.declaration import Dataset, Draft
from trainer.data.files import FolderFiles
from trainer.settings.fields import LaunchSettings as RunSettings
from trainer.settings.ledger import Ledger, call_configured, configured, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.data import RunData
from trainer.training.readers import Batch, Pick, Sample, Samples, open_samples

if TYPE_CHECKING:
    from pathlib import Path

    from torch.utils.data import DataLoader

    from trainer.data.files import Files

pytestmark = pytest.mark.torch
ARRAYS = {"kind": "arrays", "fields": {"image": "x.npy"}}


def declare(**other: Any) -> Dataset:
    digest = digest_of_bytes(b"")
    usual: dict[str, Any] = {
        "name": "small",
        "version": 1,
        "manifest": digest,
        "content": digest,
        "files": 1,
        "bytes": 1,
    }
    return Dataset.model_validate(usual | {"reader": ARRAYS} | other)


class NoisySamples(Samples):
    """Ten samples with noise that depends on sample and epoch."""

    def __len__(self) -> int:
        return 10

    def sample(self, pick: Pick) -> Sample:
        return {"x": torch.tensor(pick.index), "noise": torch.rand(3, generator=pick.generator())}


SPLITS = {"train": [0, 8], "val": [8, 10]}


def two_epochs(workers: int, method: str | None = None) -> list[Batch]:
    """Return the samples of two training epochs and a validation."""
    data = RunData(declare(splits=SPLITS), NoisySamples(), batch_size=3, workers=workers, seed=5)
    loader = data.train_dataloader()
    if method is not None:
        loader.multiprocessing_context = method
    batches = []
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        batches += list(loader)
    return batches + list(data.val_dataloader())


@pytest.mark.parametrize(
    ("workers", "method"), [(0, None), (1, None), (2, None), pytest.param(2, "spawn", marks=pytest.mark.trains)]
)
def test_no_number_of_workers_changes_a_bit(workers: int, method: str | None) -> None:
    expected, found = two_epochs(0), two_epochs(workers, method)
    assert len(found) == len(expected) == 7
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(one[field], other[field]) for field in ("x", "noise"))
    noise_by_sample = {
        int(x): noise for batch in expected[:3] for x, noise in zip(batch["x"], batch["noise"], strict=True)
    }
    again = {int(x): noise for batch in expected[3:6] for x, noise in zip(batch["x"], batch["noise"], strict=True)}
    assert noise_by_sample.keys() == again.keys() == set(range(8))
    assert not any(torch.equal(noise_by_sample[number], again[number]) for number in noise_by_sample)


def test_a_dataset_without_splits_is_an_error_that_names_the_missing_split() -> None:
    data = RunData(declare(), NoisySamples(), batch_size=1, workers=0, seed=0)
    with pytest.raises(DatasetError, match="has no split 'train'; it has none"):
        data.train_dataloader()


@pytest.mark.parametrize("window", [None, 16])
def test_without_val_a_streamed_dataset_is_read_as_from_the_disk(tmp_path: Path, window: int | None) -> None:
    random = np.random.default_rng(0)
    draft = typed({"name": "small", "reader": {"kind": "files"}, "splits": {"train": [0, 40]}}, Draft, where="test")
    streams = published(tmp_path, {f"{row:03}.bin": random.bytes(100_000) for row in range(40)}, draft)
    sources: list[Files] = [streams.open(1_500_000), FolderFiles(tmp_path / "source")]
    streamed, on_disk = (
        RunData(
            streams.dataset, open_samples(streams.dataset, each), batch_size=8, workers=0, seed=1, shuffle_window=window
        )
        for each in sources
    )
    for one, other in zip(streamed.train_dataloader(), on_disk.train_dataloader(), strict=True):
        assert torch.equal(one["bytes"], other["bytes"])
    streamed.picked.samples.streamed[0].close()
    for data in (streamed, on_disk):
        with pytest.raises(DatasetError, match="split 'val'"):
            data.require_splits(("train", "val"))


def test_splits_by_file_and_by_part_train_too(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    splits = {"train": {"prefix": "train/"}, "val": {"files": ["val/a"]}, "test": {"percent": [0, 100]}}
    dataset = declare(reader={"kind": "files"}, splits=splits)
    data = RunData(dataset, open_samples(dataset, FolderFiles(tmp_path)), batch_size=2, workers=0, seed=0)
    loaders: list[DataLoader[Batch]] = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    assert [sum(len(batch["bytes"]) for batch in loader) for loader in loaders] == [2, 1, 3]


def test_a_sample_that_differs_from_its_declaration_is_rejected_at_load(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 2), dtype=np.float32))
    dataset = declare(sample={"image": {"dtype": "float32", "shape": [3]}})
    start = partial(RunData, dataset, open_samples(dataset, FolderFiles(tmp_path)), batch_size=1, workers=0, seed=0)
    with pytest.raises(DatasetError, match=r"'image' of a sample of small@1 is float32\[2\]; expected float32\[3\]"):
        start()


class BrokenSamples(NoisySamples):
    """The seventh sample cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.fault = error

    def sample(self, pick: Pick) -> Sample:
        if pick.index == 7:
            raise self.fault
        return super().sample(pick)


def error_of(data: RunData) -> RepriseError | None:
    """Return the error of iterating over the data. Its frames hold workers, which would exit 5 s late, so they are released."""
    try:
        list(data.train_dataloader())
    except RepriseError as error:
        return error.with_traceback(None)
    return None


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("fault", "kind", "line"),
    [
        (DigestMismatchError("x.npy is damaged", hint="type it again"), DigestMismatchError, "x.npy is damaged"),
        (KeyError("x"), ExperimentFailedError, "the experiment raised KeyError: 'x'"),
    ],
)
def test_an_error_in_a_worker_is_reported_like_one_in_the_main_process(
    workers: int, fault: Exception, kind: type[RepriseError], line: str
) -> None:
    data = RunData(declare(splits=SPLITS), BrokenSamples(fault), batch_size=3, workers=workers, seed=5)
    error = error_of(data)
    assert isinstance(error, kind)
    assert error.message.endswith(line)
    assert "\n" not in error.message
    assert error.hint is not None
    if kind is ExperimentFailedError:
        assert "in sample: raise self.fault" in error.hint


class ShiftSettings(RunSettings):
    """Settings with a setting that only the function of a reader takes."""

    seed: int = 0
    """A setting of the package."""
    shift: int = 0
    """A setting that only the reader uses."""


@configured
def shifted(value: int, *, shift: int) -> int:
    return value + shift


class ShiftedSamples(Samples):
    def __len__(self) -> int:
        return 10

    def sample(self, pick: Pick) -> Sample:
        return {"x": torch.tensor(call_configured(shifted, pick.index))}


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.trains)])
def test_a_setting_used_only_by_workers_is_injected_and_recorded_as_used(method: str) -> None:
    ledger = Ledger(resolve(ShiftSettings, Origins(options=parse_options(["--shift", "100"]), environ={})))
    with use_ledger(ledger):
        data = RunData(declare(splits=SPLITS), ShiftedSamples(), batch_size=2, workers=1, seed=5)
        loader = data.val_dataloader()
        loader.multiprocessing_context = method
        batches = iter(loader)
        assert next(batches)["x"].tolist() == [108, 109]
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()
        ledger.require_bound()
    assert [place.split(" ")[0] for place in ledger.entries()["shift"].bound] == ["shifted"]
    assert "shift" not in ledger.unread()
