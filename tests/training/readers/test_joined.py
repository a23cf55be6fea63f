"""Several datasets of one run, by role: their samples form one sequence, and those of the first dataset keep their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch

from tests.data.streams import published
from trainer.base.document import typed
from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset, Draft
from trainer.data.files import FolderFiles
from trainer.data.reader import ArraysReader
from trainer.data.splits import select
from trainer.training.data import RunData
from trainer.training.readers import Pick, open_samples
from trainer.training.readers.inspect import inspect_samples
from trainer.training.readers.joined import RolePart, join
from trainer.training.readers.samples import chunk_ids, fetch_ahead

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.files import Files

pytestmark = pytest.mark.torch
NOTHING = "sha256:" + "0" * 64


def part(place: Path, name: str, splits: dict[str, tuple[int, int]], *, first: float = 0.0, **fields: Any) -> RolePart:
    folder = place / name
    folder.mkdir()
    values = {"x": np.arange(10, dtype=np.float32) + first, "y": np.zeros(10, dtype=np.int64)} | fields
    for field, value in values.items():
        np.save(folder / f"{field}.npy", value)
    declared = Dataset(
        name=name,
        reader=ArraysReader(kind="arrays", fields={field: f"{field}.npy" for field in values}),
        splits=splits,
        version=1,
        manifest=NOTHING,
        content=NOTHING,
        files=len(values),
        bytes=0,
    )
    samples = open_samples(declared, FolderFiles(folder))
    return RolePart(declared=declared, samples=samples, splits=tuple(splits))


def test_each_split_comes_from_its_dataset(tmp_path: Path) -> None:
    declared, samples = join(
        [part(tmp_path, "a", {"train": (0, 6), "val": (6, 10)}), part(tmp_path, "b", {"test": (2, 5)}, first=100)]
    )
    rows = {name: select(name, declared.splits, samples.layout, dataset=declared.name) for name in declared.splits}
    assert {name: [*each] for name, each in rows.items()} == {
        "train": [*range(6)],
        "val": [*range(6, 10)],
        "test": [12, 13, 14],
    }
    picks = [Pick(index=row) for row in rows["test"]]
    assert samples.batch(picks)["x"].tolist() == [102, 103, 104]
    assert samples.batch([Pick(index=1), Pick(index=12)])["x"].tolist() == [1, 102]
    assert all(type(row) is int for row in rows["test"]), "the seeds of samples are derived from these numbers"
    assert declared.title == "a@1 (train, val) and b@1 (test)"
    assert samples.layout.name_of(12) == "row 2 of b@1"


def test_every_split_is_inspected_with_the_names_of_its_dataset(tmp_path: Path) -> None:
    holed = np.arange(10, dtype=np.float32)
    holed[4] = np.nan
    _, samples = join([part(tmp_path, "a", {"train": (0, 10)}), part(tmp_path, "b", {"test": (0, 10)}, x=holed)])
    seen = inspect_samples(samples, {"train": range(10), "test": range(10, 20)})
    nan = seen.splits["test"].fields["x"].nan
    assert nan is not None
    assert (nan.row, nan.name) == (14, "row 4 of b@1")
    assert seen.splits["train"].fields["x"].nan is None


def test_one_dataset_is_read_as_before(tmp_path: Path) -> None:
    only = part(tmp_path, "a", {"train": (0, 10)})
    assert join([only]) == (only.declared, only.samples)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"z": np.zeros(10, dtype=np.float32)}, "have different fields: x, y; x, y, z"),
        ({"x": np.zeros((10, 2), dtype=np.float32)}, "differ in 'x': float32[] and float32[2]"),
        ({"y": np.zeros(10, dtype=np.int32)}, "differ in 'y': int64[] and int32[]"),
    ],
)
def test_other_samples_are_rejected_with_both_names(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    parts = [part(tmp_path, "a", {"train": (0, 5)}), part(tmp_path, "b", {"test": (0, 5)}, **fields)]
    with pytest.raises(DatasetError) as caught:
        join(parts)
    assert caught.value.message == f"datasets a@1 (train) and b@1 (test) {said}"


def test_a_dataset_without_the_split_of_its_role_is_rejected(tmp_path: Path) -> None:
    other = part(tmp_path, "b", {"train": (0, 5)})
    parts = [
        part(tmp_path, "a", {"train": (0, 5)}),
        RolePart(declared=other.declared, samples=other.samples, splits=("test",)),
    ]
    with pytest.raises(DatasetError, match="dataset b has no split 'test'"):
        join(parts)


def test_a_worker_process_can_receive_joined_samples(tmp_path: Path) -> None:
    import pickle

    _, samples = join([part(tmp_path, "a", {"train": (0, 5)}), part(tmp_path, "b", {"test": (0, 5)}, first=100)])
    sent = pickle.loads(pickle.dumps(samples))  # noqa: S301 - pickled in the same line
    assert torch.equal(sent.batch([Pick(index=12)])["x"], samples.batch([Pick(index=12)])["x"])


def streamed_part(place: Path, name: str, splits: dict[str, tuple[int, int]]) -> tuple[RolePart, RolePart]:
    """Publish a dataset of files; return it twice, streamed and read from the disk."""
    random = np.random.default_rng(len(name))
    files = {f"{number:03}.bin": random.bytes(100_000) for number in range(40)}
    draft = typed({"name": name, "reader": {"kind": "files"}, "splits": splits}, Draft, where="test")
    streams = published(place / name, files, draft)
    sources: list[Files] = [streams.open(1_500_000), FolderFiles(place / name / "source")]
    one, two = (
        RolePart(
            declared=streams.dataset, samples=open_samples(streams.dataset, each), splits=tuple(streams.dataset.splits)
        )
        for each in sources
    )
    return one, two


def test_streamed_datasets_are_joined_and_each_is_fetched_ahead(tmp_path: Path) -> None:
    pairs = [
        streamed_part(tmp_path, "a", {"train": (0, 30), "val": (30, 40)}),
        streamed_part(tmp_path, "bb", {"test": (0, 40)}),
    ]
    streamed, on_disk = (
        RunData(*join(parts), None, batch_size=8, seed=1, workers=0) for parts in zip(*pairs, strict=True)
    )
    first, second = streamed.picked.samples.streamed
    names = ("train_dataloader", "val_dataloader", "test_dataloader")
    for name in names:
        loaders = [getattr(data, name)() for data in (streamed, on_disk)]
        for one, other in zip(*loaders, strict=True):
            assert torch.equal(one["bytes"], other["bytes"])
    samples = streamed.picked.samples
    passes = fetch_ahead(samples, [chunk_ids(samples, [Pick(index=index)]) for index in (0, 45)])
    for each, path, files in zip(passes, ("000.bin", "005.bin"), (first, second), strict=True):
        each.wait(1)
        (identifier,) = files.chunk_ids(path, 0, 100_000)
        assert files.folder_of_chunks.has(files.chunks.group(identifier))
        files.close()
