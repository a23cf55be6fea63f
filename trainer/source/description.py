"""The origin of a run's source, as its record holds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.base.document import Count, Document, OneLine


class Source(Document):
    """The origin of the source."""

    how: Literal["mounted", "baked"]
    commit: OneLine = "unknown"
    dirty: bool | None = None
    """Whether files differed from the commit; `None` if git cannot determine it."""
    submodules: dict[str, str] = Field(default={}, exclude_if=lambda commits: not commits)
    """The commit of each git submodule, by path. Files of submodules are part of the source."""
    files: Count = 0
    bytes: Count = 0
    left_out: list[str] = []
    """Files that were not captured, each with its reason."""
