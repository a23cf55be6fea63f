"""A store without Reprise's own care, for the doctor's probes alone: any spelling of a key, any claim about a body, and removal.

Knows what the adapters guard, and goes around it. Nothing else may: what Reprise stores is spelled strictly, verified, and never removed.
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
    """What a probe does to a store."""

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        """Store `body` as it is, claiming that its digest is `claimed`. Raises `StoreError` where the store refuses it."""

    def get(self, key: str) -> bytes | None:
        """What stands under exactly this name; None where nothing does."""

    def forget(self, key: str) -> None:
        """Remove an object. Raises `StoreError` where that is not allowed."""


class UncheckedS3(S3Store):
    """The bucket as the server sees it."""

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        """Let the server compare body and claim."""
        self._put(key, body, sha256=bytes.fromhex(claimed.removeprefix("sha256:")))

    def get(self, key: str) -> bytes | None:
        """Ask for the name as it is spelled."""
        try:
            return b"".join(self.read(key))
        except ObjectMissingError:
            return None

    def forget(self, key: str) -> None:
        """Delete it."""
        with self._translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def _name(self, key: str) -> str:
        return self._prefix + key


class UncheckedFolder:
    """The folder as its file system sees it; it compares no digests, so the adapter does that before a name appears."""

    def __init__(self, store: DirectoryStore, root: Path) -> None:
        """Go around this adapter."""
        self._store, self._root = store, root

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        """Write through the adapter where the key is one of its own, else straight."""
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
        """Read the file of that name."""
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def forget(self, key: str) -> None:
        """Remove the file, and the folders that are empty then."""
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
    """Go around the adapter of `store`."""
    if isinstance(store, DirectoryStore):
        return UncheckedFolder(store, Path(store.address))
    if isinstance(store, S3Store):
        return UncheckedS3(store.address, access=store.access)
    raise StoreError(f"store {store.label} cannot be probed", hint="name a folder or a bucket")
