"""Pictures: a sample is one file, decoded by Pillow.

    image   float32 from 0 to 1, or uint8 from 0 to 255; [channels, height, width], 1, 3 or 4 channels as `mode` says
    label   int64 []; the number of its class

A picture is taken as it is stored: what its EXIF says about turning it is not heeded. Decoding and resizing give equal bits wherever the
release of Pillow is the same, which the run's lock says.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from trainer.data.pictures import sorted_out
from trainer.data.splits import Layout
from trainer.errors import DatasetError
from trainer.training.readers.samples import Pick, Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.files import Files
    from trainer.data.reader import Images


class Pictures(Samples):
    """Pictures and their classes, in the order of their paths."""

    def __init__(self, reader: Images, files: Files, *, dataset: str) -> None:
        """Find the pictures. Raises `DatasetError` where there are none, or one has no class."""
        table = None if reader.labels is None else bytes(files.read(reader.labels)).decode(errors="replace")
        self._reader, self._files = reader, files
        self.found = sorted_out(reader, files.paths, table, dataset=dataset)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.found.files)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, by number."""
        return self.found.classes

    def labels(self, rows: Sequence[int]) -> Sequence[int]:
        """As their folders say, or the table."""
        return [self.found.labels[row] for row in rows]

    @property
    def layout(self) -> Layout:
        """A file is a sample."""
        return Layout(count=len(self), files=self.found.files)

    def sample(self, pick: Pick) -> Sample:
        """Decode one."""
        path = self.found.files[pick.index]
        return {
            "image": picture(self._files.read(path), self._reader, where=path),
            "label": torch.tensor(self.found.labels[pick.index]),
        }


def picture(body: memoryview | bytes, reader: Images, *, where: str) -> torch.Tensor:
    """Decode a picture as the reader says: `[channels, height, width]`. Raises `DatasetError`, naming the file as `where`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(body)) as image:
                shown = _fitted(image.convert(reader.mode), reader, where=where)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        ValueError,
    ) as fault:
        hint = "replace it, and publish a new version"
        raise DatasetError(f"{where} is no picture that can be decoded: {_line(fault)}", hint=hint) from fault
    pixels: np.ndarray[Any, Any] = np.array(shown)
    channels = torch.from_numpy(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # noqa: PLR2004 - no channel axis
    return channels if reader.dtype == "uint8" else channels.to(torch.float32).div_(255)


def _fitted(image: Image.Image, reader: Images, *, where: str) -> Image.Image:
    if reader.size is None or (image.height, image.width) == reader.size:
        return image
    height, width = reader.size
    if not reader.resize:
        sentence = f"{where} has {image.height}x{image.width} pixels; declared are {height}x{width}"
        raise DatasetError(sentence, hint="declare resize = true, or replace the picture")
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _line(fault: Exception) -> str:
    return "its bytes are of no known format" if isinstance(fault, UnidentifiedImageError) else str(fault)
