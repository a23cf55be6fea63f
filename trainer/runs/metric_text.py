"""Format a metric: four decimals, or scientific notation for very small and very large values."""

from __future__ import annotations

from typing import Final

_SMALL: Final = 1e-3
_LARGE: Final = 1e6


def metric_text(value: float) -> str:
    """Return a metric's value as text for a line of output.

    >>> [metric_text(value) for value in (0.97, 0.0, -123.4, 0.00001234, 1.5e30, float("nan"))]
    ['0.9700', '0.0000', '-123.4000', '1.234e-05', '1.500e+30', 'nan']
    """
    return f"{value:.4f}" if value == 0 or _SMALL <= abs(value) < _LARGE else f"{value:.3e}"
