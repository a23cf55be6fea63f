"""The smoke test of an image: two runs, whose devices and weights are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import start_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DeviceError, NotDeterministicError
from trainer.launch.smoke_test import SELF_TEST, STEPS, WORDS, smoke_test
from trainer.runs.record import Distribution, Outcome, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Image:
    def __init__(self, runs: Path, *weights: str | None) -> None:
        self.runs, self.weights = runs, [*weights]
        self.asked: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str]) -> str:
        self.asked.append(words)
        if words == SELF_TEST:
            return '{"accepted": 3, "rejected": 4}'
        name = self.weights.pop(0)
        weights = None if name is None else digest_of_bytes(name.encode())
        run = start_run(self.runs)
        around = run.record.circumstances
        torch = {"torch": Distribution(version="2.13.0+cpu", record=None)}
        around = around.model_copy(update={"inventory": around.inventory.model_copy(update={"distributions": torch})})
        run.close(Outcome(status=RunStatus.COMPLETED, steps=STEPS, weights=weights), circumstances=around)
        return ""


def test_two_runs_of_ten_steps_with_equal_weights_pass(tmp_path: Path) -> None:
    image = Image(tmp_path / "runs", "a", "a")
    found = smoke_test(image, runs=tmp_path / "runs", expects_gpu=False)
    assert image.asked == [SELF_TEST, WORDS, WORDS]
    assert (found.accepted, found.rejected) == (3, 4)
    assert (found.steps, found.weights) == (10, digest_of_bytes(b"a"))


@pytest.mark.parametrize("weights", [("a", "b"), (None, None), ("a", None)])
def test_different_and_missing_weights_are_named(tmp_path: Path, weights: tuple[str | None, ...]) -> None:
    with pytest.raises(NotDeterministicError, match="two runs of 10 steps produced the weights"):
        smoke_test(Image(tmp_path / "runs", *weights), runs=tmp_path / "runs", expects_gpu=False)


def test_a_cpu_in_place_of_a_gpu_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="trained on the CPU"):
        smoke_test(Image(tmp_path / "runs", "a", "a"), runs=tmp_path / "runs", expects_gpu=True)
