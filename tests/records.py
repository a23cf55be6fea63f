"""Records of a small run, created in memory; a test can replace any part.

`tests/runs/runs.py` has whole runs in folders, created by the code of the package.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from trainer.base.digest import digest_of_bytes
from trainer.runs.record import (
    Circumstances,
    Determinism,
    Device,
    Host,
    Image,
    Ingredients,
    Inventory,
    Knowledge,
    Outcome,
    Record,
    RunStatus,
    Timing,
    identity_of,
)
from trainer.runs.run_id import new_run_id
from trainer.source.description import Source


def ingredients(**other: Any) -> Ingredients:
    """Return a small run's ingredients."""
    usual: dict[str, Any] = {
        "experiment": "digits",
        "settings": {"seed": 0, "learning_rate": 0.001},
        "source": digest_of_bytes(b"source"),
        "lock": digest_of_bytes(b"lock"),
        "layers": [digest_of_bytes(b"layer")],
        "datasets": {},
        "determinism": Determinism(level="machine", threads=2),
        "device": Device(accelerator="cpu", world_size=1, precision="32-true"),
    }
    return Ingredients(**usual | other)


def circumstances(**other: Any) -> Circumstances:
    """Return a small run's circumstances."""
    usual: dict[str, Any] = {
        "command": ["reprise", "train", "--exp", "digits"],
        "source": Source(how="mounted", commit="0" * 40, dirty=False, files=3, bytes=100),
        "image": Image(known=Knowledge.UNKNOWN, reason="this process does not run in a container of a Reprise image"),
        "host": Host(name="h", system="Debian", kernel="Linux 6", cpu="a CPU", cores=2, memory=8 << 30),
        "inventory": Inventory(python="3.11.2"),
        "drift": ["distribution numpy: 2.0 here, 2.3 in the lock"],
        "origins": {"seed": "default", "learning_rate": "command line"},
        "timing": Timing(started=datetime(2026, 3, 1, 12, tzinfo=UTC), seconds=12.5),
    }
    return Circumstances(**usual | other)


def record(
    ingredients_of_run: Ingredients | None = None,
    around: Circumstances | None = None,
    *,
    run: str | None = None,
    attempt: int = 1,
    **outcome: Any,
) -> Record:
    """Return the record of a run, completed unless its outcome states otherwise."""
    ingredients_of_run = ingredients_of_run or ingredients()
    return Record(
        run=run or new_run_id(),
        attempt=attempt,
        identity=identity_of(ingredients_of_run),
        ingredients=ingredients_of_run,
        circumstances=around or circumstances(),
        outcome=Outcome(**{"status": RunStatus.COMPLETED} | outcome),
    )
