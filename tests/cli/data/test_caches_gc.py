"""`reprise data gc` lists data before it removes data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.data.test_data import reprise
from trainer.data.cache import collect as collect_cache

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.data.test_data import Type

__all__ = ["reprise"]


def test_undeclared_versions_are_removed_with_apply(
    reprise: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collect_cache, "YOUNG_S", -1.0)
    reprise("publish", "small", str(tmp_path / "source"))
    reprise("fetch", "small")
    assert reprise("gc")[1].startswith("0 versions, 0 objects, ")
    (tmp_path / "datasets/small.toml").unlink()
    code, out, _ = reprise("gc")
    assert (code, "1 version, 1 object" in out, "--apply" in out) == (0, True, True)
    assert json.loads(reprise("gc", "--apply", "--json")[1])["objects"] == 1
    assert json.loads(reprise("gc", "--json")[1])["versions"] == []
