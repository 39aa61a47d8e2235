"""Corpora of any size, drawn from real rows: for measuring speed and memory, never accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from fr_lib.corpus import vmaf_from_features
from fr_lib.schema import CANONICAL_6

# Relative noise on each feature, so that no two rows are equal and no two sources look like twins.
JITTER = 2e-3


def resampled(table: pd.DataFrame, rows: int, sources: int, seed: int) -> pd.DataFrame:
    """Return :func:`resampled_sources` as one table."""
    return pd.concat(resampled_sources(table, rows, sources, seed), ignore_index=True)


def resampled_sources(
    table: pd.DataFrame, rows: int, sources: int, seed: int
) -> Iterator[pd.DataFrame]:
    """Yield made-up sources, one table each, that together have `rows` rows.

    Rows are drawn from `table` with replacement; features get noise, and VMAF is the teacher's
    formula of what comes out. They are labelled as synthetic.

    Parameters
    ----------
    table : DataFrame
        ``Corpus.table`` of a per-frame corpus.
    rows, sources : int
        At least as many rows as sources.
    seed : int
    """
    rng = np.random.default_rng(seed)
    sizes = np.full(sources, rows // sources)
    sizes[: rows % sources] += 1
    for number, size in enumerate(sizes):
        drawn = table.iloc[rng.integers(0, len(table), size)].reset_index(drop=True)
        name = f"resampled_{number:04d}"
        noise = 1 + JITTER * rng.standard_normal((size, len(CANONICAL_6)))
        features = (drawn[list(CANONICAL_6)].to_numpy() * noise).round(6)
        drawn["src"] = name
        # A running number keeps every key unique, however often a row was drawn.
        drawn["frame_index"] = np.arange(size)
        drawn[list(CANONICAL_6)] = features
        drawn["vmaf"] = vmaf_from_features(features).round(6)
        if "src_sha256" in drawn:
            drawn["src_sha256"] = hashlib.sha256(name.encode()).hexdigest()
        yield drawn.assign(synthetic=True)


def as_file_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of ``Corpus.table`` as the corpus maker writes them."""
    return table.drop(columns="preset_ordinal").rename(columns={"quality": "cq"})
