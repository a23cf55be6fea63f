"""The dataset cache: a folder that several users, containers and machines share.

Knows which datasets are complete, and how one becomes so. Refuses to know where bytes come from.

    objects/…                                what datasets are made of: trainer/data/cache/objects.py
    versions/<name>/<content>/manifest.jsonl  as it was published
    versions/<name>/<content>/complete.json   written last: which objects hold it
    versions/<name>/<content>/wanted.json     the same, of a fetch that has not ended
    versions/<name>/<content>/suspect.u1000   user 1000 met a wrong byte: at the next start all of it is verified for this user
    versions/<name>/<content>/fetch.lock      whose turn it is; a courtesy that saves bandwidth, on which nothing that is right depends

Folders are as open as the cache's own: made with mode 1777, as /tmp is, it lets every user add and none remove what is another's.
Nothing is ever taken from modes, times or listings.
"""

from __future__ import annotations

import errno
import mmap
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import StringConstraints

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, canonical
from trainer.base.document import Count, Document, parse_json
from trainer.base.errors import (
    DigestMismatchError,
    DiskFullError,
    DocumentError,
    MachineError,
    ManifestError,
    NotWritableError,
    UnsafePathError,
)
from trainer.base.safe_folder import PARTIAL, Root
from trainer.data.cache.fetch_lock import turn
from trainer.data.cache.lease import Lease, take
from trainer.data.cache.objects import Objects, own, shared
from trainer.data.cache.version import AGAIN, CachedDataset
from trainer.data.manifest_lines import Listing, digest_of_raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from trainer.data.declaration import Dataset

VERSIONS: Final = "versions"
MANIFEST: Final = "manifest.jsonl"
COMPLETE: Final = "complete.json"
WANTED: Final = "wanted.json"
LOCK: Final = "fetch.lock"
SUSPECT: Final = "suspect"
_RIVALS: Final = 32
_SPARE: Final = 16 << 20
"""What a file system needs beyond the bytes themselves, roughly."""

ObjectName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}(-[0-9a-f]+)?$")]


class Held(Document):
    """What stands in `complete.json` and `wanted.json`: which objects a dataset's version is made of."""

    format: Literal["reprise.cached/2"] = "reprise.cached/2"
    manifest: Digest
    content: Digest
    files: Count
    bytes: Count
    objects: dict[ObjectName, Count]
    """Names and sizes of the objects."""
    sparse: dict[Digest, ObjectName] = {}
    """Of which packs only ranges are here, and under which name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The cache below `root`, which is made when something is put into it."""

    root: Path

    @property
    def objects(self) -> Objects:
        """What datasets are made of."""
        return Objects(root=self.root)

    def place(self, dataset: Dataset) -> Path:
        """Where the dataset is, or would be."""
        return self.root / _version(dataset)

    def version(self, dataset: Dataset) -> Root:
        """Hold the folder where the dataset is. Raises `FileNotFoundError` and its kin."""
        with Root.at(self.root) as root:
            return root.below(_version(dataset))

    def has(self, dataset: Dataset) -> bool:
        """Whether all of the dataset is here and this user met no wrong byte in it.

        Looks at the marker, the manifest's digest and the sizes of a few objects: no walk, whatever the number of files.
        """
        return self._found(dataset, None) is not None

    def find(self, dataset: Dataset) -> CachedDataset | None:
        """The dataset with a lease of it, if `has` is true of it; None otherwise.

        Cached bytes are reached through this value alone, so whoever reads them keeps `data gc` from removing them.
        """
        if not self._is_begun(dataset):
            return None
        lease = self.lease(dataset)  # before anything is looked at: what is found then is not collected
        found = None
        try:
            found = self._found(dataset, lease)
        finally:
            if found is None and lease is not None:
                lease.end()
        return found

    def _is_begun(self, dataset: Dataset) -> bool:
        try:
            self.version(dataset).close()
        except OSError:
            return False
        return True

    def _found(self, dataset: Dataset, lease: Lease | None) -> CachedDataset | None:
        try:
            place = self.version(dataset)
        except OSError:
            return None
        with place:
            if place.stat(own(SUSPECT)) is not None:
                return None
            for held in filter(None, (_read_held(place, marker) for marker in (own(COMPLETE), COMPLETE))):
                if cached := self._opened(dataset, held, lease, place):
                    return cached
        return None

    def _opened(self, dataset: Dataset, held: Held, lease: Lease | None, place: Root) -> CachedDataset | None:
        if (held.content, held.files, held.bytes) != (dataset.content, dataset.files, dataset.bytes):
            return None
        if not self.objects.has(held.objects):
            return None
        listing = _listing(dataset, held, place)
        if listing is None:
            return None
        found = CachedDataset(cache=self, dataset=dataset, listing=listing, sparse=held.sparse)
        found.lease = lease
        return found

    def lease(self, dataset: Dataset) -> Lease | None:
        """Keep the dataset from being collected as long as this process has the lease."""
        return take(
            self.root,
            name=dataset.name,
            content=dataset.content,
            place=self.place(dataset).relative_to(self.root).as_posix(),
        )

    @contextmanager
    def turn(self, dataset: Dataset, *, waiting: Callable[[], None]) -> Iterator[None]:
        """Wait while another process, perhaps another user's, fetches this dataset and gets on; `waiting` is called if so."""
        with self._made(dataset) as place, turn(place, LOCK, is_done=lambda: self.has(dataset), waiting=waiting):
            yield

    def begin(self, dataset: Dataset, held: Held, manifest: bytes | mmap.mmap) -> None:
        """Say what is about to be fetched, so that nobody sweeps it away."""
        with self._made(dataset) as place:
            write_beside(place, MANIFEST, manifest)
            write_beside(place, WANTED, _text(held))

    def finish(self, dataset: Dataset, held: Held, lease: Lease | None) -> CachedDataset:
        """Let the dataset be complete: every object it needs has its name, and is on the disk itself."""
        with self._made(dataset) as place:
            left = [name for name in place.names() if name.startswith(".") and name.endswith(PARTIAL)]
            _removed(place, left)  # first: nobody looks again once the marker is there
            write_beside(place, COMPLETE, _text(held))
            _removed(place, (own(SUSPECT), own(WANTED), WANTED))
            if (cached := self._opened(dataset, held, lease, place)) is None:
                raise DigestMismatchError(
                    f"{dataset.title} was altered in {place.path} while it was fetched", hint=AGAIN
                )
            return cached

    def suspect(self, dataset: Dataset) -> bool:
        """Let this user's next start verify the dataset, byte for byte, and fetch what is wrong again; tell whether that can be done."""
        try:
            with self.version(dataset) as place, suppress(FileExistsError):
                place.create(own(SUSPECT)).close()
        except (OSError, UnsafePathError):  # a cache that is another user's, or mounted to be read
            return False
        return True

    def is_suspect(self, dataset: Dataset) -> bool:
        """Whether this user met a wrong byte in it."""
        try:
            with self.version(dataset) as place:
                return place.stat(own(SUSPECT)) is not None
        except OSError:
            return False

    def require(self, dataset: Dataset, size: int) -> None:
        """Raise `DiskFullError` now rather than after an hour, when `size` more bytes cannot fit."""
        with disk_faults(self.root):
            free = shutil.disk_usage(self.root).free
        if free < size + _SPARE:
            sentence = f"{self.root} has {free / 1e6:,.0f} MB free; {dataset.title} needs {size / 1e6:,.0f} MB more"
            raise DiskFullError(sentence, hint="free space there, or set REPRISE_CACHE to a larger disk")

    def _made(self, dataset: Dataset) -> Root:
        with disk_faults(self.place(dataset)):
            return shared(self.root, _version(dataset))


