"""Documents about runs: retests, certificates, measured noise, baselines.

Each kind of document is a class derived from `SavedDocument`, and has a folder in a run's folder, in the runs folder or in the checkout.
Documents may come from other users, so each document is read within limits and checked.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical
from trainer.base.document import Document, parse_json
from trainer.base.errors import RepriseError
from trainer.base.plain_text import reading
from trainer.base.safe_folder import Root, run_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")
ANY_NAME: Final = re.compile(r".*\.json")


class SavedDocument(Document):
    """A document whose class fixes its format and version, and which is written as canonical JSON."""

    @classmethod
    def read(cls, text: bytes, where: str) -> Self:
        """Parse a document; `where` names it in messages. Raise `DocumentError` if it is invalid, or as `check` does."""
        document = parse_json(text, cls, where=where)
        document.check(where)
        return document

    def check(self, where: str) -> None:
        """Raise an error if the document contradicts itself."""

    def to_json(self) -> bytes:
        """Return the canonical bytes of the document."""
        return canonical(self.model_dump(mode="json", by_alias=True)) + b"\n"


def save_files(
    folder: Path, kind: str, files: Mapping[str, bytes], *, opened: Callable[[Path], Root] = run_root
) -> Path:
    """Write files into `folder/kind` in order, and return the path of the last file. If root writes them, the folder's owner gets them.

    Raise `DiskFullError`, `NotWritableError`, `UnsafePathError`.
    """
    with disk_faults(folder / kind), opened(folder) as root, root.below(kind, make=True) as target:
        root.give(kind)
        for name, text in files.items():
            target.write_whole(name, text)
            target.give(name)
    return folder / kind / list(files)[-1]


def read_files(
    folder: Path,
    kind: str,
    read: Callable[[bytes, str], T],
    *,
    most: int,
    names: re.Pattern[str] = ANY_NAME,
    opened: Callable[[Path], Root] = run_root,
    on_fault: Callable[[str, RepriseError], object] | None = None,
) -> list[T]:
    """Return `read(text, path)` for each file in `folder/kind` that matches `names`, sorted by file name.

    A file that cannot be read is reported to `on_fault` and skipped; without `on_fault`, its error is raised.
    """
    results = []
    with reading(folder / kind), suppress(FileNotFoundError), opened(folder) as root, root.below(kind) as source:
        for name in filter(names.fullmatch, source.names()):
            path = source.path / name
            try:
                with reading(path):
                    text = source.read(name, most=most)
                results.append(read(text, str(path)))
            except RepriseError as fault:
                if on_fault is None:
                    raise
                on_fault(name, fault)
    return results
