"""Reprise: every run leaves a record from which anybody can run it again."""

from __future__ import annotations

__version__ = "0.1.0"
