"""Each wrong net is detected by the check named after its fault; the correct net passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.checking import run_checks_on
from trainer.training.check_result import CheckStatus, names_of
from trainer.training.checks import CHECKS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
TEMPLATE: Final = """
import itertools
import torch
from torch import Tensor, nn
from trainer.settings.ledger import configured, call_configured
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "digits"
    classes = {classes}
    learning_rate = 1e-2
    {own}

@configured
def opened(samples, *, gain: float):
    return samples if gain else None

class Net(Classifier):
    {declared}

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear({inputs}, 16))
        self.head = nn.Linear(16, classes)
        {made}

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body(images)
        {passed}
        scores = self.head(torch.relu(hidden))
        {ended}
        return scores
    {more}
"""
RIGHT: Final = {
    "classes": "10",
    "inputs": "64",
    "own": "",
    "declared": "",
    "made": "",
    "passed": "",
    "ended": "",
    "more": "",
}
WRONG: Final[dict[str, tuple[dict[str, str], str, str]]] = {
    "shape": ({"inputs": "65"}, "forward", "(32x64 and 65x16), in body.1 (Linear), given float32[32, 64]"),
    "NaN": ({"passed": "hidden = hidden.log()"}, "finite", "of the output of a new net, first in the net itself (Net)"),
    "frozen layer": (
        {"made": "self.body.requires_grad_(False)"},
        "gradients",
        "frozen (requires_grad is False): weight and bias of body.1 (Linear)",
    ),
    "unused layer": ({"made": "self.spare = nn.Linear(2, 2)"}, "gradients", "weight and bias of spare (Linear)"),
    "detached layer": (
        {"passed": "hidden = hidden.detach()"},
        "gradients",
        "only zero gradients reach weight and bias of body.1 (Linear)",
    ),
    "optimizer that forgets": (
        {"more": "def configure_optimizers(self): return torch.optim.SGD(self.head.parameters(), lr=1.0)"},
        "gradients",
        "weight and bias of body.1 (Linear) gets gradients, but no step changes it",
    ),
    "leak across the batch": (
        {"ended": "scores = scores - scores.mean(0)"},
        "batch order",
        "depends on the other samples of its batch, first in the net itself (Net)",
    ),
    "reshape across the batch": (
        {"passed": "hidden = hidden.reshape(2, -1, 16).transpose(0, 1).reshape(-1, 16)"},
        "batch order",
        "",
    ),
    "train in eval": (
        {"passed": "hidden = nn.functional.dropout(hidden)"},
        "evaluation",
        "different outputs, first in the net itself (Net)",
    ),
    "train() in forward": ({"passed": "self.train()"}, "evaluation", "switches to training mode: the net"),
    "buffer written in eval": (
        {"made": "self.register_buffer('seen', torch.zeros(()))", "passed": "self.seen += 1"},
        "evaluation",
        "changes seen",
    ),
    "non-finite gradient": (
        {"passed": "hidden = hidden + (hidden * 0).sqrt()"},
        "finite gradients",
        "the gradient of weight and bias of body.1 (Linear) is not finite at step 1",
    ),
    "mismatch of classes": ({"classes": "9"}, "targets", "setting classes is 9; 'label' of dataset digits has 10"),
    "loss that does not fall": (
        {"more": "def make_loss(self): return lambda scores, labels: (scores - scores.detach()).sum() + 1.0"},
        "one batch",
        "loss 1 to 1",
    ),
    "broken save": (
        {"made": "self.basis = torch.randn(16)", "passed": "hidden = hidden * self.basis"},
        "save and load",
        "other outputs",
    ),
    "broken load": (
        {"more": "def state_dict(self, **_): return {'head.bias': self.head.bias}"},
        "save and load",
        "cannot be loaded: Missing key(s)",
    ),
    "state in no checkpoint": (
        {
            "made": "self.steps = itertools.count(1)",
            "passed": "hidden = hidden / next(self.steps) if self.training else hidden",
        },
        "resume",
        "the resumed training differs in body.1.bias",
    ),
    "state that no checkpoint can hold": (
        {"more": "def on_save_checkpoint(self, checkpoint): checkpoint['lock'] = __import__('threading').Lock()"},
        "save and load",
        "lock is a _thread.lock, which a checkpoint cannot hold",
    ),
    "branch on values": (
        {"passed": "hidden = hidden if hidden.sum() > 0 else -hidden"},
        "export",
        "torch.export failed at wrong.py:29: ",
    ),
}
SLOW: Final = {"resume", "export", "several devices"}
EIGHT: Final = {
    "shape",
    "NaN",
    "frozen layer",
    "leak across the batch",
    "train in eval",
    "non-finite gradient",
    "mismatch of classes",
    "broken save",
}
"""Faults that every test run covers; the other faults are further examples of the same kinds."""


def experiment_text(wrong: dict[str, str]) -> str:
    return TEMPLATE.format(**(RIGHT | wrong))


@pytest.mark.parametrize(
    "name", [name if name in EIGHT else pytest.param(name, marks=pytest.mark.long) for name in WRONG]
)
def test_each_faulty_net_fails_its_check(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, check, message = WRONG[name]
    file = tmp_path / "wrong.py"
    file.write_text(experiment_text(what))
    findings = run_checks_on(file, tmp_path, monkeypatch, without=SLOW - {check}, to_first=True)
    names = names_of(list(findings.values()), CheckStatus.FAILED)
    assert names == [check], findings
    assert message in findings[check].message
    assert findings[check].hint


def test_a_correct_net_passes_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"declared": "frozen = ('body',)", "made": "self.body.requires_grad_(False)", "own": "gain: float = 1.0"}
    right["more"] = (
        "def samples(self, declared, files): return call_configured(opened, super().samples(declared, files))"
    )
    file = tmp_path / "right.py"
    file.write_text(experiment_text(right))
    findings = run_checks_on(file, tmp_path, monkeypatch)
    other = {finding.check for finding in findings.values() if finding.status is not CheckStatus.PASSED}
    assert other == {"causality"}, findings  # the output of a classifier has no positions
    assert list(findings) == list(CHECKS)
    assert "body frozen on purpose" in findings["gradients"].message


MANUAL: Final = {
    "made": "self.automatic_optimization = False",
    "more": """
    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, index))
        optimizer.step()
