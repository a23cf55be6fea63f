"""A run to export, in memory: a fine-tuning in a verified image, with a dataset, settings with several origins, logs and weights."""

from __future__ import annotations

from typing import Any, Final

from tests.records import circumstances, ingredients, record
from trainer.base.digest import digest_of_bytes
from trainer.base.file_entry import File
from trainer.runs.exports.exported_run import ExportedAttempt, ExportedRun
from trainer.runs.record import (
    DatasetIngredient,
    Distribution,
    Image,
    Inventory,
    Knowledge,
    ParentRun,
    Record,
)

RUN: Final = "20260301t120005-abcdef"
PARENT: Final = "20260228t090000-zzzzzz"
REFERENCE: Final = "localhost:5000/reprise/cpu"
CONTENTS: Final = {
    "checkpoints/latest.json": b"{}",
    "initial.safetensors": b"the weights of the parent",
    "log.txt": b"epoch 1",
    "metrics.jsonl": b"{}\n",
    "tensorboard/events": b"events",
    "weights.safetensors": b"the trained weights",
}


def digest(text: str) -> str:
    return digest_of_bytes(text.encode())


def image(known: Knowledge = Knowledge.VERIFIED) -> Image:
    manifest, build = digest("manifest of the image"), digest("build")
    named: dict[str, Any] = {"reference": f"{REFERENCE}@{manifest}", "manifest": manifest, "build_id": build}
    return Image(known=known, environment="cpu", **named)


def make_record(
    *, around: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None, **outcome: Any
) -> Record:
    """Return a record. `around` replaces circumstances, `inputs` replaces ingredients, and other arguments replace the outcome."""
    usual: dict[str, Any] = {
        "settings": {"batch_size": 32, "layers": [8, None], "learning_rate": 0.001, "seed": 0},
        "datasets": {"digits": DatasetIngredient(version=1, content=digest("content"))},
        "initial_weights": digest_of_bytes(CONTENTS["initial.safetensors"]),
    }
    place: dict[str, Any] = {
        "image": image(),
        "drift": [],
        "inventory": Inventory(
            python="3.11.2",
            distributions={"torch": Distribution(version="2.13.0+cpu", record=digest("RECORD of torch"))},
            system={"libc6": "2.36-9+deb12u14"},
        ),
        "manifests": {"digits": digest("manifest of digits")},
        "origins": {"batch_size": "default", "layers": "file", "learning_rate": "command line", "seed": "environment"},
        "parent": ParentRun(run=PARENT, attempt=1, identity=digest("parent")),
    }
    result = {"metrics": {"test_accuracy": 0.1 + 0.2, "val_loss": "NaN"}, "files": files()}
    return record(
        ingredients(**usual | (inputs or {})), circumstances(**place | (around or {})), run=RUN, **result | outcome
    )


def files() -> list[File]:
    return [File(path=path, size=len(body), sha256=digest_of_bytes(body)) for path, body in CONTENTS.items()]


def exported(*records: Record, source: bool = True) -> ExportedRun:
    """Return a run whose attempts have `records`, by default a single attempt."""
    attempts = [ExportedAttempt.of(each, each.to_json()) for each in records or (make_record(),)]
    bundle = File(path="source.tar.gz", size=6, sha256=digest("source"))
    return ExportedRun(attempts=tuple(attempts), source=bundle if source else None)
