"""The interface of stores, its guarantees, and the keys of objects. Each adapter is a separate module.

- An object named by its digest is either complete and verified, or does not exist. Writing it again replaces only wrong bytes.
- `write` and `create` return only after they have checked that the store holds the object; an acknowledgment is not sufficient.
- Only `create` decides between two writers: exactly one of them succeeds.
- A valid object is never changed or removed. Correctness never depends on a listing, a lock, a time or a mode bit.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from trainer.base.errors import DigestMismatchError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK: Final = 1 << 20
"""Bytes per block: large enough to keep Python's overhead small, small enough for many threads."""

_PART: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*")
_LONGEST: Final = 512


class Store(Protocol):
    """Storage of datasets, runs and packages. Every method may raise `StoreError` or a subclass."""

    @property
    def address(self) -> str:
        """The address as the user typed it, without secrets."""

    @property
    def label(self) -> str:
        """The address and, for a server, its endpoint, e.g. `s3://reprise at http://127.0.0.1:8333`; names the store in messages."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream `length` bytes from `start` (without `length`, all bytes to the end), in blocks of any size.

        Yield exactly the requested bytes, or raise `ObjectMissingError`, `DigestMismatchError` if the body's length differs from the
        announced length, or `StoreUnreachableError` if the connection breaks. The caller verifies the content by its digest.
        """

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Store `body` (from its beginning) as `key`. Raise `DigestMismatchError` if its digest is not `sha256` (`sha256:<hex>`).

        An object with the same bytes is not changed, and an object with other bytes is replaced. Raise `StoreError` if the store
        acknowledges the body but does not keep it.
        """

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Return whether the object has the given length and digest, from the server's checksum, else by reading the object."""

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless the name exists; return whether this call stored it. Of several concurrent calls, one succeeds."""

    def size(self, key: str) -> int | None:
        """Return the object's length in bytes; `None` if it does not exist."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, sorted. For display only: a listing may be delayed or incomplete."""


def object_key(digest: str) -> str:
    """Return the key of the object with the given digest.

    >>> object_key("sha256:" + "ab" + 62 * "0")[:22]
    'objects/sha256/ab/0000'
    """
    algorithm, _, digits = digest.partition(":")
    return f"objects/{algorithm}/{digits[:2]}/{digits[2:]}"


def checked(key: str) -> str:
    """Return `key`. Raise `StoreError` if some store would fold or escape its spelling, or resolve it outside the store's root.

    >>> checked("runs/20261123t051200-abcdef/attempts/1/claim.json")[:5]
    'runs/'
    """
    if len(key) <= _LONGEST and all(_PART.fullmatch(part) for part in key.split("/")):
        return key
    raise StoreError(
        f"store key {key!r}: expected parts of [a-z0-9._-] between single slashes, none beginning with a dot",
        hint="the document that names it was altered: delete it, or ask its author for a new copy",
    )


def whole(what: str, store: str) -> DigestMismatchError:
    """Return the error for an object with fewer bytes than requested; `store` is the store's label."""
    return DigestMismatchError(f"{what} in {store} is truncated: fewer bytes than requested", hint=AGAIN)


def verify(body: bytes | BinaryIO, *, key: str, sha256: str) -> int:
    """Verify the digest of `body` from its beginning, rewind it, and return its length. Raise `DigestMismatchError` if it is wrong."""
    running, length = hashlib.sha256(), 0
    for block in blocks(body):
        running.update(block)
        length += len(block)
    found = f"sha256:{running.hexdigest()}"
    if found != sha256:
        raise altered(key, expected=sha256, found=found)
    if not isinstance(body, bytes):
        body.seek(0)
    return length


def not_kept(key: str, store: str) -> StoreError:
    """Return the error for an object that the store acknowledged but does not hold; `store` is the store's label."""
    message = f"{store} acknowledged {key}, but does not hold it, or holds other bytes"
    return StoreError(
        message,
        hint="use another store: this store loses acknowledged writes; `reprise doctor store ADDRESS` tests a store",
    )


def altered(what: str, *, expected: str, found: str, store: str | None = None) -> DigestMismatchError:
    """Return the error for bytes that do not match their digest; `store` is the label of the store from which they were read."""
    where = f" in {store} or during the download" if store else ""
    return DigestMismatchError(
        f"{what} has been altered{where}: expected {expected[:19]}.., found {found[:19]}..", hint=AGAIN
    )


def blocks(body: bytes | BinaryIO) -> Iterator[bytes]:
    """Yield `body` in blocks from its beginning, without a second copy in memory."""
    if isinstance(body, bytes):
        yield body
        return
    body.seek(0)
    yield from iter(lambda: body.read(BLOCK), b"")


AGAIN: Final = "run the command again; if the error recurs, the stored object or the connection is faulty"
