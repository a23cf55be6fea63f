"""A NaN or infinite loss ends a run at its step, also with manual optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.small_training import CLASSIFIER, Small
from trainer.base.errors import NotFiniteError
from trainer.settings.ledger import Ledger, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.finite_losses import require_finite
from trainer.training.settings import ClassificationSettings, FitSettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
STEP = """
    @property
    def automatic_optimization(self):
        return False

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = super().training_step(batch, index)
        broken = loss * torch.nan if index == 1 else loss
        %s
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        ("self.manual_backward(broken)", "the training loss of step 2 is nan; the last finite loss was 0.7"),
        (
            "self.manual_backward(loss, retain_graph=True); self.manual_backward(broken)",
            "the training loss of step 2 is nan;",
        ),
        ("broken.backward()", "parameter layers.weight has NaN or infinity after step 2; the step's loss is not known"),
    ],
)
def test_nan_with_manual_optimization_ends_the_run_at_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backward: str, message: str
) -> None:
    error = Small(place=tmp_path, code=CLASSIFIER + STEP % backward).failed(monkeypatch)
    assert isinstance(error, NotFiniteError), error
    assert error.message.startswith(message)
    assert "--no-terminate-on-nan" in str(error.hint)


def test_manual_optimization_may_continue_after_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(place=tmp_path, code=CLASSIFIER + STEP % "self.manual_backward(loss)")
    assert small.train(monkeypatch).steps == 3
    broken = Small(place=tmp_path, code=CLASSIFIER + STEP % "self.manual_backward(broken)")
    assert broken.train(monkeypatch, "--no-terminate-on-nan").steps == 3


class Plain(FitSettings):
    lr: float = 0.1


class Rateless(FitSettings):
    width: int = 1


class OfTask(ClassificationSettings):
    dataset: str = "d"
    classes: int = 2


@pytest.mark.parametrize(
    ("settings", "rate"), [(OfTask, "--learning-rate"), (Plain, "--lr"), (Rateless, "learning rate")]
)
def test_the_hint_names_the_experiments_own_learning_rate(settings: type[FitSettings], rate: str) -> None:
    resolved = resolve(settings, Origins(options=parse_options([]), environ={}))
    with use_ledger(Ledger(resolved)), pytest.raises(NotFiniteError) as caught:
        require_finite({"val_loss": float("nan")}, None)
    assert str(caught.value.hint).startswith(f"if training diverges, try a lower {rate}, --clip-norm 1")
