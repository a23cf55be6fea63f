"""The dataset cache: a folder that several users, containers and machines share.

    objects/…                                 bytes of datasets: trainer/data/cache/objects.py
    versions/<name>/<content>/manifest.jsonl  the published manifest
    versions/<name>/<content>/complete.json   the objects of the version; written last
    versions/<name>/<content>/wanted.json     the objects of the version, during a fetch
    versions/<name>/<content>/suspect.u1000   user 1000 read damaged bytes: the next start of this user verifies the whole version
    versions/<name>/<content>/fetch.lock      a lock that saves bandwidth: trainer/data/cache/locks.py

Folders get the mode of the cache's own folder. With mode 1777, the mode of /tmp, each user can add files, but remove only their own.
Whether a version is complete never depends on file modes, times or directory listings.
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
from trainer.data.cache.locks import Lease, fetch_lock, take_lease
from trainer.data.cache.objects import Objects, make_shared_folder, own_name
from trainer.data.cache.version import RETRY, CachedDataset
from trainer.data.manifest_lines import ManifestFiles, digest_of_raw

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
"""Bytes that a file system needs beyond the files themselves, approximately."""

ObjectName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}(-[0-9a-f]+)?$")]


class VersionObjects(Document):
    """`complete.json` and `wanted.json`: the objects of a dataset version."""

    format: Literal["reprise.cached/2"] = "reprise.cached/2"
    manifest: Digest
    content: Digest
    files: Count
    bytes: Count
    objects: dict[ObjectName, Count]
    """Names and sizes of the objects."""
    sparse: dict[Digest, ObjectName] = {}
    """Names of the objects that contain only ranges of a pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The cache in the folder `root`, which is created on first write."""

    root: Path

    @property
    def objects(self) -> Objects:
        """The objects of all versions."""
        return Objects(root=self.root)

    def place(self, dataset: Dataset) -> Path:
        """Return the path of a dataset's folder, whether it exists or not."""
        return self.root / _version(dataset)

    def version(self, dataset: Dataset) -> Root:
        """Open the folder of a dataset. Raise `OSError` if it does not exist or cannot be opened."""
        with Root.at(self.root) as root:
            return root.below(_version(dataset))

    def has(self, dataset: Dataset) -> bool:
        """Return whether the dataset is complete and this user read no damaged bytes in it.

        Reads the marker, hashes the manifest and checks the sizes of the objects, but reads no files of the dataset.
        """
        return self._complete(dataset) is not None

    def find(self, dataset: Dataset) -> CachedDataset | None:
        """Return the dataset with a lease, or `None` if `has` returns false.

        The lease keeps `data gc` from removing the bytes while the returned object exists.
        """
        return self._complete(dataset, with_lease=True)

    def _complete(self, dataset: Dataset, *, with_lease: bool = False) -> CachedDataset | None:
        try:
            place = self.version(dataset)
        except OSError:
            return None
        with place:
            # first, so that `data gc` keeps the objects found below
            lease = self.lease(dataset) if with_lease else None
            if place.stat(own_name(SUSPECT)) is not None:
                return None
            markers = (read_marker(place, marker) for marker in (own_name(COMPLETE), COMPLETE))
            found = (self._open(dataset, objects, lease, place) for objects in markers if objects)
            return next(filter(None, found), None)

    def _open(
        self, dataset: Dataset, objects: VersionObjects, lease: Lease | None, place: Root
    ) -> CachedDataset | None:
        if (objects.content, objects.files, objects.bytes) != (dataset.content, dataset.files, dataset.bytes):
            return None
        if not self.objects.has(objects.objects):
            return None
        listing = _listing(dataset, objects.manifest, place)
        if listing is None:
            return None
        cached = CachedDataset(cache=self, dataset=dataset, listing=listing, sparse=objects.sparse)
        cached.lease = lease
        return cached

    def manifest(self, dataset: Dataset) -> ManifestFiles | None:
        """Return the manifest of a dataset if it is cached and has the declared digest, whether or not its files are cached."""
        with suppress(OSError), self.version(dataset) as place:
            return _listing(dataset, dataset.manifest, place)
        return None

    def keep_manifest(self, dataset: Dataset, manifest: bytes | mmap.mmap) -> None:
        """Write the manifest of a dataset whose files are not fetched."""
        with self._make(dataset) as place:
            write_small_file(place, MANIFEST, manifest)

    def lease(self, dataset: Dataset) -> Lease | None:
        """Take a lease that keeps `data gc` from removing the dataset; `None` if neither a lease file nor a lock is possible."""
        return take_lease(
            self.root,
            name=dataset.name,
            content=dataset.content,
            place=self.place(dataset).relative_to(self.root).as_posix(),
        )

    @contextmanager
    def fetch_lock(self, dataset: Dataset, *, waiting: Callable[[], None]) -> Iterator[None]:
        """Wait while another process fetches this dataset; `waiting` is called before the wait."""
        with self._make(dataset) as place, fetch_lock(place, LOCK, is_done=lambda: self.has(dataset), waiting=waiting):
            yield

    def begin(self, dataset: Dataset, objects: VersionObjects, manifest: bytes | mmap.mmap) -> None:
        """Write the manifest, and mark the objects as needed by a fetch, so that `data gc` keeps them."""
        with self._make(dataset) as place:
            write_small_file(place, MANIFEST, manifest)
            write_small_file(place, WANTED, canonical(objects.model_dump()))

    def finish(self, dataset: Dataset, objects: VersionObjects, lease: Lease | None) -> CachedDataset:
        """Mark the dataset as complete, once all its objects are on disk, and return it.

        Raise `DigestMismatchError` if the manifest or an object was altered or removed in the meantime.
        """
        with self._make(dataset) as place:
            partial = [name for name in place.names() if name.startswith(".") and name.endswith(PARTIAL)]
            _remove(place, partial)  # first, because no later fetch looks for them once the marker exists
            write_small_file(place, COMPLETE, canonical(objects.model_dump()))
            _remove(place, (own_name(SUSPECT), own_name(WANTED), WANTED))
            if (cached := self._open(dataset, objects, lease, place)) is None:
                raise DigestMismatchError(
                    f"{dataset.title} was altered in {place.path} while it was fetched", hint=RETRY
                )
            return cached

    def mark_suspect(self, dataset: Dataset) -> bool:
        """Make this user's next start verify the dataset and fetch damaged bytes again; return whether the cache is writable."""
        try:
            with self.version(dataset) as place, suppress(FileExistsError):
                place.create(own_name(SUSPECT)).close()
        except (OSError, UnsafePathError):  # the cache belongs to another user, or is mounted read-only
            return False
        return True

    def is_suspect(self, dataset: Dataset) -> bool:
        """Return whether this user read damaged bytes in the dataset."""
        try:
            with self.version(dataset) as place:
                return place.stat(own_name(SUSPECT)) is not None
        except OSError:
            return False

    def require_space(self, dataset: Dataset, size: int) -> None:
        """Raise `DiskFullError` if the disk has no space for `size` more bytes."""
        with disk_faults(self.root):
            free = shutil.disk_usage(self.root).free
        if free < size + _SPARE:
            message = f"{self.root} has {free / 1e6:,.0f} MB free; {dataset.title} needs {size / 1e6:,.0f} MB more"
            raise DiskFullError(message, hint="free space there, or set REPRISE_CACHE to a folder on a larger disk")

    def _make(self, dataset: Dataset) -> Root:
        with disk_faults(self.place(dataset)):
            return make_shared_folder(self.root, _version(dataset))


