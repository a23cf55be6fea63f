"""The table of a script's outputs, with a digest of each output's content that is equal for equal outputs of two runs."""

from __future__ import annotations

from typing import Final, Literal

from trainer.base.digest import Digest, digest_of_document
from trainer.base.document import Document

FILE: Final = "outputs.json"
"""The name of the table's file in the attempt's folder."""
FOLDER: Final = "output"
"""The name of the folder of outputs in the attempt's folder."""

NO_OUTPUTS: Final = digest_of_document({})
"""The digest of a table in which no output is compared."""


class OutputEntry(Document):
    """An output file, or all event files in a folder."""

    form: Literal["bytes", "archive", "scalars"]
    content: Digest
    is_compared: bool = True


class OutputTable(Document):
    """The outputs of a script, by path relative to the folder of outputs."""

    format: Literal["reprise.outputs/1"] = "reprise.outputs/1"
    outputs: dict[str, OutputEntry]

    @property
    def compared(self) -> dict[str, str]:
        """The content digests of the outputs that are compared, by path."""
        return {path: each.content for path, each in self.outputs.items() if each.is_compared}

    @property
    def digest(self) -> str:
        """The digest of `compared`, which the record stores."""
        return digest_of_document(self.compared)
