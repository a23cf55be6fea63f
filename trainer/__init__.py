"""Reprise: every run writes a record from which it can be reproduced."""

from __future__ import annotations

__version__ = "0.1.0"
