"""Stores of tests/store and the checkout of tests/training, here too."""

from __future__ import annotations

from tests.store.conftest import s3_address, s3_endpoint, s3_environment
from tests.training.conftest import checkout

__all__ = ["checkout", "s3_address", "s3_endpoint", "s3_environment"]
