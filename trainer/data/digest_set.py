"""Digests by the million: which have come already, and as the how manieth.

Knows them as 32 bytes each and finds them by a table of numbers: 40 to 50 bytes a digest, where a dict of strings takes 250. Refuses to
know what they name.
"""

from __future__ import annotations

from array import array
from typing import Final

_BYTES: Final = 32
_PREFIX: Final = len("sha256:")
_FEWEST: Final = 1024


class Digests:
    """Digests, each once, numbered from 0 as they come.

    >>> some = Digests()
    >>> [some.add("sha256:" + 64 * digit) for digit in "aba"], len(some)
    ([0, 1, 0], 2)
    """

    def __init__(self) -> None:
        """None yet."""
        self._digests = bytearray()
        self._slots = array(
            "I", bytes(4 * _FEWEST)
        )  # a digest's number and 1, or 0 where none is; half of them at most are taken

    def __len__(self) -> int:
        """How many there are."""
        return len(self._digests) // _BYTES

    def add(self, sha256: str) -> int:
        """The number of this digest; of one that has not come before, it is what `len` was."""
        digest = bytes.fromhex(sha256[_PREFIX:])
        slot = self._slot(digest)
        if not self._slots[slot]:
            self._digests += digest
            self._slots[slot] = len(self)
            if 2 * len(self) > len(self._slots):
                self._grow()
            return len(self) - 1
        return self._slots[slot] - 1

    def _slot(self, digest: bytes) -> int:
        """Where the digest's number stands, or would: from the slot that its hash names, the first that is its own or free."""
        slots, last = self._slots, len(self._slots) - 1
        slot = hash(digest) & last
        while (found := slots[slot]) and self._digests[(found - 1) * _BYTES : found * _BYTES] != digest:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        self._slots = array("I", bytes(4 * 2 * len(self._slots)))
        for number in range(len(self)):
            digest = bytes(self._digests[number * _BYTES : (number + 1) * _BYTES])
            self._slots[self._slot(digest)] = number + 1
