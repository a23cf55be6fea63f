"""The stores of tests/store, here too."""

from __future__ import annotations

from tests.store.conftest import s3_address, s3_endpoint, s3_environment

__all__ = ["s3_address", "s3_endpoint", "s3_environment"]
