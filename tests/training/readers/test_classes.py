"""Classes of pictures: a class has the same number in every split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from trainer.base.document import typed
from trainer.data.declaration import Draft
from trainer.data.files import FolderFiles, SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.splits import select
from trainer.stores.memory import MemoryStore
from trainer.training.readers import open_samples

if TYPE_CHECKING:
    from pathlib import Path

PLACES = [f"{split}/{name}" for split in ("train", "val", "test") for name in ("9", "10", "11")]
DRAFT = typed(
    {
        "name": "small",
        "reader": {"kind": "images"},
        "splits": {name: {"prefix": f"{name}/"} for name in ("train", "val", "test")},
    },
    Draft,
    where="test",
)


def write_pictures(root: Path) -> Path:
    """Write two pictures per class and split, and files that notebooks and macOS leave behind."""
    for place in PLACES:
        (root / place).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (2, 2)).save(root / place / f"{number}.png")
        (root / place / "._0.png").write_bytes(b"\0\5\x16\7")
    (root / "train/.ipynb_checkpoints").mkdir()
    Image.new("RGB", (2, 2)).save(root / "train/.ipynb_checkpoints/0.png")
    return root


def test_a_class_has_one_number_in_every_split_published_or_not(tmp_path: Path) -> None:
    root = write_pictures(tmp_path)
    published = publish_dataset(DRAFT, source=SourceFolder(root=root), store=MemoryStore()).dataset
    for declared in (DRAFT, published):
        samples = open_samples(declared, FolderFiles(root))
        assert (samples.classes, len(samples)) == (("9", "10", "11"), 18)
        for split in ("train", "val", "test"):
            rows = select(split, declared.splits, samples.layout, dataset="small")
            assert sorted(int(samples[row]["label"]) for row in rows) == [0, 0, 1, 1, 2, 2]
