"""Access to a store without Reprise's checks: any spelling of a key, any claimed digest, and removal. Only the doctor's probes use it.

All other code uses the adapters, which restrict keys, verify bodies and never remove objects.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainer.base.errors import ObjectMissingError, StoreError
from trainer.stores.directory import DirectoryStore
from trainer.stores.s3 import S3Store

if TYPE_CHECKING:
    from trainer.stores.contract import Store


class Unchecked(Protocol):
    """Unchecked operations on a store, for probes."""

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        """Store `body` with the claimed digest `claimed`, which may be wrong. Raise `StoreError` if the store rejects it."""

    def get(self, key: str) -> bytes | None:
        """Return the content of the object whose name is exactly `key`; `None` if it does not exist."""

    def forget(self, key: str) -> None:
        """Remove an object. Raise `StoreError` if its removal is not permitted."""


class UncheckedS3(S3Store):
    """A bucket without the adapter's checks."""

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        """Store `body` and let the server compare it with the claimed digest."""
        self._put(key, body, sha256=bytes.fromhex(claimed.removeprefix("sha256:")))

    def get(self, key: str) -> bytes | None:
        """Read the object whose name is exactly `key`."""
        try:
            return b"".join(self.read(key))
        except ObjectMissingError:
            return None

    def forget(self, key: str) -> None:
        """Delete the object."""
        with self._translate_errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def _name(self, key: str) -> str:
        return self._prefix + key


class UncheckedFolder:
    """A folder without the adapter's checks. A file system does not verify digests, so the adapter does for valid keys."""

    def __init__(self, store: DirectoryStore, root: Path) -> None:
        """Bypass the adapter `store` of the folder `root`."""
        self._store, self._root = store, root

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        """Write through the adapter if it accepts the key, else directly to the file."""
        path = self._root / key
        if key == key.lower() and key.isascii() and "//" not in key and "\\" not in key:
            self._store.write(key, body, sha256=claimed)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        except OSError as fault:
            raise StoreError(
                f"{path} cannot be written: {fault.strerror}", hint="check the folder's permissions"
            ) from fault

    def get(self, key: str) -> bytes | None:
        """Read the file whose name is `key`."""
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def forget(self, key: str) -> None:
        """Remove the file, and each folder above it that is then empty."""
        path = self._root / key
        try:
            path.unlink(missing_ok=True)
        except OSError as fault:
            raise StoreError(
                f"{path} cannot be removed: {fault.strerror}", hint="check the folder's permissions"
            ) from fault
        with suppress(OSError):
            for folder in path.parents:
                if folder == self._root:
                    break
                folder.rmdir()


def unchecked(store: Store) -> Unchecked:
    """Return unchecked access to `store`. Raise `StoreError` if it is neither a folder nor a bucket."""
    if isinstance(store, DirectoryStore):
        return UncheckedFolder(store, Path(store.address))
    if isinstance(store, S3Store):
        return UncheckedS3(store.address, access=store.access)
    raise StoreError(f"store {store.label} cannot be probed", hint="name a folder or a bucket")