def _version(dataset: Dataset) -> str:
    return f"{VERSIONS}/{dataset.name}/{dataset.content.removeprefix('sha256:')}"


def read_marker(place: Root, marker: str) -> VersionObjects | None:
    """Read a marker; `None` if it is missing or invalid, in which case the dataset is not complete."""
    with suppress(OSError, DocumentError, UnsafePathError):
        return parse_json(place.read(marker), VersionObjects, where=str(place.path / marker))
    return None


def _listing(dataset: Dataset, manifest: str, place: Root) -> ManifestFiles | None:
    """Return the manifest in `place`, verified; `None` if no manifest is valid.

    It is verified by the declared digest. A repacked manifest has the digest `manifest` instead, and is verified by its content.
    """
    for name in (own_name(MANIFEST), MANIFEST):
        with suppress(OSError, ValueError, UnsafePathError), place.open(name) as file:
            raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            digest = digest_of_raw(raw)
            if digest == dataset.manifest:
                return ManifestFiles(raw)
            with suppress(ManifestError):
                if digest == manifest and ManifestFiles(raw).content() == dataset.content:
                    return ManifestFiles(raw)
    return None


def write_small_file(place: Root, name: str, data: bytes | mmap.mmap) -> None:
    """Write a small file atomically; if another user's file cannot be replaced, under this user's own name.

    Raise `MachineError` if it cannot be written under either name.
    """
    for rival in range(_RIVALS):
        try:
            place.write_whole(name, data, mode=0o444)
        except NotWritableError as fault:
            if isinstance(fault.__cause__, OSError) and fault.__cause__.errno == errno.EROFS:
                raise
            name = own_name(name)
        except MachineError as fault:
            # Another process of this user finished first and removed the temporary file. Up to _RIVALS processes may do so.
            if rival == _RIVALS - 1 or not isinstance(fault.__cause__, FileNotFoundError):
                raise
        else:
            return
    raise NotWritableError(f"{place.path / name} is not writable", hint="change the owner of its folder")


def _remove(place: Root, names: Iterable[str]) -> None:
    """Remove the files that this user may remove."""
    for name in names:
        with disk_faults(place.path / name), suppress(PermissionError):
            place.unlink(name, missing_ok=True)
