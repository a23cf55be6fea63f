"""With many ranks and one store, no attempt is lost, no number has two owners, the store is never listed, and calls are bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.simulation import Size, numbers, require_sound, simulate
from tests.stores.conftest import s3_address, s3_endpoint, s3_environment
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["s3_address", "s3_endpoint", "s3_environment"]


def play(address: str, folder: Path, size: Size, *, most: int) -> None:
    reports, names = simulate(address, folder, size)
    print(line := numbers(reports, size))  # noqa: T201 - shows the measurement with pytest -s
    require_sound(reports, names, store=open_store(address), size=size, folder=folder)
    assert sum(report.calls.get("keys", 0) for report in reports) == 0
    assert max(sum(report.calls.values()) for report in reports) <= most, line
    assert len(reports) == size.runs * size.ranks


def test_a_few_ranks_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    size = Size(runs=2, ranks=4, rounds=2, contenders=2, processes=2)
    play(str(tmp_path / "store"), tmp_path, size, most=120)


@pytest.mark.s3
@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "most"),
    [
        (Size(runs=64, ranks=16, rounds=2, contenders=4, processes=2), 150),
        (Size(runs=1, ranks=1024, rounds=1, contenders=1024, processes=2), 150),
    ],
    ids=["64 runs of 16 ranks, of which 4 contend", "1 run of 1024 ranks that all contend"],
)
def test_1024_ranks_against_an_s3_server(s3_address: str, tmp_path: Path, size: Size, most: int) -> None:
    play(s3_address, tmp_path, size, most=most)
