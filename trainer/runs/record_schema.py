"""The record's format for programs: a JSON Schema, made from the models that read it.

docs/record.schema.json is this, committed; a test holds the two together.
"""

from __future__ import annotations

import json
from typing import Any

from trainer.runs.record import FORMAT, Record


def record_schema() -> str:
    """The JSON Schema of a record, as text that is the same each time."""
    made: dict[str, Any] = Record.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"A run's record, {FORMAT}"}
    return json.dumps(made | head, indent=1, sort_keys=True) + "\n"
