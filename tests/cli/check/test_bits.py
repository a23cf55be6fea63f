"""`reprise check --bits` reports the steps that it observed."""

from __future__ import annotations

import pytest

from trainer.base.errors import RunError
from trainer.cli.check.bits import require_steps
from trainer.comparison.observation import Kind, ObservedValue


def test_observed_steps_are_counted() -> None:
    values = [
        ObservedValue(0, Kind.START, "w", 1, "0"),
        ObservedValue(1, Kind.BATCH, "", 1, "0"),
        ObservedValue(2, Kind.BATCH, "", 1, "0"),
    ]
    assert require_steps(values) == 2


@pytest.mark.parametrize("values", [[], [ObservedValue(0, Kind.START, "w", 1, "0")]])
def test_without_a_step_nothing_is_called_clean(values: list[ObservedValue]) -> None:
    with pytest.raises(RunError, match="the run took no step"):
        require_steps(values)
