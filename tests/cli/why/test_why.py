"""What `reprise why` needs to have seen before it says whose way a run goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import save_trace
from trainer.base.errors import RunError
from trainer.cli.why import require_steps
from trainer.comparison.trace import FILE, read_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_that_ended_before_the_step_shows_no_way(tmp_path: Path) -> None:
    save_trace(tmp_path, 0.5, 0.4)
    trace = read_trace(tmp_path / FILE)
    require_steps(trace, through=2)
    with pytest.raises(RunError, match="it ended after step 2; expected 3 steps"):
        require_steps(trace, through=3)
