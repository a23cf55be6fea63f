"""The checkout in which packages are made."""

from __future__ import annotations

from tests.training.conftest import checkout

__all__ = ["checkout"]
