"""The fixture `checkout` of the tests that train."""

from __future__ import annotations

from tests.training.conftest import checkout

__all__ = ["checkout"]
