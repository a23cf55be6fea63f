"""`reprise certify` rejects runs without observable results before it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import UsageError
from trainer.cli import certify
from trainer.cli.certify import kill_point, main
from trainer.comparison.trace import last_written_step

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["resume", "digits", "--steps", "12", "--kill-after", "12"],
            "--kill-after is 12, but the run has 12 steps",
        ),
        (
            ["resume", "digits", "--max-steps", "12", "--kill-after", "13"],
            "has 12 steps: no step would follow the resume",
        ),
        (["resume", "digits", "--kill-after", "0"], "--kill-after is 0; expected 1 or more"),
        (
            ["resume", "digits", "--steps", "1"],
            "the run has 1 step; a resume needs one step before the kill and one step after it",
        ),
        (["rerun", "digits", "--kill-after", "3"], "certify rerun kills no run"),
        (["rerun", "digits", "--steps", "0"], "--steps is 0; expected 1 or more"),
        (["elastic", "digits", "--devices", "2"], "--devices is not accepted"),
        (["elastic", "digits", "--shards", "1"], "--shards is 1; certify elastic needs 2 or more"),
        (["rerun", "digits", "--trace", "off"], "--trace is off, but a certificate is based on the trace"),
    ],
)
def test_nothing_is_trained_if_nothing_can_be_observed(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(words)


def test_settings_of_the_environment_are_included(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_SETTING_TRACE", "off")
    with pytest.raises(UsageError, match="--trace is off"):
        main(["rerun", "digits"])


def test_an_error_names_the_last_possible_kill() -> None:
    with pytest.raises(UsageError) as error:
        kill_point(12, steps=12)
    assert error.value.hint == "--kill-after 1 to 11; or train for more steps"


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        ("", 0),
        ('{"format":1}\n', 0),
        ('{"format":1}\n{"step":2,"x":1}\n{"evaluation":"val"}\n{"step":4,"x":1}\n{"step":6', 4),
    ],
)
def test_the_last_complete_step_of_a_trace_is_returned(tmp_path: Path, lines: str, step: int) -> None:
    """Manual optimization can record two steps for each batch."""
    (tmp_path / "trace.jsonl").write_text(lines)
    assert last_written_step(tmp_path / "trace.jsonl") == step


def test_the_option_of_jobs_is_not_in_the_help() -> None:
    assert "--first-run" not in certify._parser().format_help()
