"""Every experiment in `trainer/experiments/`, new ones included, passes `reprise check` on synthetic data of its dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checking import ROOT, run_checks_on
from trainer.training.check_result import CheckStatus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
FILES = sorted((ROOT / "trainer/experiments").glob("[!_]*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_it_is_checked(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_checks_on(file, tmp_path, monkeypatch, words=["--batch-size=16"])
    wrong = [finding for finding in findings.values() if finding.status is CheckStatus.FAILED]
    assert not wrong, "\n".join(f"{each.check}: {each.message} (hint: {each.hint})" for each in wrong)
