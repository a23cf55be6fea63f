"""The command `reprise why` names the cause among several differences of real runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.long]
NET: Final = """
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    max_epochs = 1
    batch_size = 8
    left: bool = False
    right: bool = False
    idle: int = 0

class Net(Classifier):
    def __init__(self, *, classes: int, left: bool, right: bool, idle: int) -> None:
        super().__init__()
        self.both = left and right
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images * (2 if self.both else SCALE))
"""


def train(checkout: Checkout, *words: str, scale: int = 1) -> str:
    (checkout.root / "why.py").write_text(NET.replace("SCALE", str(scale)))
    done = checkout.reprise("train", "--exp", "why.py", "--json", "--no-publish", *words)
    assert done.returncode == 0, done.stderr
    run: str = json.loads(done.stdout)["run"]
    return run


def explain(checkout: Checkout, a: str, b: str) -> dict[str, Any]:
    """Return the output of `reprise why` for two runs, and its exit code; assert that its own runs are removed."""
    before = {path.name for path in (checkout.root / "runs").iterdir()}
    done = checkout.reprise("why", a, b, "--no-container", "--json")
    assert {path.name for path in (checkout.root / "runs").iterdir()} == before
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"code": done.returncode}


def test_one_of_two_settings_and_the_source_is_identified(checkout: Checkout) -> None:
    a = train(checkout)
    (checkout.root / "README").write_text("edited")
    b = train(checkout, "--learning-rate", "0.002", "--idle", "3")
    found = explain(checkout, a, b)
    assert (found["code"], found["attributed"], found["confirmed"]) == (0, [["setting learning_rate"]], True), found
    assert found["matches"]["setting idle"] == found["matches"]["source"] == "matches A"


def test_an_edit_of_the_net_is_identified_beside_a_setting(checkout: Checkout) -> None:
    found = explain(checkout, train(checkout), train(checkout, "--idle", "1", scale=3))
    assert (found["attributed"], found["first_difference"]["stream"]) == ([["source"]], "forward"), found


def test_two_settings_with_a_joint_effect_are_named_together(checkout: Checkout) -> None:
    found = explain(checkout, train(checkout), train(checkout, "--left", "--right", "--idle", "2"))
    assert (found["attributed"], found["confirmed"]) == ([["setting left", "setting right"]], True), found
    assert "none alone" in found["summary"]


def test_for_equal_runs_nothing_is_trained(checkout: Checkout) -> None:
    found = explain(checkout, train(checkout), train(checkout))
    assert (found["code"], found["attributed"], found["first_difference"]) == (0, None, None)
