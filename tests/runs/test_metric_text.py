"""Formatting metrics of any size."""

from __future__ import annotations

import pytest

from trainer.runs.metric_text import metric_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.96724, "0.9672"),
        (-123.4, "-123.4000"),
        (0.001, "0.0010"),
        (0.00001234, "1.234e-05"),
        (1e6, "1.000e+06"),
        (-1.5e30, "-1.500e+30"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
    ],
)
def test_a_value_has_four_decimals_or_an_exponent(value: float, text: str) -> None:
    assert metric_text(value) == text
