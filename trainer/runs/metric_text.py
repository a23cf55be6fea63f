"""A metric's value for people: four decimals, or in scientific notation where these would show nothing or run on and on."""

from __future__ import annotations

from typing import Final

_SMALL: Final = 1e-3
_LARGE: Final = 1e6


def metric_text(value: float) -> str:
    """Give a value at the precision of a line.

    >>> [metric_text(some) for some in (0.97, 0.0, -123.4, 0.00001234, 1.5e30, float("nan"))]
    ['0.9700', '0.0000', '-123.4000', '1.234e-05', '1.500e+30', 'nan']
    """
    return f"{value:.4f}" if value == 0 or _SMALL <= abs(value) < _LARGE else f"{value:.3e}"
