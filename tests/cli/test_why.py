"""`reprise why`: the steps that it requires, and the text of an attribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import save_trace
from trainer.base.errors import RunError
from trainer.cli.why import Explanation, page, require_steps
from trainer.comparison.attribution import Attribution, MatchedRun, Swap
from trainer.comparison.trace import FILE, Difference, Stream, read_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_that_ended_before_the_step_has_no_step_option(tmp_path: Path) -> None:
    save_trace(tmp_path, 0.5, 0.4)
    trace = read_trace(tmp_path / FILE)
    require_steps(trace, through=2)
    with pytest.raises(RunError, match="the short run ended after step 2; expected 3 steps"):
        require_steps(trace, through=3)


DROPOUT, SOURCE = Swap("setting", "dropout"), Swap("source")
DIFFERENCE = Difference(step=1, stream=Stream.FORWARD, a="1", b="2")


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (MatchedRun.NONE, "not all of them can be run alone; together"),
        (MatchedRun.OTHER, "each alone matches neither run; together"),
        (MatchedRun.A, "not all of them alone; together"),
    ],
)
def test_a_hybrid_that_cannot_run_is_distinguished_from_one_that_matches_neither_run(
    dropout: MatchedRun, message: str
) -> None:
    matches = {DROPOUT: dropout, SOURCE: MatchedRun.OTHER}
    attribution = Attribution(sets=(frozenset(matches),), confirmed=True, matches=matches)
    explanation = Explanation(attribution=attribution, difference=DIFFERENCE, through=3, unswapped=(), notes=())
    lines = list(page(explanation))
    assert message in lines[0]
    assert any(line.split() == ["setting", "dropout", *str(dropout).split()] for line in lines)
