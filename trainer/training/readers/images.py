"""Pictures: a sample is one file, decoded by Pillow.

    image   float32 from 0 to 1, or uint8 from 0 to 255; [channels, height, width], 1, 3 or 4 channels, depending on `mode`
    label   int64 []; the class number

docs/how-to/datasets.md describes the conversion of each pixel mode. Decoding and resizing are bit-identical with the same release of
Pillow, which the lock of the run pins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.data.pictures import find_pictures
from trainer.data.splits import Layout
from trainer.training.readers.pixels import decode_pixels
from trainer.training.readers.samples import Batch, FileSamples, Pick, Sample, stacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.declaration import Described
    from trainer.data.files import Files
    from trainer.data.reader import Images


class Pictures(FileSamples):
    """Pictures and their classes, in the order of their paths."""

    def __init__(self, reader: Images, files: Files, *, declared: Described) -> None:
        """Find the pictures. Raise `DatasetError` if there are no pictures, or if a picture has no class."""
        table = None if reader.labels is None else bytes(files.read(reader.labels))
        self._reader = reader
        self._pictures = find_pictures(reader, files.paths, table, declared=declared)
        super().__init__(files, Layout(count=len(self._pictures.files), files=self._pictures.files))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, by number."""
        return self._pictures.classes

    def labels(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the class numbers from the folders or the table of labels."""
        return [self._pictures.labels[row] for row in rows]

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Decode several pictures."""
        return stacked([self.sample(pick) for pick in picks])

    def sample(self, pick: Pick) -> Sample:
        """Decode one picture."""
        path = self._layout.files[pick.index]
        pixels = decode_pixels(self._files.read(path), self._reader, where=path)
        return {"image": torch.from_numpy(pixels), "label": torch.tensor(self._pictures.labels[pick.index])}
