"""What each choice of the recipe is worth, one at a time, and what no regressor can beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.corpus import Corpus
from fr_lib.evaluate import Progress, bootstrap_interval, loso, metrics, summary
from fr_lib.recipe import RECIPES, Recipe
from fr_lib.schema import CANONICAL_6, VMAF_RANGE
from fr_lib.teacher import vmaf_from_features

# Changes against the default, one at a time.
CHOICES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "dropout": ({"dropout": 0.05}, {"dropout": 0.1}, {"dropout": 0.2}),
    "weight decay": ({"weight_decay": 0.0}, {"weight_decay": 1e-4}, {"weight_decay": 1e-3}),
    "hidden width": ({"hidden": 16}, {"hidden": 32}, {"hidden": 128}),
    "batch": ({"batch": 16}, {"batch": 128}, {"batch": 256}),
    "epochs": ({"epochs": 50}, {"epochs": 100}, {"epochs": 400}),
    "learning rate": ({"schedule": "cosine"}, {"lr": 2e-3}),
}
CRF_NORMS = ("minmax", "constant")


def label(change: Mapping[str, Any]) -> str:
    """Return a change in words, as a row label.

    Examples
    --------
    >>> label({"weight_decay": 0.0})
    'weight decay 0'
    """
    return ", ".join(
        f"{k.replace('_', ' ')} {v:g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
        for k, v in change.items()
    )


def ablation(
    corpus: Corpus,
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run LOSO of the shipping arm for every single change of `recipe`, and the baselines.

    Returns
    -------
    dict
        ``rows``: records with choice, name, mean and worst RMSE, the 95 % interval of the mean
        (bootstrap over sources), mean and worst PLCC, and whether it is the default. ``baselines``:
        the same for mean, linear and VMAF's own formula. ``ceiling``: what the formula leaves.
    """
    from fr_lib.train import keep_processes

    runs = [("default", "as it ships", recipe, "div63")]
    runs += [
        (choice, label(change), replace(recipe, **change), "div63")
        for choice, changes in CHOICES.items()
        for change in changes
    ]
    runs += [("quality normalisation", f"crf {norm}", recipe, norm) for norm in CRF_NORMS]
    runs += [
        ("tuned", "cosine from a learning rate of 0.002", _like(recipe, "tuned"), "div63"),
        ("reference", "dropout 0.1, as its code has it", _like(recipe, "reference"), "div63"),
    ]
    rows = []
    with keep_processes():
        for k, (choice, name, variant, norm) in enumerate(runs):
            result = loso(
                corpus,
                variant,
                [seed],
                ["v3"],
                crf_norm=norm,
                device=device,
                progress=_nth(progress, k, len(runs), name),
            )
            rows.append({"choice": choice, "name": name} | _figures(result.of("v3")))
    return {"rows": rows, "baselines": baselines(corpus), "ceiling": ceiling(corpus)}


def _like(recipe: Recipe, name: str) -> Recipe:
    return replace(RECIPES[name], epochs=recipe.epochs)


def _nth(progress: Progress | None, k: int, n: int, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda message, share: progress(f"{k + 1} of {n}, {name}: {message}", (k + share) / n)


def _figures(folds: pd.DataFrame) -> dict[str, Any]:
    figures = summary(folds)
    low, high = bootstrap_interval(folds["rmse"].to_numpy())
    return {
        "rmse": figures["mean_rmse"],
        "low": low,
        "high": high,
        "worst_rmse": figures["max_rmse"],
        "plcc": figures["mean_plcc"],
        "worst_plcc": figures["min_plcc"],
    }


def baselines(corpus: Corpus) -> list[dict[str, Any]]:
    """Return LOSO figures of predictors that need no network.

    The mean of the training rows, a linear regression on the six features, and VMAF's own formula,
    which is trained on nothing here.
    """
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import LinearRegression

    features, vmaf = corpus.features().astype(np.float64), corpus.target().astype(np.float64)
    groups = corpus.groups()
    formula = vmaf_from_features(features)
    records = []
    for name, fit in (
        ("mean of the training rows", lambda: DummyRegressor()),
        ("linear regression", lambda: LinearRegression()),
        ("VMAF v0.6.1, its own formula", None),
    ):
        folds = []
        for source in corpus.sources():
            held = groups == source
            if fit is None:
                predicted = formula[held]
            else:
                predicted = fit().fit(features[~held], vmaf[~held]).predict(features[held])
            figures = metrics(np.clip(predicted, *VMAF_RANGE), vmaf[held])
            folds.append({"held_out": source} | figures)
        records.append({"choice": "baseline", "name": name} | _figures(pd.DataFrame(folds)))
    return records


def ceiling(corpus: Corpus) -> dict[str, Any]:
    """Return what is left of VMAF when its formula is applied to the six features.

    For per-frame rows that is rounding alone, so no regressor has an excuse; for per-encode rows it
    is what averaging the features first costs.
    """
    vmaf = corpus.table["vmaf"].to_numpy()
    left = vmaf_from_features(corpus.table[list(CANONICAL_6)].to_numpy()) - vmaf
    return {
        "rows": len(left),
        "max_abs": np.abs(left).max(),
        "rmse": np.sqrt(np.mean(left**2)),
        "shape": corpus.shape,
    }
