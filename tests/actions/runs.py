"""Runs as a researcher's machine has them, for tests: made by the real actions in a folder of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trainer.actions.run import OpenRun, new_run, open_run
from trainer.digest import digest_of_bytes
from trainer.host.source import freeze
from trainer.record import (
    Circumstances,
    Determinism,
    Device,
    Host,
    Image,
    Ingredients,
    Inventory,
    Knowledge,
    Outcome,
    Source,
    Status,
    Timing,
)

if TYPE_CHECKING:
    from pathlib import Path


def ingredients(**other: Any) -> Ingredients:
    """Ingredients of a small run, some of them other than usual."""
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


def circumstances() -> Circumstances:
    """What happened around a small run."""
    return Circumstances(
        command=["reprise", "train", "--exp", "digits"],
        source=Source(how="mounted", commit="0" * 40, dirty=False, files=3, bytes=100),
        image=Image(known=Knowledge.UNKNOWN, reason="this process runs in no image of Reprise"),
        host=Host(name="h", system="Debian", kernel="Linux 6", cpu="a CPU", cores=2, memory=8 << 30),
        inventory=Inventory(python="3.11.2"),
        drift=["distribution numpy: 2.0 here, 2.3 in the lock"],
        origins={"seed": "default", "learning_rate": "command line"},
        timing=Timing(started=datetime(2026, 3, 1, 12, tzinfo=UTC), seconds=12.5),
    )


def begun(runs: Path) -> OpenRun:
    """A run that is under way, its source frozen."""
    checkout = runs.parent / "checkout"
    if not checkout.is_dir():
        checkout.mkdir(parents=True)
    (checkout / "code.py").write_text("x = 1\n")
    _, folder = new_run(runs)
    bundle = freeze(checkout, folder)
    return open_run(folder, ingredients=ingredients(source=bundle.digest), circumstances=circumstances())


def finished(runs: Path, *, status: Status = Status.COMPLETED, accuracy: float = 0.1 + 0.2) -> OpenRun:
    """A run that is over, with a few files."""
    run = begun(runs)
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "last.ckpt").write_bytes(b"weights" * 100)
    (run.folder / "metrics.jsonl").write_text('{"step":1}\n')
    run.close(Outcome(status=status, metrics={"test_accuracy": accuracy}, steps=10))
    return run
