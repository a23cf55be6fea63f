"""The S3 server of the stores' tests."""

from __future__ import annotations

from tests.stores.conftest import s3_address, s3_endpoint, s3_environment

__all__ = ["s3_address", "s3_endpoint", "s3_environment"]
