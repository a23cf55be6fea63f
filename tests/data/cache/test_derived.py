"""Bytes computed from a version's files are kept for the next process of this user, and are read only if their digest is right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from trainer.data.cache.budget import Budget, cost
from trainer.data.fetch import fetch_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from tests.data.conftest import Published
    from trainer.data.cache.version import CachedDataset

KEY: Final = {"window": 8}
BODY: Final = b"tokens" * 1000


def opened(published: Published) -> CachedDataset:
    return fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)


def made(published: Published, key: dict[str, int], body: bytes = BODY, *, limit: int | None = None) -> list[bytes]:
    """Return the derived bytes and, if this call computed them, the computed bytes."""
    calls: list[bytes] = []

    def make() -> bytes:
        calls.append(body)
        return body

    files = opened(published)
    files.budget = None if limit is None else Budget(root=published.cache.root, limit=limit)
    return [bytes(files.derived(key, make)), *calls]


def kept(published: Published) -> list[Path]:
    return sorted(published.cache.place(published.dataset).glob("*derived-*"))


def test_the_next_process_reads_what_was_computed(published: Published) -> None:
    assert made(published, KEY) == [BODY, BODY]
    assert made(published, KEY, b"other") == [BODY]
    (file,) = kept(published)
    assert file.stat().st_mode & 0o777 == 0o400


def test_another_key_replaces_the_file_and_what_a_kill_left(published: Published) -> None:
    made(published, KEY)
    place = published.cache.place(published.dataset)
    (place / f".derived-{'0' * 32}.u{os.getuid()}.0123abcd.partial").touch()
    (place / "derived-00.u77777").touch()
    assert made(published, {"window": 9}, b"other") == [b"other", b"other"]
    assert {each.suffix for each in kept(published)} == {f".u{os.getuid()}", ".u77777"}
    assert made(published, KEY) == [BODY, BODY]


@pytest.mark.parametrize("at", [0, 40, 64, -1])
def test_a_damaged_file_is_computed_again(published: Published, at: int) -> None:
    made(published, KEY)
    (file,) = kept(published)
    body = bytearray(file.read_bytes())
    body[at] ^= 1
    file.unlink()
    file.write_bytes(body)
    assert made(published, KEY) == [BODY, BODY]
    assert made(published, KEY) == [BODY]


def test_a_link_or_a_file_of_another_user_is_not_read(published: Published, tmp_path: Path) -> None:
    made(published, KEY)
    (file,) = kept(published)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert made(published, KEY) == [BODY, BODY]
    if os.getuid() == 0:
        os.chown(kept(published)[0], 77777, 77777)
        assert made(published, KEY, b"other") == [b"other", b"other"]


def test_a_cache_with_a_limit_counts_the_file_and_keeps_none_that_does_not_fit(published: Published) -> None:
    budget = Budget(root=published.cache.root, limit=8_000_000)
    opened(published)
    budget.measure()
    before = budget.count().other
    made(published, KEY, limit=8_000_000)
    made(published, {"window": 9}, limit=8_000_000)
    assert budget.count().other == before + cost(64 + len(BODY))
    assert made(published, KEY, bytes(9_000_000), limit=8_000_000) == [bytes(9_000_000)] * 2
    assert kept(published) == []
    assert budget.count().other == before
