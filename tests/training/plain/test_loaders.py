"""The order of a module's own loaders depends only on seed and epoch, with any number of workers and from any first batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
)

from trainer.base.errors import ExperimentError
from trainer.training.determinism.seeds import Share
from trainer.training.plain.loaders import ControlledLoaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.torch


class Noisy(Dataset[torch.Tensor]):
    """A dataset that adds noise from the global generator to its samples."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return index + torch.rand(1) / 2


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(8))


class OwnSampler(RandomSampler):
    """A sampler that is not a class of torch."""


def controlled(
    loader: Any, *, share: Share | None = None, **start: int
) -> tuple[Any, ControlledLoaders, dict[str, str]]:
    """Return the loader that a controlled hook returns, the `ControlledLoaders`, and its reports."""
    share, reports = share or Share(), dict[str, str]()
    place = SimpleNamespace(global_rank=share.rank, world_size=share.world)
    owner = SimpleNamespace(train_dataloader=lambda: loader, trainer=place)
    control = ControlledLoaders(lambda name, reason: reports.update({name: reason}), seed=3, shards=share.shards)
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


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", LOADERS)
def test_the_shards_of_a_batch_do_not_depend_on_the_processes_that_read_them(kind: str, workers: int) -> None:
    """Noise from the global generator differs among shards, and a shard has the same noise in every process."""
    alone = list(controlled(LOADERS[kind](), share=Share(shards=4))[0])
    shared = [
        controlled(LOADERS[kind](num_workers=workers), share=Share(rank=rank, world=2, shards=4)) for rank in (0, 1)
    ]
    joined = [[*first, *second] for first, second in zip(*(each[0] for each in shared), strict=True)]
    assert [[shard.tolist() for shard in batch] for batch in alone] == [
        [shard.tolist() for shard in batch] for batch in joined
    ]
    assert len({float(shard) % 1 for batch in alone for shard in batch}) == 4 * len(alone)


def test_shards_have_the_samples_of_their_sampler_without_an_incomplete_last_batch() -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(Noisy(), batch_size=8)

    shards = controlled(loader(), share=Share(shards=2))[0]
    assert (len(shards), [[part.int().flatten().tolist() for part in batch] for batch in shards][1]) == (
        2,
        [[8, 10, 12, 14], [9, 11, 13, 15]],
    )


def test_shards_begin_at_any_batch() -> None:
    share = Share(shards=2)
    whole = [[part.tolist() for part in batch] for batch in controlled(LOADERS["shuffled"](), share=share)[0]]
    rest = controlled(LOADERS["shuffled"](), share=share, epoch=0, batch=3)[0]
    assert [[part.tolist() for part in batch] for batch in rest] == whole[3:]


class TwoSamples(BatchSampler):
    """A batch sampler that is not a class of torch."""


@pytest.mark.parametrize(
    ("loader", "why"),
    [
        (DataLoader(Stream(), batch_size=2), "Stream is an IterableDataset"),
        ([torch.ones(1)], "read by a Tensor, not by a DataLoader"),
        (DataLoader(Noisy(), batch_size=None), "has no batch_size"),
        (DataLoader(Noisy(), batch_size=5), "batches have 5 samples, which the shards cannot share equally"),
        (DataLoader(Noisy(), batch_size=40), "the training data have 20 samples, fewer than a batch of 40"),
        (
            DataLoader(Noisy(), batch_sampler=TwoSamples(RandomSampler(Noisy()), 2, drop_last=True)),
            "drawn by TwoSamples",
        ),
        ({"a": DataLoader(Noisy()), "b": DataLoader(Noisy())}, "2 loaders read the training data"),
        (
            DataLoader(Noisy(), batch_size=2, sampler=DistributedSampler(Noisy(), num_replicas=2, rank=0)),
            "a DistributedSampler, which divides the samples itself",
        ),
    ],
)
def test_loaders_whose_batches_have_no_shards_are_rejected_by_name(loader: Any, why: str) -> None:
    with pytest.raises(ExperimentError, match=f"a batch has 2 shards, but .*{why}"):
        controlled(loader, share=Share(shards=2))
