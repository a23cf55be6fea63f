"""A store in this process's memory, for tests; it meets the whole contract."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import ObjectMissingError
from trainer.stores.contract import BLOCK, blocks, checked, verify, whole

if TYPE_CHECKING:
    from collections.abc import Iterator


class MemoryStore:
    """A store that ends with its process."""

    def __init__(self) -> None:
        """Create an empty store."""
        self.address = self.label = "memory:"
        self._objects: dict[str, bytes] = {}
        self._lock = Lock()

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream a range of an object."""
        body = self._objects.get(checked(key))
        if body is None:
            raise ObjectMissingError(f"{key} is not in {self.label}", hint="publish it to this store")
        end = len(body) if length is None else start + length
        if max(start, end) > len(body):
            raise whole(key, self.label)
        for at in range(start, end, BLOCK):
            yield body[at : min(at + BLOCK, end)]

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Store a verified object."""
        verify(body, key=key, sha256=sha256)
        data = b"".join(blocks(body))
        with self._lock:
            if self._objects.get(checked(key)) != data:
                self._objects[key] = data

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Return whether the object has this length and this digest."""
        body = self._objects.get(checked(key))
        return body is not None and len(body) == size and digest_of_bytes(body) == sha256

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless the name exists; return whether this call stored it."""
        with self._lock:
            new = checked(key) not in self._objects
            if new:
                self._objects[key] = body
            return new

    def size(self, key: str) -> int | None:
        """Return the object's length; `None` if it does not exist."""
        body = self._objects.get(checked(key))
        return None if body is None else len(body)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted."""
        yield from sorted(key for key in self._objects if key.startswith(prefix))
