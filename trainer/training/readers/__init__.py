"""Readers convert files to samples. `open_samples` selects the reader that the dataset declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import DatasetError
from trainer.data.reader import ArraysReader, ImagesReader, LinesReader, TableReader, TextReader, Weights
from trainer.training.readers.arrays import ArrayRows
from trainer.training.readers.byte_samples import TextLines, WholeFiles, Windows
from trainer.training.readers.images import PictureSamples
from trainer.training.readers.samples import Batch, Pick, Sample, Samples
from trainer.training.readers.tables import TableRows
from trainer.training.readers.token_samples import TokenLines, TokenWindows

if TYPE_CHECKING:
    from trainer.data.declaration import Described
    from trainer.data.files import Files


def open_samples(declared: Described, files: Files) -> Samples:
    """Open the samples of a dataset with its declared reader.

    Raise `DatasetError` if the files do not match the declaration, or if the dataset holds weights.
    """
    match declared.reader:
        case ArraysReader() as arrays:
            return ArrayRows(arrays, files, dataset=declared.name)
        case ImagesReader() as images:
            return PictureSamples(images, files, declared=declared)
        case TableReader() as table:
            return TableRows(table, files)
        case LinesReader() as lines:
            return TokenLines(files, lines.files, lines.tokens) if lines.tokens else TextLines(files, lines.files)
        case TextReader() as text:
            return TokenWindows(files, text, text.tokens) if text.tokens else Windows(files, text)
        case Weights():
            hint = f"to begin a run with the weights: --init-from {declared.name}"
            raise DatasetError(f"dataset {declared.name} holds weights, not samples", hint=hint)
        case _:
            return WholeFiles(files)


__all__ = ["Batch", "Pick", "Sample", "Samples", "open_samples"]
