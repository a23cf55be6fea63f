"""Compare two versions by their manifests, without fetching files.

Both manifests are streamed, so memory does not grow with the number of files. A manifest's digest is verified at its end, so changes are
valid only if the iteration ends without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

from trainer.data.fetch import manifest_blocks
from trainer.data.manifest_lines import ROW, damaged, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Dataset
    from trainer.stores.contract import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file that differs between two versions; sizes in bytes, `None` if a version lacks the file."""

    path: str
    before: int | None
    after: int | None

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """The kind of change."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"


class _File(NamedTuple):
    path: bytes
    is_after: bool
    size: int
    sha256: bytes


def diff_datasets(before: Dataset, after: Dataset, *, store: Store) -> Iterator[Change]:
    """Yield each file that differs, sorted by path. Raises `DigestMismatchError` at the end if a manifest does not match."""
    if before.content == after.content:
        return
    files = merge(_files(before, store, is_after=False), _files(after, store, is_after=True))
    for path, versions in groupby(files, key=lambda file: file.path):
        pair = {file.is_after: file for file in versions}
        if len(pair) == 1 or pair[False].sha256 != pair[True].sha256:
            sizes = {is_after: file.size for is_after, file in pair.items()}
            yield Change(path=path.decode(), before=sizes.get(False), after=sizes.get(True))


def _files(dataset: Dataset, store: Store, *, is_after: bool) -> Iterator[_File]:
    number, rest = 0, b""
    for block in manifest_blocks(store, dataset):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            if number == 1:
                continue
            row = ROW.fullmatch(line + b"\n")
            if row is None:
                raise damaged(number, "it is not in canonical form")
            yield _File(unescaped(row[1]), is_after, int(row[2]), row[3])
