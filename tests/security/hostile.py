"""Runs that were manipulated by a user with write access to a store or a runs folder."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.runs.runs import finish_run
from trainer.base.digest import digest_of_document
from trainer.runs.publish import publish_run
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[dict[str, Any]], object]

ESCAPES = "\x1b]0;PWNED\x07\x1b[2J"
"""An escape sequence that sets a terminal's title and clears it."""


def change_record(text: bytes, change: Change) -> bytes:
    """Return a record's text after a change, with the identity of the changed ingredients, which an attacker can also compute."""
    content = json.loads(text)
    change(content)
    try:
        body = {"format": content["format"], "ingredients": content["ingredients"]}
        content["identity"] = digest_of_document(body)
    except ValueError:
        pass  # a record that RFC 8785 cannot represent has no identity
    return json.dumps(content).encode()


def bad_run(runs: Path, change: Change) -> str:
    """Return the ID of a run on this machine whose record was changed."""
    run = finish_run(runs)
    path = run.folder / "record.json"
    path.write_bytes(change_record(path.read_bytes(), change))
    return run.record.run


def bad_seal(store: Path, runs: Path, change: Change) -> str:
    """Return the ID of a run that is only in the store and whose seal was changed."""
    run = finish_run(runs)
    publish_run(runs / run.record.run, open_store(str(store)))
    path = store / "runs" / run.record.run / "attempts" / "1" / "sealed.json"
    content = json.loads(path.read_bytes())
    content["record"] = json.loads(change_record(json.dumps(content["record"]).encode(), change))
    path.chmod(0o644)
    path.write_text(json.dumps(content))
    shutil.rmtree(runs / run.record.run)
    return run.record.run


def set_value(*keys: Any, value: Any) -> Change:
    """Return a function that sets the value at the path `keys` of a record."""

    def change(content: dict[str, Any]) -> None:
        here: Any = content
        for key in keys[:-1]:
            here = here[key]
        here[keys[-1]] = value

    return change
