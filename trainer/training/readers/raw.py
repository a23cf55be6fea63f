"""Whole files: a sample is one file's bytes.

bytes   uint8 [size]; in a batch [batch, longest], zeros behind each
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
    """Files as they are, in the order of their paths."""

    def __init__(self, files: Files, paths: Sequence[str]) -> None:
        """Take these files."""
        self._files, self._paths = files, paths

    def __len__(self) -> int:
        """The number of files."""
        return len(self._paths)

    @property
    def holds_values(self) -> bool:
        """Bytes, whatever they are."""
        return False

    @property
    def layout(self) -> Layout:
        """A file is a sample."""
        return Layout(count=len(self), files=self._paths)

    def sample(self, pick: Pick) -> Sample:
        """Read one."""
        return {field: values[0] for field, values in self.batch([pick]).items()}

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read several."""
        whole, lengths = padded([self._files.read(self._paths[pick.index]) for pick in picks])
        return {"bytes": whole, "length": lengths}