def _version(dataset: Dataset) -> str:
    return f"{VERSIONS}/{dataset.name}/{dataset.content.removeprefix('sha256:')}"


def _read_held(place: Root, marker: str) -> Held | None:
    """What a marker says; None also if it is no file or says nothing that can be read: the dataset is not complete then."""
    with suppress(OSError, DocumentError, UnsafePathError):
        return parse_json(place.read(marker), Held, where=str(place.path / marker))
    return None


def _listing(dataset: Dataset, held: Held, place: Root) -> Listing | None:
    """The manifest, verified: by its digest; a repacked one, which git names by another digest, by its content."""
    for name in (own(MANIFEST), MANIFEST):
        with suppress(OSError, ValueError, UnsafePathError), place.open(name) as file:
            raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            digest = digest_of_raw(raw)
            if digest == dataset.manifest:
                return Listing(raw)
            with suppress(ManifestError):
                if digest == held.manifest and Listing(raw).content() == dataset.content:
                    return Listing(raw)
    return None


def write_beside(place: Root, name: str, data: bytes | mmap.mmap) -> None:
    """Write a small file whole; beside another user's, which cannot be replaced, under a name of one's own."""
    for rival in range(_RIVALS):
        try:
            place.write_whole(name, data, mode=0o444)
        except NotWritableError as fault:
            if isinstance(fault.__cause__, OSError) and fault.__cause__.errno == errno.EROFS:
                raise
            name = own(name)
        except (
            MachineError
        ) as fault:  # another process of this user's was ready first, and tidied up: once for each of them
            if rival == _RIVALS - 1 or not isinstance(fault.__cause__, FileNotFoundError):
                raise
        else:
            return
    raise NotWritableError(f"{place.path / name} cannot be written", hint="change the owner of its folder")


def _removed(place: Root, names: Iterable[str]) -> None:
    """Remove what is this user's."""
    for name in names:
        with disk_faults(place.path / name), suppress(PermissionError):
            place.unlink(name, missing_ok=True)


def _text(held: Held) -> bytes:
    return canonical(held.model_dump())
