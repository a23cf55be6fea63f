"""The batches of streamed datasets, whose chunks are fetched ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import numpy as np

from tests.data.streams import published
from trainer.base.document import typed
from trainer.data.declaration import Draft
from trainer.training.data import RunData
from trainer.training.readers import open_samples

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


def test_the_chunks_of_a_batch_are_computed_in_one_pass_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    files = {f"{number:03}.bin": random.bytes(50_000) for number in range(40)}
    splits = {"train": (0, 32), "val": (32, 40)}
    streams = published(
        tmp_path, files, typed({"name": "a", "reader": {"kind": "files"}, "splits": splits}, Draft, where="test")
    )
    samples = open_samples(streams.dataset, streams.open(1_500_000))
    data = RunData(streams.dataset, samples, batch_size=8, seed=1, workers=0)
    picks: list[tuple[int, int]] = []
    pieces = type(samples).pieces

    def counted(self: Any, pick: Any) -> Any:
        picks.append((pick.epoch, pick.index))
        return pieces(self, pick)

    monkeypatch.setattr(type(samples), "pieces", counted)
    train, val = data.train_dataloader(), data.val_dataloader()
    for epoch in range(3):
        train.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        assert sum(len(batch["length"]) for loader in (train, val) for batch in loader) == 40
    samples.streamed[0].close()
    assert len(picks) == len({*picks}) == 4 * 32 + 8
