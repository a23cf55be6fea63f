"""Making ready to go on with a run: what is refused before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.actions.runs import finished
from trainer.cli.resume import again
from trainer.errors import ResumeError
from trainer.origins import take_apart
from trainer.record import Status

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_whose_own_source_is_older_than_resume_is_refused_by_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own source is what would run, and knows nothing of going on."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    run = finished(tmp_path / "runs", status=Status.PREEMPTED).record.run
    with pytest.raises(ResumeError, match="older than --resume"):
        again(take_apart(["--resume", run]))
