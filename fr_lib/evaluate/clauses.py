"""A clause of the gate: limit, value, status and reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEAN_PLCC = 0.95
WORST_PLCC = 0.85
MIN_SOURCES = 3
# A mean of decimals is off by some 1e-16: three folds of 0.95 must pass ">= 0.95".
DIGITS = 12
PASS, FAIL = "pass", "fail"
# What every text about a model whose gate failed says, its sidecar and registry row included.
RETRAIN_PENDING = "v3 retrain pending"


@dataclass(frozen=True)
class Clause:
    """One clause of the gate.

    Attributes
    ----------
    name, source : str
        What is asked, and which decision record asks it.
    limit : str
        The limit in words, with its comparison.
    value : float or None
        What was measured; None where nothing could be.
    status : {"pass", "fail", "not measured"}
    blocks : bool
        Whether a failure keeps the model from shipping.
    reason : str
        One sentence for the reader.
    """

    name: str
    limit: str
    value: float | None
    status: str
    blocks: bool
    reason: str
    source: str


def _limit(ok: bool) -> str:
    return PASS if ok else FAIL


def _at_least(value: float, limit: float) -> bool:
    return round(value, DIGITS) >= limit


def _at_most(value: float, limit: float) -> bool:
    return round(value, DIGITS) <= limit


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
