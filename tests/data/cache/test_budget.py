"""The count of the bytes in a cache with a limit is never too low; the first process that uses the cache alone corrects it."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest

from tests.data.streams import disk_usage
from trainer.data.cache.budget import COUNT, Budget, cost

if TYPE_CHECKING:
    from pathlib import Path

MB = 1 << 20


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(root=tmp_path / "cache", limit=16 * MB)


def reserve_until_full(budget: Budget) -> int:
    count = 0
    while budget.reserve("versions/a/b/streamed.u0", 100_000):
        count += 1
    return count


def test_the_limit_is_not_exceeded_by_concurrent_processes(budget: Budget) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.map(reserve_until_full, [budget] * 4)
    assert (sum(counts) + 1) * 100_000 > budget.usable - 8192 >= sum(counts) * 100_000 - 8192
    assert budget.count().total <= budget.usable < budget.limit


def test_released_bytes_can_be_reserved_again(budget: Budget) -> None:
    first = reserve_until_full(budget)
    budget.release("versions/a/b/streamed.u0", first * 100_000)
    assert reserve_until_full(budget) == first


def test_the_first_process_measures_the_cache(budget: Budget) -> None:
    chunks = budget.root / f"versions/a/b/streamed.u{os.getuid()}"
    chunks.mkdir(parents=True)
    (chunks / "whole").write_bytes(bytes(MB))
    (chunks / ".left.by-a-killed-process").write_bytes(bytes(MB))
    (budget.root / "object").write_bytes(bytes(2 * MB))
    os.link(budget.root / "object", budget.root / "second-name")
    budget.reserve(None, 9 * MB)
    os.close(budget.join() or 0)
    count = budget.count()
    assert count.streamed == {f"versions/a/b/streamed.u{os.getuid()}": cost(MB)}
    assert disk_usage(budget.root) - MB - 3 * MB <= count.other < 2 * MB + 65536
    assert [path.name for path in chunks.iterdir()] == ["whole"]


def test_a_process_beside_another_one_keeps_the_count(budget: Budget) -> None:
    first = budget.join()
    budget.reserve(None, MB)
    before = budget.count()
    second = budget.join()
    assert budget.count() == before
    for handle in (first, second):
        os.close(handle or 0)


def test_a_damaged_count_is_measured_again(budget: Budget) -> None:
    budget.reserve(None, 5 * MB)
    (budget.root / COUNT).write_bytes(b"{}")
    assert budget.count().total < MB
