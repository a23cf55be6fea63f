"""Whole files: a sample is one file's bytes.

bytes   uint8 [size]; in a batch [batch, longest], padded with zeros
length  int64 []
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.splits import Layout
from trainer.training.readers.samples import Batch, Pick, Sample, Samples, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.files import Files


class WholeFiles(Samples):
    """Unparsed files, in the order of their paths."""

    def __init__(self, files: Files, paths: Sequence[str]) -> None:
        """Read the files at `paths`."""
        self._files, self._paths = files, paths

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    @property
    def holds_values(self) -> bool:
        """Return False: bytes have no values to inspect."""
        return False

    @property
    def layout(self) -> Layout:
        """Return the layout: each file is one sample."""
        return Layout(count=len(self), files=self._paths)

    def sample(self, pick: Pick) -> Sample:
        """Read one file."""
        return {field: values[0] for field, values in self.batch([pick]).items()}

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read several files."""
        whole, lengths = padded([self._files.read(self._paths[pick.index]) for pick in picks])
        return {"bytes": whole, "length": lengths}
