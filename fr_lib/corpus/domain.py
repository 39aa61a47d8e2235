"""The training range of each feature, and which frames lie beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fr_lib.schema import CANONICAL_6

if TYPE_CHECKING:
    from fr_lib.corpus.load import Corpus


def domain_of(corpus: Corpus) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest value of each feature in the rows of a corpus."""
    table = corpus.table[list(CANONICAL_6)]
    return {name: (float(table[name].min()), float(table[name].max())) for name in table}


def outside_domain(features: np.ndarray, domain: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return which of (N, 6) features lie outside a range per feature: (N, 6) bool."""
    low, high = np.array([domain[name] for name in CANONICAL_6]).T
    return (features < low) | (features > high)
