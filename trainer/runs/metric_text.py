"""Metrics as text; by a metric's name, which of two values is better, and whether it was measured on the test split."""

from __future__ import annotations

import re
from typing import Final

_SMALL: Final = 1e-3
_LARGE: Final = 1e6
_SCORES: Final = re.compile(
    "acc|accuracy|auc|auroc|f1|precision|recall|r2|score|correlation|map|bleu|iou|dice", re.IGNORECASE
)
"""Words in the names of metrics for which a higher value is better."""
_OF_TEST: Final = re.compile("test[^A-Za-z0-9]", re.IGNORECASE)
"""The beginning of the name of a metric of the test split: `test_` for a task, usually `test/` or `test_` for a plain module."""


def metric_text(value: float) -> str:
    """Return a metric's value as text for a line of output.

    >>> [metric_text(value) for value in (0.97, 0.0, -123.4, 0.00001234, 1.5e30, float("nan"))]
    ['0.9700', '0.0000', '-123.4000', '1.234e-05', '1.500e+30', 'nan']
    """
    return f"{value:.4f}" if value == 0 or _SMALL <= abs(value) < _LARGE else f"{value:.3e}"


def is_of_test(name: str) -> bool:
    """Return whether a metric's name says that it was measured on the test split.

    >>> [is_of_test(name) for name in ("test_loss", "test/acc", "tested", "val/test")]
    [True, True, False, False]
    """
    return _OF_TEST.match(name) is not None


def is_score(name: str) -> bool:
    """Return whether a metric's name says that a higher value is better.

    >>> [is_score(name) for name in ("val_accuracy", "val/acc", "val_loss", "val_map_error")]
    [True, True, False, False]
    """
    words = re.split("[^A-Za-z0-9]+", name)
    return any(map(_SCORES.fullmatch, words)) and not {"loss", "error"} & {word.lower() for word in words}
