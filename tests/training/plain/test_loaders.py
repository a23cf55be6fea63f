"""The order of a module's own loaders is a function of seed and epoch, with any workers, from any batch on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, WeightedRandomSampler

from trainer.training.plain.loaders import ControlledLoaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.torch


class Noisy(Dataset[torch.Tensor]):
    """Adds noise of the global generator to samples."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return index + torch.rand(1) / 2


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(8))


class OwnSampler(RandomSampler):
    """A sampler that torch does not know."""


def controlled(loader: Any, **start: int) -> tuple[Any, ControlledLoaders, dict[str, str]]:
    """Return what the hook of a module returns under control, the control and its reports."""
    owner, reports = SimpleNamespace(train_dataloader=lambda: loader), dict[str, str]()
    control = ControlledLoaders(lambda name, reason: reports.update({name: reason}), seed=3)
    if start:
        control.start_at(**start)
    control.control(owner, ["train_dataloader"])
    return owner.train_dataloader(), control, reports


def batches(loader: DataLoader[Any], epoch: int = 0) -> list[list[float]]:
    loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return [batch.flatten().tolist() for batch in loader]


LOADERS: dict[str, Callable[..., DataLoader[Any]]] = {
    "shuffled": lambda **more: DataLoader(Noisy(), batch_size=4, shuffle=True, **more),
    "weighted": lambda **more: DataLoader(
        Noisy(), batch_size=4, sampler=WeightedRandomSampler(torch.ones(20).tolist(), 12), **more
    ),
    "own generator": lambda **more: DataLoader(
        Noisy(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(5), **more
    ),
    "own batches": lambda **more: DataLoader(
        Noisy(), batch_sampler=BatchSampler(RandomSampler(Noisy()), 4, drop_last=True), **more
    ),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_an_epoch_is_equal_whenever_it_is_read(kind: str) -> None:
    """This also holds after other epochs, with another state of the generators, and with worker processes."""
    first = controlled(LOADERS[kind]())[0]
    third = [batches(first, epoch) for epoch in range(4)][3]
    torch.manual_seed(99)
    assert batches(controlled(LOADERS[kind]())[0], 3) == third
    assert batches(controlled(LOADERS[kind](num_workers=2))[0], 3) == third
    assert batches(first, 2) != third


@pytest.mark.parametrize("kind", LOADERS)
def test_an_epoch_can_begin_at_any_batch(kind: str) -> None:
    whole = batches(controlled(LOADERS[kind]())[0], 1)
    loader, control, reports = controlled(LOADERS[kind](), epoch=1, batch=2)
    assert [batch.flatten().tolist() for batch in loader] == whole[2:]
    assert control.resumes_within_epoch
    assert reports == {}


def test_without_automatic_batching_samples_are_controlled() -> None:
    def read() -> list[float]:
        return [float(each) for each in controlled(DataLoader(Noisy(), batch_size=None, shuffle=True))[0]]

    assert read() == read()
    assert sorted(int(each) for each in read()) == list(range(20))


def test_every_sample_is_read_once_as_their_sampler_says() -> None:
    values = [value for batch in batches(controlled(LOADERS["shuffled"]())[0]) for value in batch]
    assert sorted(int(value) for value in values) == list(range(20))


def test_attributes_of_their_dataset_and_sampler_stay() -> None:
    loader = controlled(DataLoader(Noisy(), batch_size=4, drop_last=True))[0]
    assert (len(loader.dataset), len(loader), loader.batch_sampler.drop_last) == (20, 5, True)


@pytest.mark.parametrize(
    ("loader", "reason"),
    [(DataLoader(Stream(), batch_size=2), "Stream is an IterableDataset"), ([torch.ones(1)], "read by a Tensor")],
)
def test_an_order_that_cannot_be_controlled_is_reported(loader: Any, reason: str) -> None:
    _, control, reports = controlled(loader)
    assert reason in reports["order"]
    assert not control.resumes_within_epoch


def test_several_training_loaders_resume_from_the_start_of_an_epoch() -> None:
    _, control, reports = controlled({"a": DataLoader(Noisy()), "b": DataLoader(Noisy())})
    assert "2 loaders" in reports["resume"]
    assert not control.resumes_within_epoch


def test_a_sampler_with_a_state_of_its_own_is_reported() -> None:
    _, control, reports = controlled(DataLoader(Noisy(), batch_size=2, sampler=OwnSampler(Noisy())))
    assert "OwnSampler, which may have its own state" in reports["resume"]
    assert control.resumes_within_epoch
