"""The identifiers of runs: the start time and random characters."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Final

RUN_ID: Final = re.compile(r"[0-9]{8}t[0-9]{6}-[a-z2-7]{6}")
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"


def new_run_id(now: datetime | None = None) -> str:
    """Return a new run ID: the UTC time to the second, and six random characters.

    >>> new_run_id(datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC))[:16]
    '20260301t120005-'
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dt%H%M%S}-{''.join(secrets.choice(_BASE32) for _ in range(6))}"


def is_run_id(text: str) -> bool:
    """Return whether `text` has the form of a run ID."""
    return RUN_ID.fullmatch(text) is not None
