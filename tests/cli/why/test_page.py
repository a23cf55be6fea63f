"""How an attribution is worded."""

from __future__ import annotations

import pytest

from trainer.cli.why.page import Explanation, page
from trainer.comparison.attribution import Attribution, Match, Swap
from trainer.comparison.trace import Difference, Stream

DROPOUT, SOURCE = Swap("setting", "dropout"), Swap("source")
DIFFERENCE = Difference(step=1, stream=Stream.FORWARD, a="1", b="2")


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (Match.NONE, "not all of them can be run alone; together"),
        (Match.OTHER, "each alone goes a third way; together"),
        (Match.A, "not all of them alone; together"),
    ],
)
def test_a_hybrid_that_cannot_be_run_differs_from_one_that_matches_neither_run(dropout: Match, message: str) -> None:
    matches = {DROPOUT: dropout, SOURCE: Match.OTHER}
    attribution = Attribution(sets=(frozenset(matches),), confirmed=True, matches=matches)
    explanation = Explanation(attribution=attribution, difference=DIFFERENCE, through=3, unswapped=(), notes=())
    lines = list(page(explanation))
    assert message in lines[0]
    assert any(line.split() == ["setting", "dropout", "goes", *str(dropout).split()] for line in lines)
