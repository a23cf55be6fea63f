"""A file by its path, size and digest, as documents list it."""

from __future__ import annotations

from trainer.base.digest import Digest
from trainer.base.document import Count, Document


class File(Document):
    """A file of the run."""

    path: str
    size: Count
    sha256: Digest
