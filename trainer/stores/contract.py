"""What every store promises, and how things are named in one.

Knows the promises and the spelling of keys. Refuses to know where bytes lie: that is an adapter's business, one module each.

- An object named by its digest is there whole and verified, or not at all. Writing it again replaces wrong bytes, nothing else.
- `write` and `create` return only after a look at what the store keeps: an acknowledgment is no evidence.
- `create` is the only decision between two writers: exactly one of them wins.
- Nothing is changed or removed. Nothing that must be right depends on a listing, a lock, a time or a mode bit.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from trainer.base.errors import DigestMismatchError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK: Final = 1 << 20
"""Bytes handed on at a time: large enough that Python's share of the work is small, small enough for many threads."""

_PART: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*")
_LONGEST: Final = 512


class Store(Protocol):
    """Where datasets, runs and packages live. Every method may raise `StoreError` or one of its kinds."""

    @property
    def address(self) -> str:
        """The address a person gave, without secrets."""

    @property
    def label(self) -> str:
        """The address and, of a server, its endpoint, as in `s3://reprise at http://127.0.0.1:8333`; for every message."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Stream `length` bytes from `start` (to the end without a length), in blocks of any size.

        Yields exactly the requested bytes or raises `ObjectMissingError`, `DigestMismatchError` for a body of another length than
        announced, `StoreUnreachableError` for a broken connection. The caller verifies the content by its digest.
        """

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Make `key` hold `body` (from its beginning), which must have this digest (`sha256:<hex>`); `DigestMismatchError` if it has not.

        An object with these bytes is left as it is, an object with other bytes is replaced. Raises `StoreError` if the store acknowledges
        the body and does not keep it.
        """

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Whether the object has this length and this digest: by the checksum that the server keeps, else by reading it."""

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless something has this name; tell whether this call did it. Of several at once, one does."""

    def size(self, key: str) -> int | None:
        """The object's length in bytes; None when there is none of this name."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The names that begin with `prefix`, sorted. For people to look at: a listing may be late or incomplete."""


def object_key(digest: str) -> str:
    """Where the bytes with this digest are kept.

    >>> object_key("sha256:" + "ab" + 62 * "0")[:22]
    'objects/sha256/ab/0000'
    """
    algorithm, _, digits = digest.partition(":")
    return f"objects/{algorithm}/{digits[:2]}/{digits[2:]}"


def checked(key: str) -> str:
    """Return `key`, or refuse a spelling that some store would fold, escape or take for a way out.

    >>> checked("runs/20261123t051200-abcdef/attempts/1/claim.json")[:5]
    'runs/'
    """
    if len(key) <= _LONGEST and all(_PART.fullmatch(part) for part in key.split("/")):
        return key
    raise StoreError(
        f"store key {key!r}: expected parts of [a-z0-9._-] between single slashes, none beginning with a dot",
        hint="do not use the document that names it",
    )


def whole(what: str, store: str) -> DigestMismatchError:
    """The error for an object that ends before the bytes that were asked for; `store` is the store's label."""
    return DigestMismatchError(f"{what} in {store} is cut short: fewer bytes than requested", hint=AGAIN)


def verify(body: bytes | BinaryIO, *, key: str, sha256: str) -> int:
    """Hash `body` from its beginning, compare, leave it rewound, and return its length."""
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
    """The error for an object that the store acknowledged and does not hold; `store` is the store's label."""
    said = f"{store} acknowledged {key}, and does not hold it or holds other bytes"
    return StoreError(
        said, hint="do not use this store before `reprise doctor` reports it as ok: it loses what it acknowledges"
    )


def altered(what: str, *, expected: str, found: str, store: str | None = None) -> DigestMismatchError:
    """The error for bytes that are not the ones that were named; `store` is the label of the store that they came from."""
    where = f" in {store} or on the way" if store else ""
    return DigestMismatchError(
        f"{what} has been altered{where}: expected {expected[:19]}.., found {found[:19]}..", hint=AGAIN
    )


def blocks(body: bytes | BinaryIO) -> Iterator[bytes]:
    """Walk through `body` from its beginning without holding a second copy of it."""
    if isinstance(body, bytes):
        yield body
        return
    body.seek(0)
    yield from iter(lambda: body.read(BLOCK), b"")


AGAIN: Final = "type the same command again; if it says the same, the stored object or the way to it is damaged"
