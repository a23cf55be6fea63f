"""The tests, mirroring the package."""

from __future__ import annotations
