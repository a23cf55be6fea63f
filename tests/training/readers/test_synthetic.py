"""Synthetic datasets: each reader reads its synthetic dataset, and the samples have the declared types and shapes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from trainer.base.document import typed
from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset, dataset_names, load_dataset
from trainer.data.splits import select
from trainer.training.readers import Pick, open_samples
from trainer.training.readers.synthetic import make_synthetic

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[3]
NOTHING = "sha256:" + "0" * 64
ROWS = {"train": [0, 900], "val": [900, 950], "test": [950, 1000]}
BELOW = {name: {"prefix": f"{name}/"} for name in ROWS}


def declare(reader: dict[str, Any], *, splits: dict[str, Any] | None = None, **options: Any) -> Dataset:
    content = {"version": 1, "manifest": NOTHING, "content": NOTHING, "files": 1, "bytes": 1}
    return typed(
        {"name": "made", "reader": reader, "splits": splits or ROWS, **content, **options}, Dataset, where="test"
    )


READERS: dict[str, tuple[Dataset, dict[str, str]]] = {
    "folders": (
        declare({"kind": "images", "classes": ["cat", "dog"], "size": [9, 7], "mode": "L"}),
        {"image": "float32[1,9,7]", "label": "int64[]"},
    ),
    "labels": (
        declare({"kind": "images", "labels": "all.csv"}, splits=BELOW),
        {"image": "float32[3,32,32]", "label": "int64[]"},
    ),
    "wide gray": (
        declare({"kind": "images", "white": 4095, "size": [9, 7], "mode": "L"}, splits=BELOW),
        {"image": "float32[1,9,7]", "label": "int64[]"},
    ),
    "wide colors, resized": (
        declare(
            {"kind": "images", "white": 0.1, "size": [9, 7], "resize": "fit", "mode": "RGBA", "frames": "first"},
            splits=BELOW,
        ),
        {"image": "float32[4,9,7]", "label": "int64[]"},
    ),
    "table": (
        declare(
            {
                "kind": "table",
                "files": ["a.parquet", "b.parquet"],
                "fields": {"x": {"column": ["p", "q"]}, "y": {"column": "y", "dtype": "int64"}},
            },
            twin={"y": {"dtype": "int64", "classes": 3}},
        ),
        {"x": "float32[2]", "y": "int64[]"},
    ),
    "windows": (declare({"kind": "text", "file": "a.txt", "window": 16}), {"text": "int64[16]", "next": "int64[16]"}),
    "files": (declare({"kind": "files"}), {"bytes": "uint8[64]", "length": "int64[]"}),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_its_synthetic_dataset(name: str) -> None:
    twin, files = make_synthetic(READERS[name][0], rows=40)
    samples = open_samples(twin, pickle.loads(pickle.dumps(files)))  # noqa: S301 - pickled here, as for a worker process
    sizes = {split: len(select(split, twin.splits, samples.layout, dataset="made")) for split in ROWS}
    assert sum(sizes.values()) <= 60
    assert min(sizes.values()) >= 5
    found = samples.batch([Pick(index=0), Pick(index=1)])
    expected = {
        field: f"{str(each.dtype).removeprefix('torch.')}[{','.join(map(str, each.shape[1:]))}]"
        for field, each in found.items()
    }
    assert expected == READERS[name][1]


@pytest.mark.parametrize("name", dataset_names(root=ROOT))
def test_every_committed_dataset_has_a_synthetic_dataset(name: str) -> None:
    declared = load_dataset(name, root=ROOT)
    (twin, files), (_, again) = make_synthetic(declared, rows=64), make_synthetic(declared, rows=64)
    assert [bytes(files.read(path)) for path in files.paths] == [bytes(again.read(path)) for path in again.paths]
    batch = open_samples(twin, files).batch([Pick(index=index) for index in range(32)])
    for field, message in declared.twin.items():
        assert message.admits(str(batch[field].dtype).removeprefix("torch."), tuple(batch[field].shape[1:]))
        low, high = message.range or (0, (message.classes or 1) - 1)
        assert low <= batch[field].min() < batch[field].max() <= high


def test_an_undeclared_field_cannot_be_synthesized() -> None:
    declared = declare({"kind": "arrays", "fields": {"image": "images.npy"}})
    with pytest.raises(DatasetError, match="does not declare its field 'image'") as caught:
        make_synthetic(declared, rows=8)
    assert "[twin.image]" in str(caught.value.hint)


def test_a_synthetic_dataset_can_be_written_to_a_folder() -> None:
    _, files = make_synthetic(READERS["windows"][0], rows=4)
    assert [path.read_bytes() for path in files.folder().iterdir()] == [bytes(files.read("a.txt"))]
