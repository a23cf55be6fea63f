"""Runs: the record, its source, its attempts, and how they are published, pulled, resumed and listed.

For notebooks, this package also has `load`, `table` and `train` of `trainer.notebook`: `from trainer import runs`.
"""

from __future__ import annotations

import importlib
from typing import Any

_FOR_NOTEBOOKS = ("load", "table", "train")


def __getattr__(name: str) -> Any:
    """Return a function of `trainer.notebook`, which depends on this package and is imported on first use."""
    if name in _FOR_NOTEBOOKS:
        return getattr(importlib.import_module("trainer.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
