"""Ledger entries as a run's record holds them."""

from __future__ import annotations

from pydantic import Field, JsonValue

from trainer.base.document import Document


class LedgerEntry(Document):
    """A setting: its value, the origin of the value, the functions bound to it, and the code that read it."""

    value: JsonValue
    origin: str
    file: str | None = Field(default=None, exclude_if=lambda file: file is None)
    """The settings file, if the origin is `file`."""
    bound: list[str] = []
    read: list[str] = []
