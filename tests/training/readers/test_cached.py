"""Readers over the cache read from packs, verify in every process, and return the samples of the published folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.streams import published
from tests.training.readers.test_readers import KINDS, folder
from trainer.base.document import typed
from trainer.base.errors import DigestMismatchError
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import FolderFiles, SourceFolder
from trainer.data.publish import publish_dataset
from trainer.stores.memory import MemoryStore
from trainer.training.data import RunData
from trainer.training.readers import Batch, Pick, open_samples

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.version import CachedDataset
    from trainer.data.declaration import Dataset

pytestmark = pytest.mark.torch
__all__ = ["folder"]


def publish_and_fetch(
    source: Path, cache: Path, reader: dict[str, Any], store: MemoryStore
) -> tuple[Dataset, CachedDataset]:
    splits = {"train": {"percent": [0, 100]}}
    draft = typed({"name": "small", "reader": reader, "splits": splits}, Draft, where="test")
    dataset = publish_dataset(draft, source=SourceFolder(root=source), store=store).dataset
    return dataset, fetch_dataset(dataset, cache=Cache(root=cache), open_store=lambda: store)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_from_packs_equal_those_of_the_folder(folder: Path, tmp_path: Path, kind: str) -> None:
    dataset, cached = publish_and_fetch(folder, tmp_path, KINDS[kind], MemoryStore())
    packed, plain = open_samples(dataset, cached), open_samples(dataset, FolderFiles(folder))
    picks = [Pick(index=index) for index in range(len(plain))]
    one, other = packed.batch(picks), plain.batch(picks)
    assert len(packed) == len(plain)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[field], other[field]) for field in one)


@pytest.mark.parametrize(
    ("workers", "method"), [(1, "fork"), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.trains)]
)
def test_workers_read_the_same_samples_from_the_cache(
    folder: Path,
    tmp_path: Path,
    workers: int,
    method: str,
) -> None:
    dataset, cached = publish_and_fetch(folder, tmp_path, KINDS["images"], MemoryStore())

    def batches_of(number: int) -> list[Batch]:
        data = RunData(dataset, open_samples(dataset, cached), batch_size=2, seed=1, workers=number)
        loader = data.train_dataloader()
        loader.multiprocessing_context = method if number else None
        return list(loader)

    for one, other in zip(batches_of(0), batches_of(workers), strict=True):
        assert all(torch.equal(one[field], other[field]) for field in one)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_changed_byte_in_the_cache_is_detected_before_use(
    folder: Path,
    tmp_path: Path,
    workers: int,
) -> None:
    store = MemoryStore()
    dataset, _ = publish_and_fetch(folder, tmp_path, KINDS["arrays"], store)
    for path in (path for path in (tmp_path / "objects").rglob("*") if path.is_file()):
        path.chmod(0o644)
        body = bytearray(path.read_bytes())
        body[body.index(b"\x93NUMPY") + 200] ^= 1
        path.write_bytes(body)
    cached = Cache(root=tmp_path).find(dataset)
    assert cached is not None
    with pytest.raises(DigestMismatchError, match=r"small@1 is damaged in the cache: \w\.npy"):
        list(RunData(dataset, open_samples(dataset, cached), batch_size=2, seed=1, workers=workers).train_dataloader())
    again = fetch_dataset(dataset, cache=Cache(root=tmp_path), open_store=lambda: store)
    data = RunData(dataset, open_samples(dataset, again), batch_size=2, seed=1, workers=workers)
    assert sum(len(batch["x"]) for batch in data.train_dataloader()) == 9


@pytest.mark.parametrize("kind", ["arrays", "table", "lines", "text"])
def test_streamed_samples_are_those_of_the_files_on_disk(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data/x.npy", random.random((3000, 200)))
    pq.write_table(pa.table({"x": random.random(400_000)}), tmp_path / "data/x.parquet", row_group_size=50_000)
    (tmp_path / "data/x.txt").write_bytes(
        random.integers(32, 127, 1_000_000, dtype=np.uint8).tobytes().replace(b"!", b"\n")
    )
    reader = {
        "arrays": {"kind": "arrays", "fields": {"x": "x.npy"}},
        "table": {"kind": "table", "files": ["x.parquet"], "fields": {"x": {"column": "x", "dtype": "float64"}}},
        "lines": {"kind": "lines", "file": "x.txt"},
        "text": {"kind": "text", "file": "x.txt", "window": 1000},
    }[kind]
    draft = typed({"name": "many", "reader": reader}, Draft, where="test")
    source = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    streams = published(tmp_path / "stream", source, draft)
    on_disk = open_samples(draft, FolderFiles(tmp_path / "data"))
    streamed = open_samples(draft, streams.open(6 << 20))
    rows = [int(row) for row in random.integers(0, len(on_disk), 20)]
    expected, found = (each.batch([Pick(index=row) for row in rows]) for each in (on_disk, streamed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    blocks = [[block.fields for block in each.blocks(np.arange(0, len(on_disk), 3))] for each in (on_disk, streamed)]
    assert [len(block) for block in blocks[0]] == [len(block) for block in blocks[1]]
    for one, other in zip(*blocks, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
