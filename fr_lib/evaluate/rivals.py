"""Predictors that need no network, on the same folds: what a network has to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.corpus import Corpus, Teacher, vmaf_from_features
from fr_lib.schema import VMAF_RANGE

MAP = "isotonic map of VMAF v0.6.1"
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def mean_of_rows(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Predict the mean of the training rows."""
    return np.full(len(asked), y.mean())


def linear(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Predict by a linear regression on the six features."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(x, y).predict(asked)


def map_of_v061(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Predict by an isotonic map of VMAF v0.6.1: the best that one number can do."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(vmaf_from_features(x), y)
    return fitted.predict(vmaf_from_features(asked))


def own_formula(teacher: Teacher) -> Fit:
    """Return what predicts a teacher by its own formula, which is trained on nothing here."""
    return lambda x, y, asked: teacher.formula(asked)


def leave_one_out(corpus: Corpus, fit: Fit) -> pd.DataFrame:
    """Return ``held_out`` and ``predicted`` minus ``vmaf`` of every row, sources left out in turn.

    Parameters
    ----------
    corpus : Corpus
    fit : callable
        From features and VMAF of the training rows and features of the held-out ones to scores,
        which are clipped to 0..100.

    Returns
    -------
    DataFrame
        ``held_out predicted vmaf``, sorted by source.
    """
    x, y = corpus.features().astype(np.float64), corpus.target().astype(np.float64)
    groups = corpus.groups()
    parts = []
    for source in corpus.sources():
        held = groups == source
        score = fit(x[~held], y[~held], x[held])
        parts.append(
            pd.DataFrame(
                {"held_out": source, "predicted": np.clip(score, *VMAF_RANGE), "vmaf": y[held]}
            )
        )
    return pd.concat(parts, ignore_index=True)


def rival(corpus: Corpus) -> dict[str, Any]:
    """Return the mean RMSE over held-out sources of what a network of this corpus has to beat.

    Where the teacher has a formula that is a clipped linear regression on the six features, which
    alone clears a floor of PLCC 0.95; else the best map of the v0.6.1 score.

    Returns
    -------
    dict
        name (str), rmse (float, VMAF points), formula_teacher (bool: whether it has one).
    """
    ours = corpus.taught_by.formula is not None
    rows = leave_one_out(corpus, linear if ours else map_of_v061)
    squares = ((rows["predicted"] - rows["vmaf"]) ** 2).groupby(rows["held_out"]).mean()
    name = "clipped linear regression" if ours else MAP
    return {
        "name": name,
        "rmse": float(np.sqrt(squares).mean()),
        "formula_teacher": ours,
    }
