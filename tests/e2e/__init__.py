"""End-to-end tests with a real engine and a real S3 server."""

from __future__ import annotations
