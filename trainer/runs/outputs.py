"""The table of a script's outputs: the digest of each output's content, so that equal outputs of two runs have equal digests."""

from __future__ import annotations

from typing import Final, Literal

from trainer.base.digest import Digest, digest_of_document
from trainer.base.document import Document

FILE: Final = "outputs.json"
"""The file of the table, in the attempt's folder."""
FOLDER: Final = "output"
"""The folder of the outputs, in the attempt's folder."""

NO_OUTPUTS: Final = digest_of_document({})
"""The digest of a table without outputs that are compared."""


class OutputEntry(Document):
    """An output file, or the event files of a folder."""

    form: Literal["bytes", "archive", "scalars"]
    content: Digest
    is_compared: bool = True


class OutputTable(Document):
    """The outputs of a script, by path relative to the folder of its outputs."""

    format: Literal["reprise.outputs/1"] = "reprise.outputs/1"
    outputs: dict[str, OutputEntry]

    @property
    def compared(self) -> dict[str, str]:
        """The contents of the outputs that are compared, by path."""
        return {path: each.content for path, each in self.outputs.items() if each.is_compared}

    @property
    def digest(self) -> str:
        """The digest of the outputs that are compared."""
        return digest_of_document(self.compared)
