"""How many digits of a figure people are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fr_lib.errors import NOT_MEASURED, text


def points(value: float | None, sign: str = "") -> str:
    """Return VMAF points with three significant digits, but no more than four decimals.

    What would be zero then has its power of ten, and what is missing has words.

    Examples
    --------
    >>> points(0.03037), points(21.6587), points(-0.5, "+"), points(None)
    ('0.0304', '21.7', '-0.500', 'not measured')
    """
    size = 0.0 if value is None else abs(value)
    if 0 < size < 0.0001:
        return text(value, f"{sign}.1e")
    digits = sum(size < limit for limit in (99.95, 9.995, 0.9995, 0.09995))
    return text(value, f"{sign}.{digits}f")


def correlations(values: Sequence[float | None]) -> list[str]:
    """Return correlations with as many digits, 5 to 9, as tell the best of them from 1.

    Examples
    --------
    >>> correlations([0.9999979, 0.99, None])
    ['0.999998', '0.990000', 'not measured']
    """
    missing = [1 - value for value in values if value is not None and 1e-9 < 1 - value < 1]
    digits = min(9, max(5, math.ceil(-math.log10(min(missing, default=1.0)))))
    return [text(value, f".{digits}f") for value in values]


def between(low: float | None, high: float | None, sign: str = "") -> str:
    """Return an interval in VMAF points, or words where there is none."""
    return NOT_MEASURED if low is None else f"{points(low, sign)} to {points(high, sign)}"
