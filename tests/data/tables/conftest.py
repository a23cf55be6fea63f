"""Tables given as bytes, planned and written as Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trainer.data.tables.table_file import TableOptions, blocks_of, plan_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that plans the table in a file with the given bytes."""

    def plan_bytes(body: bytes | str, *, name: str = "t.csv", before: Any = None, **options: Any) -> Any:
        (tmp_path / name).write_bytes(body.encode() if isinstance(body, str) else body)
        return plan_file(tmp_path / name, TableOptions(**options), before=before)

    return plan_bytes


@pytest.fixture
def published(tmp_path: Path, plan: Callable[..., Any]) -> Callable[..., dict[str, list[Any]]]:
    """Return a function that writes the table in a file with the given bytes as Parquet, and returns its columns."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the lock's extra `cpu`")
    from trainer.data.tables.convert import write_parquet

    def publish_bytes(body: bytes | str, *, name: str = "t.csv", **options: Any) -> dict[str, list[Any]]:
        source, _ = plan(body, name=name, **options)
        write_parquet(source, blocks_of(tmp_path / name, source), tmp_path / "published.parquet")
        columns: dict[str, list[Any]] = parquet.read_table(tmp_path / "published.parquet").to_pydict()
        return columns

    return publish_bytes
