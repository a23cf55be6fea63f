"""Curves of a run's logged values, even if a kill truncated the last line."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from tests.comparison.compared import save_trace
from trainer.reporting.curves import NORM, RATE, read_curves, read_schedule, read_telemetry

if TYPE_CHECKING:
    from pathlib import Path


def test_each_number_becomes_a_curve_by_step(tmp_path: Path) -> None:
    lines = [{"step": 1, "epoch": 0, "train_loss": 0.5}, {"step": 2, "train_loss": "NaN", "val_loss": 2}]
    (tmp_path / "m").write_text("\n".join(map(json.dumps, lines)))
    found = read_curves(tmp_path / "m")
    assert set(found) == {"train_loss", "val_loss"}
    assert (list(found["train_loss"].x), found["train_loss"].y[0]) == ([1, 2], 0.5)
    assert math.isnan(found["train_loss"].y[1])


def test_invalid_lines_are_skipped(tmp_path: Path) -> None:
    text = '{"step":1,"a":1}\n[1]\n{"step":true,"a":9}\n{"step":-1,"a":9}\n{"a":9}\n\xff\n{"step":2,"a":"high","b":[1]}\n{"step":3,"a'
    (tmp_path / "m").write_bytes(text.encode("latin-1"))
    found = read_curves(tmp_path / "m")
    assert {name: list(line.x) for name, line in found.items()} == {"a": [1]}
    assert read_curves(tmp_path / "none") == {}


def test_the_number_of_curves_is_limited(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("".join(f'{{"step":{number},"n{number}":1}}\n' for number in range(1000)))
    assert len(read_curves(tmp_path / "m")) == 200


def test_a_trace_has_curves_of_learning_rate_and_gradient_norm(tmp_path: Path) -> None:
    save_trace(tmp_path, 0.5, 0.4, 0.3, rate=0.1, slow_from=3)
    found = read_schedule(tmp_path / "trace.jsonl")
    assert list(found[RATE].y) == [0.1, 0.1, 0.05]
    assert list(found[NORM].y) == [1.0, 1.0, 1.0]
    assert read_schedule(tmp_path / "none") == {}


def test_a_resumed_run_has_one_curve_of_telemetry(tmp_path: Path) -> None:
    for number, steps in {1: (10, 20, 30), 3: (25, 35)}.items():
        (tmp_path / str(number)).mkdir()
        text = "".join(f'{{"step":{step},"seconds":1,"data_wait":{number}}}\n' for step in steps)
        (tmp_path / str(number) / "telemetry.jsonl").write_text(text)
    found = read_telemetry(tmp_path / str(number) for number in (1, 2, 3))["data_wait"]
    assert (list(found.x), list(found.y)) == ([10, 20, 25, 35], [1, 1, 3, 3])
