"""End to end, on the real engine and the real S3 server."""

from __future__ import annotations
