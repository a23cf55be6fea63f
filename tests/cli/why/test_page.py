"""How an attribution is worded."""

from __future__ import annotations

import pytest

from trainer.cli.why.page import page
from trainer.comparison.attribution import Attribution, Swap, Way
from trainer.comparison.trace import Difference, Stream

DROPOUT, SOURCE = Swap("setting", "dropout"), Swap("source")
PARTING = Difference(step=1, stream=Stream.FORWARD, a="1", b="2")


@pytest.mark.parametrize(
    ("dropout", "said"),
    [
        (Way.NONE, "not all of them can be run alone; together"),
        (Way.OTHER, "each alone goes a third way; together"),
        (Way.A, "not all of them alone; together"),
    ],
)
def test_what_could_not_be_run_is_not_told_as_seen(dropout: Way, said: str) -> None:
    """A setting that A's source does not have goes nowhere, which is another thing than a third way."""
    ways = {DROPOUT: dropout, SOURCE: Way.OTHER}
    found = Attribution(sets=(frozenset(ways),), confirmed=True, ways=ways)
    lines = list(page(found, PARTING, through=3, rest=(), notes=()))
    assert said in lines[0]
    assert any(line.split() == ["setting", "dropout", "goes", *str(dropout).split()] for line in lines)
