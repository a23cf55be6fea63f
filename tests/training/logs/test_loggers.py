"""Loggers: ended where they wrote, left alone where they did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from trainer.training.logs.loggers import finish

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def test_a_logger_that_never_wrote_is_not_started(tmp_path: Path) -> None:
    """A training that failed before its first line leaves no empty file."""
    finish([TensorBoardLogger(tmp_path, name="tensorboard", version="")])
    assert list(tmp_path.iterdir()) == []
