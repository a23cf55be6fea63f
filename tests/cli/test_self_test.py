"""The self-test of the integrity code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import CheckFailedError
from trainer.cli import main
from trainer.cli.self_test import self_test

if TYPE_CHECKING:
    from pathlib import Path


def test_the_self_test_counts_accepted_and_rejected_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["_self_test"]) == 0
    assert json.loads(capsys.readouterr().out) == {"accepted": 10, "rejected": 42}


@pytest.mark.parametrize(
    ("function", "broken", "case"),
    [
        ("trainer.base.digest._representable", str, "canonical JSON"),
        ("trainer.base.paths._part_fault", lambda _: None, "path '../a'"),
        ("trainer.base.no_follow.FILE_FLAGS", 0, "reading link"),
        ("trainer.source.archive.repository_parts", lambda _: set(), ".git/config"),
        ("trainer.source.archive.collision", lambda _: None, "a a"),
        ("trainer.source.archive._entry_fault", lambda _: None, "a link"),
        ("trainer.data.manifest._Sums.add", lambda *_: None, "a manifest"),
        ("trainer.stores.memory.verify", lambda *_, **__: None, "an upload"),
    ],
)
def test_a_broken_check_fails_the_self_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, broken: object, case: str
) -> None:
    monkeypatch.setattr(function, broken)
    with pytest.raises(CheckFailedError, match=case):
        self_test(tmp_path)
