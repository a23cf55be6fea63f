"""Probing stores: correct stores pass, and each faulty store is detected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores.conftest import s3_address, s3_endpoint, s3_environment  # noqa: F401 - fixtures
from trainer.base.errors import StoreDeniedError, StoreMissingError
from trainer.stores import open_store
from trainer.stores.probe import Probe, Probed, is_trusted
from trainer.stores.unchecked import unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from trainer.stores.contract import Store
    from trainer.stores.unchecked import Unchecked


class LyingStore:
    def __init__(self, store: Store, lie: str) -> None:
        self._store, self._lie, self.address, self.label = store, lie, store.address, store.label

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self._lie == "ranges" and length not in {None, 0}:
            start = max(start - 1, 0)
        body = b"".join(self._store.read(key, start=start, length=length))
        yield body[:-1] + b"?" if self._lie == "large" and len(body) > 1 << 20 else body

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        self._store.write(key, body, sha256=sha256)

    def create(self, key: str, body: bytes) -> bool:
        return self._store.create(key, body) or self._lie == "create"

    def size(self, key: str) -> int | None:
        return None if self._lie == "seen" else self._store.size(key)

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        return self._store.holds(key, size=size, sha256=sha256)

    def keys(self, prefix: str) -> Iterator[str]:
        found = list(self._store.keys(prefix))
        yield from found[self._lie == "listing" :]


class BelievingStore:
    def __init__(self, raw: Unchecked) -> None:
        self._raw = raw
        self.get, self.forget = raw.get, raw.forget

    def put(self, key: str, body: bytes, *, claimed: str) -> None:
        assert claimed
        (self._raw._root / key).parent.mkdir(parents=True, exist_ok=True)  # type: ignore[attr-defined]
        (self._raw._root / key).write_bytes(body)  # type: ignore[attr-defined]


def probe_address(address: str, lie: str = "") -> tuple[list[Probed], Probe]:
    store = open_store(address)
    raw = unchecked(store)
    lying = LyingStore(store, lie)
    probe = Probe(store=lying, again=lying, raw=BelievingStore(raw) if lie == "checksum" else raw)
    return list(probe.all()), probe


@pytest.mark.parametrize("kind", ["directory", pytest.param("s3", marks=pytest.mark.s3)])
def test_a_correct_store_is_trusted_and_left_unchanged(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = str(tmp_path) if kind == "directory" else request.getfixturevalue("s3_address")
    found, probe = probe_address(address)
    assert is_trusted(found), [each for each in found if not each.holds]
    assert [each.about for each in found] == ["create", "seen", "ranges", "checksum", "large", "listing", "spelling"]
    assert probe.tidy() == (0, None)
    assert list(open_store(address).keys("")) == []


@pytest.mark.parametrize("lie", ["create", "seen", "ranges", "checksum", "large"])
def test_an_incorrect_store_is_not_trusted(tmp_path: Path, lie: str) -> None:
    found, _ = probe_address(str(tmp_path), lie)
    assert lie in [each.about for each in found if each.needed and not each.holds]
    assert all(
        each.consequence.startswith("do not use this store: ") for each in found if each.needed and not each.holds
    )


def test_an_incomplete_listing_is_only_noted(tmp_path: Path) -> None:
    found, _ = probe_address(str(tmp_path), "listing")
    assert is_trusted(found)
    assert [each.found for each in found if each.about == "listing"] == ["5 of 6 listed at once"]


def test_objects_that_cannot_be_deleted_are_counted(tmp_path: Path) -> None:
    _, probe = probe_address(str(tmp_path))

    class Keeping(BelievingStore):
        def forget_not(self, key: str) -> None:
            raise StoreDeniedError(f"{key} may not be removed")

    keeping = Keeping(probe.raw)
    keeping.forget = keeping.forget_not
    probe.raw = keeping
    remaining, why = probe.tidy()
    assert remaining > 20
    assert str(why).endswith("may not be removed")


def test_a_missing_store_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError):
        probe_address(str(tmp_path / "nowhere"))
