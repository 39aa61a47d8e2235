"""What each choice of the recipe is worth, one at a time, and what no regressor can beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.arms import SHIPPED_ARM
from fr_lib.corpus import Corpus
from fr_lib.evaluate.loso import Progress, bootstrap_interval, metrics, run_loso, summary
from fr_lib.evaluate.rivals import (
    MAP,
    leave_one_out,
    linear,
    map_of_v061,
    mean_of_rows,
    own_formula,
)
from fr_lib.schema import BY_63, CONSTANT, MINMAX
from fr_lib.train import Recipe, beside

# Changes against the default, one at a time.
CHOICES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "made rows": ({"made_per_row": 0}, {"made_per_row": 3}),
    "ends of the scale": ({"censored": False},),
    "dropout": ({"dropout": 0.1},),
    "weight decay": ({"weight_decay": 0.0}, {"weight_decay": 1e-3}),
    "hidden width": ({"hidden": 16}, {"hidden": 32}),
    "batch": ({"batch": 64}, {"batch": 256}),
    "epochs": ({"epochs": 15}, {"epochs": 90}),
    "learning rate": ({"schedule": "constant"}, {"lr": 5e-3}, {"lr": 2e-2}),
}


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


def run_ablation(
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

    runs = [("default", "as it ships", recipe, BY_63)]
    runs += [
        (choice, label(change), replace(recipe, **change), BY_63)
        for choice, changes in CHOICES.items()
        for change in changes
        if corpus.taught_by.formula or not change.get("made_per_row")
    ]
    runs += [("quality normalisation", f"crf {norm}", recipe, norm) for norm in (MINMAX, CONSTANT)]
    runs += [
        ("adr0319", "real rows alone, as ADR-0319 has it", beside("adr0319", recipe), BY_63),
        ("reference", "the same with dropout, as its code", beside("reference", recipe), BY_63),
    ]
    rows = []
    with keep_processes():
        for k, (choice, name, variant, norm) in enumerate(runs):
            result = run_loso(
                corpus,
                variant,
                [seed],
                [SHIPPED_ARM],
                crf_norm=norm,
                device=device,
                progress=_nth(progress, k, len(runs), name),
            )
            rows.append({"choice": choice, "name": name} | _figures(result.of(SHIPPED_ARM)))
    return {"rows": rows, "baselines": baselines(corpus), "ceiling": ceiling(corpus)}


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

    The mean of the training rows, a linear regression on the six features, and the teacher's own
    formula, which is trained on nothing here; where it has none, the best map of VMAF v0.6.1.
    """
    teacher, last = corpus.taught_by, (MAP, map_of_v061)
    if teacher.formula:
        last = (f"{teacher.title}, its own formula", own_formula(teacher))
    records = []
    for name, fit in (
        ("mean of the training rows", mean_of_rows),
        ("linear regression", linear),
        last,
    ):
        rows = leave_one_out(corpus, fit)
        folds = [
            {"held_out": source} | metrics(own["predicted"].to_numpy(), own["vmaf"].to_numpy())
            for source, own in rows.groupby("held_out")
        ]
        records.append({"choice": "baseline", "name": name} | _figures(pd.DataFrame(folds)))
    return records


def ceiling(corpus: Corpus) -> dict[str, Any]:
    """Return what is left of VMAF when its formula is applied to the six features.

    For per-frame rows that is rounding alone, so no regressor has an excuse; for per-encode rows it
    is what averaging the features first costs. None where the teacher has no formula.
    """
    teacher, facts = corpus.taught_by, {"rows": len(corpus.table), "shape": corpus.shape}
    if teacher.formula is None:
        return facts | {"max_abs": None, "rmse": None}
    vmaf = corpus.table["vmaf"].to_numpy()
    left = teacher.formula(corpus.table[list(teacher.features)].to_numpy()) - vmaf
    return facts | {"max_abs": np.abs(left).max(), "rmse": np.sqrt(np.mean(left**2))}
