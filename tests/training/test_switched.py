"""A net that changes the level of determinism: rejected before the first step, recorded afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
SWITCHING: Final = """
import torch
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    max_steps = 3
    early: bool = False

class Net(Classifier):
    def __init__(self, *, classes: int, early: bool) -> None:
        super().__init__()
        if early:
            torch.use_deterministic_algorithms(False)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))

    def forward(self, images: Tensor) -> Tensor:
        if self.training and self.global_step == 1:
            torch.backends.cudnn.benchmark = True
        return self.layers(images)
"""


def test_a_net_that_disables_determinism_in_its_constructor_is_rejected(checkout: Checkout) -> None:
    (checkout.root / "switching.py").write_text(SWITCHING)
    runs = checkout.root / "runs"
    before = list(runs.glob("[!.]*"))  # the register is not a run
    code, _, err = checkout.train("--exp", "switching.py", "--early")
    assert (code, list(runs.glob("[!.]*"))) == (42, before), err
    assert "the constructor of the net changes a global torch flag: torch.are_deterministic_algorithms_enabled()" in err


def test_a_net_that_disables_determinism_later_is_recorded_as_not_deterministic(checkout: Checkout) -> None:
    (checkout.root / "switching.py").write_text(SWITCHING)
    code, _, err = checkout.train("--exp", "switching.py")
    record = checkout.last()[1]
    line = "torch.backends.cudnn.benchmark is True; expected False at determinism level machine (at step 2)"
    assert (code, record.circumstances.determinism_at_end) == (0, [line]), err
    assert (record.ingredients.determinism.level, record.promise) == ("machine", "off")
    assert f"determinism level machine no longer holds: {line}" in err


def test_a_plain_net_is_recorded_as_watched(checkout: Checkout) -> None:
    code, _, err = checkout.train("--max-steps", "2")
    record = checkout.last()[1]
    assert (code, record.circumstances.determinism_at_end, record.promise) == (0, [], "machine"), err


def test_a_record_lists_the_imported_files_of_the_source(checkout: Checkout) -> None:
    records = []
    for text in ("one", "two"):
        (checkout.root / "NOTES.md").write_text(text)
        code, _, err = checkout.train("--max-steps", "1")
        assert code == 0, err
        records.append(checkout.last()[1])
    one, two = (record.circumstances.imported for record in records)
    assert one is not None
    assert one == two
    assert records[0].identity != records[1].identity
    assert {"dots.py", "trainer/training/fit.py"} <= set(one.files)
    assert all(path.endswith(".py") for path in one.files)
    assert not any("switching" in path or path.startswith(("tests/", ".venv")) for path in one.files)
