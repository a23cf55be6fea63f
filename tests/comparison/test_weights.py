"""Reading `tensors.json`: invalid tables are rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DocumentError
from trainer.comparison.weights import read_tensors

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tensor_table_with_an_unknown_key_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"format":"reprise.tensors/1","step":1,"weights":{},"pickle":"x"}')
    with pytest.raises(DocumentError, match="unknown key 'pickle'"):
        read_tensors(tmp_path / "t")
