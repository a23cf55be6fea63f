"""Shards in any number of processes give the same bits: weights, metrics and trace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trainer.runs.run import load_record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
ARGUMENTS = ("--shards", "4", "--threads", "1", "--batch-size", "8", "--no-publish", "--accumulate", "2")


def results(checkout: Checkout, *argv: str) -> tuple[str, bytes, bytes]:
    """Train, and return the digest of the weights, the metrics and the trace."""
    code, _, err = checkout.train(*ARGUMENTS, *argv)
    assert code == 0, err
    folder, record = checkout.last()
    assert record.outcome.weights is not None
    return record.outcome.weights, (folder / "metrics.jsonl").read_bytes(), (folder / "trace.jsonl").read_bytes()


def test_one_two_and_four_processes_have_the_same_bits(checkout: Checkout) -> None:
    code = (checkout.root / "dots.py").read_text().replace("nn.ReLU()", "nn.BatchNorm2d(4), nn.ReLU()")
    (checkout.root / "normed.py").write_text(code)
    one, two, four = (results(checkout, "--exp", "normed.py", "--devices", devices) for devices in ("1", "2", "4"))
    assert one == two
    assert one == four
