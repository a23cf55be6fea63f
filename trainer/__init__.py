"""Reprise: every run writes a record from which it can be reproduced."""

from __future__ import annotations

import os

# no installed package may change how records and settings are read
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

__version__ = "0.1.0"
