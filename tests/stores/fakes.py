"""A wrapper around a correct store that fails as real stores do."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.errors import DigestMismatchError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.stores.contract import Store

Fault = "Callable[[Iterator[bytes]], Iterator[bytes]]"


class FaultyStore:
    """A store that passes all calls to another store, but changes some bodies that are read."""

    def __init__(
        self, inner: Store, error: Callable[[Iterator[bytes]], Iterator[bytes]], *, times: int, after: int = 1
    ) -> None:
        """Change `times` bodies with `error`, after `after` correct bodies; the first body is a manifest."""
        self.address, self.label = inner.address, inner.label
        self.reads: list[tuple[str, int, int | None]] = []
        self._inner, self._fault, self._left, self._good = inner, error, times, after
        self._lock = Lock()

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream a range, changed if it is the turn of a faulty body."""
        body = self._inner.read(key, start=start, length=length)
        with self._lock:
            self.reads.append((key, start, length))
            self._good -= 1
            spoilt = self._good < 0 and self._left > 0
            self._left -= spoilt
        yield from self._fault(body) if spoilt else body

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Pass the call on."""
        self._inner.write(key, body, sha256=sha256)

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Pass the call on."""
        return self._inner.holds(key, size=size, sha256=sha256)

    def create(self, key: str, body: bytes) -> bool:
        """Pass the call on."""
        return self._inner.create(key, body)

    def size(self, key: str) -> int | None:
        """Pass the call on."""
        return self._inner.size(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Pass the call on."""
        return self._inner.keys(prefix)


def flipped(body: Iterator[bytes]) -> Iterator[bytes]:
    """Change one bit of the first block."""
    for number, block in enumerate(body):
        yield block if number else bytes([block[0] ^ 1]) + block[1:]


def cut(body: Iterator[bytes]) -> Iterator[bytes]:
    """End the body early, with the error of a transport that notices."""
    yield next(body)[:-1]
    raise DigestMismatchError("cut short")


def silently_cut(body: Iterator[bytes]) -> Iterator[bytes]:
    """End the body early, without an error."""
    yield next(body)[:-1]


def reset(body: Iterator[bytes]) -> Iterator[bytes]:
    """Break the connection in the middle of the first block."""
    block = next(body)
    yield block[: len(block) // 2]
    raise StoreUnreachableError("reset")


def endless(body: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a body without an end."""
    yield from body
    while True:
        yield b"\0" * 65536


def full(body: Iterator[bytes]) -> Iterator[bytes]:
    """Raise the error of a full disk while the body arrives."""
    yield next(body)[:1]
    raise OSError(28, "No space left on device")
