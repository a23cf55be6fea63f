"""Runs to compare, created by the package's functions, with weights in the formats of a training run, but without torch."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from tests.records import circumstances, ingredients
from trainer.base.digest import canonical, digest_of_bytes
from trainer.comparison.compare import ComparedRun, load_compared_run
from trainer.comparison.trace import FILE
from trainer.comparison.trace_lines import Step, TraceHeader, bits_of, layout_of, prints_of
from trainer.comparison.ulp import FORMATS
from trainer.comparison.weights import TENSORS, WEIGHTS, read_tensors
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import new_run
from trainer.source.capture import freeze

if TYPE_CHECKING:
    from pathlib import Path

Values = dict[str, tuple[str, bytes]]
"""One-dimensional tensors by name: the dtype as in safetensors, and the bytes."""


def float_tensor(*values: float) -> tuple[str, bytes]:
    """Return a float32 tensor."""
    return "F32", struct.pack(f"<{len(values)}f", *values)


def save_weights(folder: Path, values: Values, *, optimizer: dict[str, Any] | None = None) -> str:
    """Write `weights.safetensors` and `tensors.json`; return the digest for a record."""
    header, data, table = {}, b"", {}
    for name, (dtype, body) in values.items():
        shape = [len(body) // FORMATS[dtype].width]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(body)]}
        table[name] = {"dtype": FORMATS[dtype].name, "shape": shape, "sha256": digest_of_bytes(body)}
        data += body
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    document = {"format": "reprise.tensors/1", "step": 3, "weights": table, "optimizer": optimizer or {}}
    (folder / TENSORS).write_bytes(canonical(document) + b"\n")
    return read_tensors(folder / TENSORS).digest


def save_trace(folder: Path, *losses: float, rate: float = 0.1, slow_from: int = 99) -> None:
    """Write a trace with `losses`; from step `slow_from` on, the learning rate is halved."""
    layout = layout_of([("w", "float32", [1])])
    lines = [TraceHeader(algorithm="xxh3-64", layout=layout, tensors=["w"], schedule=["0.lr"]).to_line()]
    for step, loss in enumerate(losses, 1):
        fingerprints = {"data": "0" * 16, "random": "0" * 16, "weights": "0" * 16, "tensors": prints_of([0])}
        numbers = {"schedule": [rate / (1 + (step >= slow_from))], "loss": bits_of(loss), "gradient": bits_of(1.0)}
        lines.append(Step(step=step, epoch=0, batch=step, **fingerprints, **numbers).to_line())
    (folder / FILE).write_bytes(b"".join(lines))


def make_run(
    runs: Path,
    *,
    code: str = "x = 1\n",
    weights: Values | None = None,
    loss: float = 0.5,
    steps: int = 3,
    around: dict[str, Any] | None = None,
    **other: Any,
) -> ComparedRun:
    """Return a completed run of `code` with `weights`; `around` replaces circumstances, and `other` replaces ingredients."""
    checkout = runs.parent / f"checkout-{digest_of_bytes(code.encode())[7:15]}"
    checkout.mkdir(parents=True, exist_ok=True)
    (checkout / "code.py").write_text(code)
    _, folder = new_run(runs)
    bundle = freeze(checkout, folder)
    run = open_run(
        folder, ingredients=ingredients(source=bundle.digest, **other), circumstances=circumstances(**around or {})
    )
    digest = save_weights(run.folder, {"w": float_tensor(1.0, 2.0)} if weights is None else weights)
    run.close(Outcome(status=RunStatus.COMPLETED, metrics={"test_loss": loss}, weights=digest, steps=steps))
    return load_compared_run(folder)