""",
}


def test_a_net_with_manual_optimization_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "idea.py").write_text(TEMPLATE.format(**RIGHT | MANUAL))
    findings = run_checks_on(
        tmp_path / "idea.py", tmp_path, monkeypatch, without={"declared", "export", "several devices"}
    )
    assert names_of(list(findings.values()), CheckStatus.FAILED) == []
    assert findings["targets"].message.startswith("each metric of val and test")
    assert "all 4 parameters get gradients and change" in findings["gradients"].message


def test_two_losses_per_step_are_not_treated_as_one_decreasing_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = MANUAL["more"].replace(
        "        optimizer.step()", "        self.manual_backward(-self.head.bias.sum())\n        optimizer.step()"
    )
    (tmp_path / "idea.py").write_text(TEMPLATE.format(**RIGHT | MANUAL | {"more": twice}))
    findings = run_checks_on(
        tmp_path / "idea.py", tmp_path, monkeypatch, without={"declared", "export", "resume", "several devices"}
    )
    assert findings["one batch"].status is CheckStatus.SKIPPED


@pytest.mark.parametrize(
    ("changed", "check", "message"),
    [
        ({"made": "del self.body, self.head"}, "settings", "has no parameters"),
        (
            {"made": "self.w = nn.Parameter(torch.randn(9, dtype=torch.complex64))"},
            "settings",
            "parameter w is complex64",
        ),
        ({"ended": "raise ValueError('mine')"}, "forward", "the experiment raised ValueError: mine"),
        (
            {"more": "def configure_optimizers(self): raise ValueError('mine')"},
            "finite",
            "the experiment raised ValueError: mine",
        ),
    ],
)
def test_one_cause_is_one_failure_without_unrelated_hints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], check: str, message: str
) -> None:
    (tmp_path / "idea.py").write_text(TEMPLATE.format(**RIGHT | changed))
    findings = run_checks_on(tmp_path / "idea.py", tmp_path, monkeypatch, without={"declared"})
    assert names_of(list(findings.values()), CheckStatus.FAILED) == [check]
    assert message in findings[check].message
    assert "learning rate" not in str(findings[check].hint)


@pytest.mark.parametrize(
    ("ending", "what"), [("softmax(1)", "probabilities"), ("div(50).sigmoid()", "values within 0 and 1")]
)
def test_probabilities_in_place_of_scores_are_noted_if_one_batch_is_not_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, what: str
) -> None:
    (tmp_path / "idea.py").write_text(TEMPLATE.format(**RIGHT | {"ended": f"scores = scores.{ending}"}))
    needed = {"settings", "data", "forward", "targets", "finite", "finite gradients", "one batch"}
    findings = run_checks_on(tmp_path / "idea.py", tmp_path, monkeypatch, without=set(CHECKS) - needed)
    assert findings["targets"].status is CheckStatus.NOTED
    assert f"Net.forward returns {what}" in findings["targets"].message
    assert findings["one batch"].status is CheckStatus.FAILED
    ends = ending.rpartition("(")[0].rpartition(".")[2]
    assert f"remove {ends} from the end of `forward`" in str(findings["one batch"].hint)
