"""`reprise check --bits EXP`: where bits begin to differ when nothing does.

A few steps are made twice in one process and once in another, every value is looked at, and the first that is not the same is named:
module, then operation. Nothing is recorded: it is a look, not a run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DocumentError, RunError
from trainer.base.suggestions import counted
from trainer.cli.compare.apart import told
from trainer.cli.trainings import frozen_checkout
from trainer.comparison.observation import Kind, Sight, blamed, parted, worded
from trainer.comparison.verdict import Rung

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.cli.train import Asked


def look(asked: Asked, *, steps: int, as_json: bool) -> int:
    """Look, print; 0 where every bit is the same, 20 where one is not. Both processes are of one copy of the source."""
    with frozen_checkout(asked) as (source, words):
        found = _looked(asked, words, steps=steps, source=source)
    print(json.dumps(found) if as_json else found["said"])
    return 0 if found["equal"] else Rung.DIFFERENT.code


def _looked(asked: Asked, words: Sequence[str], *, steps: int, source: Path) -> dict[str, Any]:
    """What the first value that differs is, twice in one process, then between two."""
    here = _observed(asked, words, steps=steps, times=2, source=source)
    between, number = "twice in one process", len(here["sights"])
    steps = require_steps(_sights(here))
    first = _sight(here["parted"]) if here["parted"] else None
    if first is None:
        there = _observed(asked, words, steps=steps, times=1, source=source)
        first, between = parted(_sights(here), _sights(there)), "in two processes"
    if first is None:
        said = f"clean: {number} values of {counted(steps, 'step')} are equal, twice in one process and in another"
        return {"equal": True, "said": said, "steps": steps, "values": number}
    lines = [f"{asked.place.name}, {between}: {worded(first)}", *([f"  {here['op']}"] if here["op"] else [])]
    return {
        "equal": False,
        "said": "\n".join(lines),
        "between": between,
        "step": first.step,
        "kind": first.kind,
        "name": first.name,
        "module": blamed(first),
        "operation": here["op"],
    }


def require_steps(sights: Sequence[Sight]) -> int:
    """How many steps were observed, which may be fewer than were asked for. Raises `RunError` if there were none."""
    seen = max((sight.step for sight in sights), default=0)
    if not seen:
        raise RunError("no step was made, so no bit was looked at", hint="give more epochs or steps, as --max-epochs 1")
    return seen


def _sights(found: dict[str, Any]) -> list[Sight]:
    return [_sight(values) for values in found["sights"]]


def _sight(values: list[Any]) -> Sight:
    step, kind, *rest = values
    return Sight(step, Kind(kind), *rest)


def _observed(asked: Asked, words: Sequence[str], *, steps: int, times: int, source: Path) -> dict[str, Any]:
    """What the observing process tells."""
    hidden = ["_observe", str(steps), str(times), *words]
    lines: list[dict[str, Any]] = list(told(hidden, asked, source=source))
    if len(lines) != 1:
        raise DocumentError("the observing process printed nothing", hint="does the experiment print or exit?")
    return lines[0]
