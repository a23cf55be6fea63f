"""Compare two versions by their manifests, without fetching files.

Both manifests are streamed, so memory does not grow with the number of files. A manifest's digest is verified at its end, so changes are
valid only if the iteration ends without an error.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.base.errors import ManifestError
from trainer.data.manifest_lines import ROW, damaged, unescaped
from trainer.stores.contract import altered, object_key

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


@dataclass(frozen=True, slots=True, order=True)
class _File:
    path: bytes
    size: int
    sha256: bytes


def diff_datasets(before: Dataset, after: Dataset, *, store: Store) -> Iterator[Change]:
    """Yield each file that differs, sorted by path. Raises `DigestMismatchError` at the end if a manifest does not match."""
    if before.content == after.content:
        return
    old, new = _files(before, store), _files(after, store)
    one, other = next(old, None), next(new, None)
    while one or other:
        if other is None or (one is not None and one.path < other.path):
            assert one is not None  # noqa: S101 - for the type checker: one of the two is there
            yield _change(one, None)
            one = next(old, None)
        elif one is None or other.path < one.path:
            yield _change(None, other)
            other = next(new, None)
        else:
            if one.sha256 != other.sha256:
                yield _change(one, other)
            one, other = next(old, None), next(new, None)


def _change(one: _File | None, other: _File | None) -> Change:
    file = one or other
    return Change(
        path="" if file is None else file.path.decode(),
        before=None if one is None else one.size,
        after=None if other is None else other.size,
    )


def _files(dataset: Dataset, store: Store) -> Iterator[_File]:
    for number, line in enumerate(_lines(dataset, store), 1):
        if number == 1:
            continue
        row = ROW.fullmatch(line)
        if row is None:
            raise damaged(number, "it is not in canonical form")
        yield _File(unescaped(row[1]), int(row[2]), row[3])


def _lines(dataset: Dataset, store: Store) -> Iterator[bytes]:
    """Yield the manifest's lines, and verify its digest at the end."""
    running, rest, size = hashlib.sha256(), b"", 0
    most = (1 << 20) + dataset.files * 8192 + dataset.bytes // 1024
    for block in store.read(object_key(dataset.manifest)):
        running.update(block)
        size += len(block)
        if size > most:
            raise ManifestError(
                f"manifest of {dataset.title} is longer than {most} bytes in {store.label}",
                hint="publish the dataset again",
            )
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if (found := f"sha256:{running.hexdigest()}") != dataset.manifest:
        raise altered(f"manifest of {dataset.title}", expected=dataset.manifest, found=found, store=store.label)
