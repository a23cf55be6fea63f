"""Text as tokens, from the command line to a trained net: publish with a tokenizer, copy an experiment, train two epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.data import tokenizers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
KINDS: Final = {
    "packed": (
        ("--text", "a.txt", "--window", "16"),
        ("--split", "train=0:24", "--split", "val=24:28", "--split", "test=28:32"),
    ),
    "padded": (("--lines", "a.txt"), ("--split", "train=0:30", "--split", "val=30:35", "--split", "test=35:40")),
}


@pytest.mark.parametrize(("kind", "workers"), [("packed", "1"), ("padded", "0")])
def test_a_copied_experiment_learns_the_tokens_of_a_published_text(
    checkout: Checkout, tmp_path: Path, kind: str, workers: str
) -> None:
    (tmp_path / "a.txt").write_text(tokenizers.TEXT)
    (tmp_path / "tokenizer.json").write_bytes(tokenizers.body(tokenizers.trained()))
    reader, splits = KINDS[kind]
    words = (*reader, "--tokenizer", "tokenizer.json", *splits, "--license", "CC0-1.0", "--source", "made")
    done = checkout.reprise("data", "publish", f"text-{kind}", str(tmp_path), *words)
    assert done.returncode == 0, done.stderr
    assert "tokens of 280 kinds in 40 lines" in done.stderr
    done = checkout.reprise("new", f"{kind}_text", "--like", "characters", "--dataset", f"text-{kind}")
    assert done.returncode == 0, done.stderr
    assert "vocabulary" in done.stdout + done.stderr
    small = ("--width", "16", "--heads", "2", "--layers", "1", "--batch-size", "2", "--warmup-steps", "0")
    code, _, err = checkout.train("--exp", f"{kind}_text", "--max-epochs", "2", "--workers", workers, *small)
    assert code == 0, err
    folder, record = checkout.last()
    metrics: dict[str, Any] = dict(record.outcome.metrics)
    assert metrics["test_perplexity"] == pytest.approx(math.exp(metrics["test_loss"]), rel=1e-5)
    assert metrics["test_perplexity"] < 200, "280 is that of a net that learned nothing"
    assert "test_bits_per_byte" not in metrics
    assert "Generated text" in (folder / "figures.json").read_text()
