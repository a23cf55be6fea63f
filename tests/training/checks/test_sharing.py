from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checking import run_checks_on
from tests.training.checks.test_checks import experiment_text
from trainer.training.check_result import CheckStatus
from trainer.training.checks import CHECKS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
NEEDED = {"settings", "data", "forward", "targets", "finite", "several devices"}


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        (
            {"made": "self.norm = nn.BatchNorm1d(16)", "passed": "hidden = self.norm(hidden)"},
            CheckStatus.PASSED,
            "norm normal",
        ),
        (
            {"passed": "self.log('mean', hidden.mean()) if self._trainer else None"},
            CheckStatus.PASSED,
            "2 steps with 2 shards",
        ),
        (
            {
                "made": "self.register_buffer('seen', torch.zeros(()))",
                "passed": "self.seen += 1 if self.training else 0",
            },
            CheckStatus.NOTED,
            "one device only: the net changes its buffer seen in a step",
        ),
    ],
)
def test_the_check_says_whether_devices_can_share_the_batches_of_a_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], status: CheckStatus, message: str
) -> None:
    (tmp_path / "idea.py").write_text(experiment_text(changed))
    words = ("--devices", "2", "--shards", "4")  # the other checks run without shards
    findings = run_checks_on(tmp_path / "idea.py", tmp_path, monkeypatch, words=words, without=set(CHECKS) - NEEDED)
    assert {each.status for each in findings.values() if each.check != "several devices"} == {CheckStatus.PASSED}, (
        findings
    )
    assert findings["several devices"].status is status, findings
    assert message in findings["several devices"].message
