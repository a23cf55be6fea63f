"""Probe an unknown store: which guarantees it provides, and how Reprise uses it as a result.

Every guarantee is tested with real objects below `probes/`, regardless of the server's name and version. The objects are then removed, if
the credentials permit it.
"""

from __future__ import annotations

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import (
    DigestMismatchError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    StoreUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.stores.contract import Store
    from trainer.stores.unchecked import Unchecked

PREFIX: Final = "probes"
_THREADS: Final = 8
_ROUNDS: Final = 6
_PART: Final = (32 << 20) + 1
"""The size of a part of a large file, plus 1 byte."""
_HOPELESS: Final = (StoreUnreachableError, StoreDeniedError, StoreMissingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A tested property of a store, and the result."""

    about: str
    found: str
    holds: bool
    needed: bool
    """Whether Reprise's guarantees depend on the property."""
    consequence: str
    """How Reprise uses the store as a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The result of a test: what was found, and whether the property holds."""

    found: str
    holds: bool


@dataclass(slots=True, kw_only=True)
class Probe:
    """A probe of a store, with objects below its own prefix."""

    store: Store
    again: Store
    """A second connection to the same store: it must see what the first connection wrote."""
    raw: Unchecked
    place: str = field(default_factory=lambda: f"{PREFIX}/{secrets.token_hex(8)}")
    _made: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def all(self) -> Iterator[Probed]:
        """Run all tests in order. Raise the error if the store does not respond, denies access, or has no such bucket or folder."""
        self.store.size(f"{self.place}/nothing")
        for about, needed, ask, holding, failing in _QUESTIONS:
            try:
                result = ask(self)
            except _HOPELESS:
                raise
            except StoreError as fault:
                result = ProbeResult(found=fault.message, holds=False)
            consequence = holding if result.holds else failing
            yield Probed(about=about, found=result.found, holds=result.holds, needed=needed, consequence=consequence)

    def tidy(self) -> tuple[int, str | None]:
        """Remove the probe's objects; return the number of objects that remain, and the reason if any remain."""
        left = list(dict.fromkeys(self._made))
        while left:
            try:
                self.raw.forget(left[-1])
            except StoreError as fault:
                return len(left), fault.message
            left.pop()
        return 0, None

    def key(self, name: str) -> str:
        """Return a key below the probe's prefix, and register it for removal."""
        with self._lock:
            self._made.append(f"{self.place}/{name}")
        return f"{self.place}/{name}"

    def create(self) -> ProbeResult:
        """Create a name from several threads at once, and then try to replace it; repeat with other names."""
        for number in range(_ROUNDS):
            key = self.key(f"create-{number}")
            bodies = [f"{number}/{thread}".encode() * 100 for thread in range(_THREADS)]
            won = self._race(key, bodies)
            if len(won) != 1:
                return ProbeResult(
                    found=f"{len(won)} of {_THREADS} simultaneous writers created the same name; expected 1",
                    holds=False,
                )
            if b"".join(self.again.read(key)) != won[0] or self.again.create(key, b"later"):
                return ProbeResult(found="an existing name could be created again with another body", holds=False)
            if b"".join(self.store.read(key)) != won[0]:
                return ProbeResult(found="a body was replaced although the write was rejected", holds=False)
        return ProbeResult(found=f"{_ROUNDS} races of {_THREADS}: one winner each, nothing replaced", holds=True)

    def _race(self, key: str, bodies: list[bytes]) -> list[bytes]:
        start = Barrier(len(bodies))

        def one(body: bytes) -> bool:
            start.wait()
            return self.store.create(key, body)

        with ThreadPoolExecutor(len(bodies)) as pool:
            return [body for body, is_mine in zip(bodies, pool.map(one, bodies), strict=True) if is_mine]

    def seen(self) -> ProbeResult:
        """Write objects and check at once that the second connection sees them, even names that it requested before."""
        for number in range(_ROUNDS):
            key, body = self.key(f"seen-{number}"), secrets.token_bytes(100)
            if self.again.size(key) is not None:
                return ProbeResult(found="a name exists that was never written", holds=False)
            self.store.write(key, body, sha256=digest_of_bytes(body))
            if self.again.size(key) != len(body) or b"".join(self.again.read(key)) != body:
                return ProbeResult(found="another connection does not see a written object yet", holds=False)
        return ProbeResult(found=f"{_ROUNDS} of {_ROUNDS} written objects visible at once", holds=True)

    def ranges(self) -> ProbeResult:
        """Read exact ranges, and a range beyond the end."""
        body = secrets.token_bytes(300_001)
        key = self.key("ranges")
        self.store.write(key, body, sha256=digest_of_bytes(body))
        asked = ((0, 1), (1, 100), (65_535, 2), (300_000, 1), (0, 300_001), (150_000, None), (7, 0))
        for start, length in asked:
            stop = len(body) if length is None else start + length
            if b"".join(self.store.read(key, start=start, length=length)) != body[start:stop]:
                return ProbeResult(found=f"bytes {start} to {stop} differ from the written bytes", holds=False)
        try:
            b"".join(self.store.read(key, start=300_000, length=2))
        except DigestMismatchError:
            return ProbeResult(found=f"{len(asked)} ranges exact; ranges beyond the end rejected", holds=True)
        return ProbeResult(found="a range beyond the end of an object was read without an error", holds=False)

    def checksum(self) -> ProbeResult:
        """Check that the store rejects bytes with the digest of other bytes."""
        key = self.key("checksum")
        try:
            self.raw.put(key, b"these bytes", claimed=digest_of_bytes(b"those bytes"))
        except StoreError as fault:
            if self.raw.get(key) is not None:
                return ProbeResult(found="bytes with a wrong digest were rejected but stored", holds=False)
            how = "altered bytes" if isinstance(fault, DigestMismatchError) else "an error of another kind"
            return ProbeResult(found=f"bytes with a wrong digest are rejected, as {how}", holds=True)
        return ProbeResult(found="bytes that do not match their digest were accepted", holds=False)

    def large(self) -> ProbeResult:
        """Write and read a body of more than 32 MiB."""
        body = hashlib.sha256(self.place.encode()).digest() * (_PART // 32) + b"x"
        key, began = self.key("large"), monotonic()
        self.store.write(key, body, sha256=digest_of_bytes(body))
        wrote, began = monotonic() - began, monotonic()
        whole = digest_of_bytes(b"".join(self.again.read(key)))
        took = monotonic() - began
        inner = b"".join(self.again.read(key, start=_PART - 33, length=33))
        if whole != digest_of_bytes(body) or inner != body[-33:] or self.again.size(key) != len(body):
            return ProbeResult(found="33.6 MB were read back as other bytes", holds=False)
        return ProbeResult(
            found=f"33.6 MB written at {_PART / wrote / 1e6:,.0f} MB/s, read at {_PART / took / 1e6:,.0f} MB/s",
            holds=True,
        )

    def listing(self) -> ProbeResult:
        """Check whether a listing shows objects that were just written."""
        made = {self.key(f"list/{number}") for number in range(_ROUNDS)}
        for key in made:
            self.store.create(key, b"listed")
        missing = made - set(self.again.keys(f"{self.place}/list/"))
        return ProbeResult(found=f"{len(made) - len(missing)} of {len(made)} listed at once", holds=not missing)

    def folding(self) -> ProbeResult:
        """Check which spellings the store treats as the same name."""
        folded = [what for what, one, other in _SPELLINGS if self._is_folded(one, other)]
        return ProbeResult(
            found=f"stored under one name: {', '.join(folded)}" if folded else "each spelling is a separate name",
            holds=not folded,
        )

    def _is_folded(self, one: str, other: str) -> bool:
        first, second = self.key(one), self.key(other)
        try:
            self.raw.put(first, b"one", claimed=digest_of_bytes(b"one"))
            return self.raw.get(first) != b"one" or self.raw.get(second) is not None
        except _HOPELESS:
            raise
        except StoreError:
            return True  # a rejected name is not a separate name


_SPELLINGS: Final = (
    ("a//b and a/b", "fold1/a//b", "fold1/a/b"),
    (r"a\b and a/b", "fold2/a\\b", "fold2/a/b"),
    ("A and a", "fold3/A", "fold3/a"),
    ("two spellings of an umlaut", "fold4/\u00e4", "fold4/a\u0308"),
)
_FATAL: Final = "do not use this store: "
_QUESTIONS: Final[tuple[tuple[str, bool, Callable[[Probe], ProbeResult], str, str], ...]] = (
    (
        "create",
        True,
        Probe.create,
        "versions, attempts and markers depend on it, without a lock",
        _FATAL + "two runs or two versions could have one name",
    ),
    (
        "seen",
        True,
        Probe.seen,
        "a marker is written last, and readers check only the marker",
        _FATAL + "a version could be visible before its bytes are",
    ),
    (
        "ranges",
        True,
        Probe.ranges,
        "small files are ranges of packs; each range is verified as well",
        _FATAL + "no file of a pack could be read",
    ),
    (
        "checksum",
        True,
        Probe.checksum,
        "every upload carries its sha256; altered bytes are rejected",
        _FATAL
        + "bytes that were altered in transit would be stored under a wrong digest, and every reader would reject them",
    ),
    (
        "large",
        True,
        Probe.large,
        "files are cut into parts of 32 MiB; no multipart upload is needed",
        _FATAL + "packs and parts could not be stored",
    ),
    (
        "listing",
        False,
        Probe.listing,
        "`runs ls --store` lists the runs; correctness never depends on a listing",
        "`runs ls --store` may omit recent runs; correctness never depends on a listing",
    ),
    (
        "spelling",
        False,
        Probe.folding,
        "keys consist of [a-z0-9._-] between single slashes in any case",
        "nothing to do: keys consist of [a-z0-9._-] between single slashes, which no store folds",
    ),
)


def is_trusted(probed: list[Probed]) -> bool:
    """Return whether every property that Reprise needs holds."""
    return all(each.holds for each in probed if each.needed)
