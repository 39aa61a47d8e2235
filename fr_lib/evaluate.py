"""How well a recipe predicts clips it has not seen: metrics, LOSO, refit, intervals.

LOSO = leave one source out: one fold per reference clip, whose rows no model of that fold sees.
Frames of a clip are not independent, so intervals come from resampling sources, not rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fr_lib.corpus import Corpus
from fr_lib.errors import InputError, say
from fr_lib.recipe import Recipe
from fr_lib.schema import (
    CANONICAL_6,
    ENCODER_VOCAB_V2,
    ENCODER_VOCAB_V3,
    VMAF_RANGE,
    BlockNorm,
    trained_mask,
)

if TYPE_CHECKING:
    from fr_lib.batch import Trained
    from fr_lib.model import ShippedRegressor

Progress = Callable[[str, float], None]

_SIX = tuple(range(len(CANONICAL_6)))
_V3 = tuple(range(6, 6 + len(ENCODER_VOCAB_V3) + 2))
_V2 = tuple(range(_V3[-1] + 1, _V3[-1] + 1 + len(ENCODER_VOCAB_V2) + 2))
# Columns of the input table that each arm sees: codec-blind, 12-slot block, 16-slot block.
ARMS: Mapping[str, tuple[int, ...]] = {"v1": _SIX, "v2": _SIX + _V2, "v3": _SIX + _V3}
SHIPPED_ARM = "v3"
BOOTSTRAP_DRAWS = 10_000
KEY = ["src", "encoder", "preset", "quality", "frame_index", "vmaf"]


def metrics(predicted: np.ndarray, vmaf: np.ndarray) -> dict[str, float]:
    """Compare predictions with VMAF.

    Parameters
    ----------
    predicted, vmaf : (N,) array_like
        VMAF points.

    Returns
    -------
    dict
        ``plcc`` (Pearson), ``srocc`` (Spearman, average ranks for ties), ``rmse`` and ``bias``
        (mean of predicted - vmaf). A correlation of fewer than two rows or of a constant is NaN,
        and so is everything where a value is not finite.

    Examples
    --------
    >>> metrics([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])["rmse"].round(4)
    np.float64(0.5774)
    """
    from scipy.stats import rankdata

    p, v = np.asarray(predicted, dtype=np.float64), np.asarray(vmaf, dtype=np.float64)
    if p.shape != v.shape or p.ndim != 1:
        raise InputError(say("metrics", f"shapes {p.shape} and {v.shape}", "two equal (N,)", "fix"))
    if len(p) == 0 or not (np.isfinite(p).all() and np.isfinite(v).all()):
        return dict.fromkeys(("plcc", "srocc", "rmse", "bias"), math.nan)
    return {
        "plcc": _pearson(p, v),
        "srocc": _pearson(rankdata(p), rankdata(v)),
        "rmse": np.sqrt(np.mean((p - v) ** 2)),
        "bias": np.mean(p - v),
    }


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    # To 0..1 first: the square of a tiny spread would vanish.
    a, b = ((v - v.min()) / np.ptp(v) for v in (a, b))
    return float(np.corrcoef(a, b)[0, 1])


def input_table(corpus: Corpus, norm: BlockNorm | None = None) -> np.ndarray:
    """Return features, v3 block and v2 block side by side: (N, 38) float32, features raw."""
    norm = norm or BlockNorm()
    return np.concatenate(
        [
            corpus.features(),
            corpus.codec_block(norm, ENCODER_VOCAB_V3),
            corpus.codec_block(norm, ENCODER_VOCAB_V2),
        ],
        axis=1,
    )


@dataclass(frozen=True)
class Loso:
    """Out-of-fold evidence.

    Attributes
    ----------
    oof : DataFrame
        One row per corpus row: KEY columns and ``pred_<arm>`` of the first seed, clipped to 0..100.
    folds : DataFrame
        ``seed arm held_out n_train n_val plcc srocc rmse bias``.
    recipe : Recipe
    """

    oof: pd.DataFrame
    folds: pd.DataFrame
    recipe: Recipe

    def of(self, arm: str, seed: int | None = None) -> pd.DataFrame:
        """Return the folds of one arm (default: of the first seed), in order of source."""
        seed = self.folds["seed"].iloc[0] if seed is None else seed
        return self.folds.query("arm == @arm and seed == @seed").reset_index(drop=True)


def loso(
    corpus: Corpus,
    recipe: Recipe,
    seeds: Sequence[int] = (0,),
    arms: Sequence[str] = tuple(ARMS),
    groups: np.ndarray | None = None,
    crf_norm: str = "div63",
    device: str = "auto",
    progress: Progress | None = None,
) -> Loso:
    """Leave each source out once, for every arm and seed, all models trained together.

    Parameters
    ----------
    corpus : Corpus
    recipe : Recipe
    seeds : sequence of int
        The first one gives `oof`.
    arms : sequence of str
        Of ``ARMS``.
    groups : (N,) array of str, optional
        What is left out together; default: the source. Titles cut into several clips belong here.
    crf_norm : {"div63", "minmax", "constant"}
        "minmax" takes its bounds from each fold's training rows; "constant" hides the quality.
    device, progress
        As in :func:`fr_lib.train.train_many`.

    Raises
    ------
    InputError
        With fewer than two groups, groups of another length, no seed, a negative one, or an
        unknown arm.
    """
    from fr_lib.batch import Job
    from fr_lib.train import train_many

    groups = corpus.groups() if groups is None else np.asarray(groups)
    if len(groups) != len(corpus.table):
        raise InputError(
            say("groups", f"{len(groups)}", f"{len(corpus.table)}, one per row", "give that many")
        )
    names = sorted(set(groups))
    if len(names) < 2:
        raise InputError(
            say("LOSO", f"{len(names)} source", "2 or more sources", "add clips to the corpus")
        )
    if not len(seeds) or min(seeds) < 0:
        raise InputError(
            say("seeds", str(list(seeds)), "at least one, each 0 or more", "give some")
        )
    if unknown := set(arms) - set(ARMS):
        raise InputError(
            say("arms", ", ".join(sorted(unknown)), ", ".join(ARMS), "choose among these")
        )
    vmaf = corpus.target()
    plan = [(seed, arm, name) for seed in seeds for arm in arms for name in names]
    kept = {name: groups != name for name in names}
    table, columns = _quality_columns(corpus, kept, crf_norm)
    jobs = [Job(kept[name], columns(arm, name), seed) for seed, arm, name in plan]
    models = train_many(table, vmaf, jobs, recipe, device, progress)
    oof = corpus.table[KEY].copy()
    folds = []
    for (seed, arm, name), model in zip(plan, models, strict=True):
        rows = np.flatnonzero(~kept[name])
        predicted = np.clip(model.predict(table[rows]), *VMAF_RANGE)
        if seed == seeds[0]:
            oof.loc[oof.index[rows], f"pred_{arm}"] = predicted
        folds.append(
            {"seed": seed, "arm": arm, "held_out": name}
            | {"n_train": len(vmaf) - len(rows), "n_val": len(rows)}
            | metrics(predicted, vmaf[rows].astype(np.float64))
        )
    return Loso(oof, pd.DataFrame(folds), recipe)


def _quality_columns(
    corpus: Corpus, kept: Mapping[str, np.ndarray], crf_norm: str
) -> tuple[np.ndarray, Callable[[str, str], tuple[int, ...]]]:
    """Return the input table, and which of its columns an arm sees in a fold.

    Folds whose training rows have the same bounds share one extra quality column.
    """
    table = input_table(corpus)
    if crf_norm == "div63":
        return table, lambda arm, name: ARMS[arm]
    quality = corpus.table["quality"].to_numpy()
    bounds = {name: (0.0, 0.0) for name in kept}
    if crf_norm == "minmax":
        bounds = {n: (quality[rows].min(), quality[rows].max()) for n, rows in kept.items()}
    distinct = sorted(set(bounds.values()))
    extra = [
        BlockNorm(crf_norm="minmax", crf_min=low, crf_max=high).crf(quality)
        if high > low
        else np.zeros(len(quality), dtype=np.float32)
        for low, high in distinct
    ]
    place = {pair: table.shape[1] + k for k, pair in enumerate(distinct)}

    def columns(arm: str, name: str) -> tuple[int, ...]:
        return ARMS[arm] if arm == "v1" else (*ARMS[arm][:-1], place[bounds[name]])

    return np.column_stack([table, *extra]), columns


def summary(folds: pd.DataFrame) -> dict[str, Any]:
    """Return the figures over folds that gate and sidecar use.

    A fold without a finite metric makes the mean NaN; it is never left out.
    """
    plcc, rmse = folds["plcc"].to_numpy(), folds["rmse"].to_numpy()
    worst = int(np.argmax(np.nan_to_num(-plcc, nan=np.inf)))
    worst_rmse = int(np.argmax(np.nan_to_num(rmse, nan=np.inf)))
    return {
        "mean_plcc": plcc.mean(),
        "std_plcc": plcc.std(),
        "min_plcc": plcc.min(),
        "max_plcc": plcc.max(),
        "mean_srocc": folds["srocc"].to_numpy().mean(),
        "mean_rmse": rmse.mean(),
        "max_rmse": rmse.max(),
        "worst_source": folds["held_out"].iloc[worst],
        "worst_rmse_source": folds["held_out"].iloc[worst_rmse],
    }


def bootstrap_interval(
    per_source: np.ndarray, draws: int = BOOTSTRAP_DRAWS, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over sources.

    Parameters
    ----------
    per_source : (S,) array_like
        One figure per source.
    """
    values = np.asarray(per_source, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(folds: pd.DataFrame, arm: str, baseline: str, column: str) -> dict[str, Any]:
    """Return the mean of `arm` - `baseline` over sources, with its bootstrap interval."""
    # Seeds are averaged; an undefined one makes its source's figure undefined.
    wide = folds.groupby(["held_out", "arm"])[column].mean(skipna=False).unstack("arm")
    difference = (wide[arm] - wide[baseline]).to_numpy()
    low, high = bootstrap_interval(difference)
    return {
        "arm": arm,
        "baseline": baseline,
        "metric": column,
        "mean": difference.mean(),
        "low": low,
        "high": high,
        "per_source": dict(zip(wide.index, difference, strict=True)),
    }


def calibration(oof: pd.DataFrame, arm: str = SHIPPED_ARM, width: int = 10) -> pd.DataFrame:
    """Return rows, bias, RMSE and the 5 % and 95 % residual per range of VMAF.

    Parameters
    ----------
    oof : DataFrame
        As in :class:`Loso`.
    arm : str
    width : int
        Of a range, VMAF points; the last one includes 100.
    """
    residual = oof[f"pred_{arm}"] - oof["vmaf"]
    low = (oof["vmaf"].clip(upper=VMAF_RANGE[1] - 1e-9) // width * width).astype(int)
    grouped = residual.groupby(low)
    return pd.DataFrame(
        {
            "low": sorted(low.unique()),
            "rows": grouped.size().to_numpy(),
            "bias": grouped.mean().to_numpy(),
            "rmse": np.sqrt((residual**2).groupby(low).mean()).to_numpy(),
            "p05": grouped.quantile(0.05).to_numpy(),
            "p95": grouped.quantile(0.95).to_numpy(),
        }
    )


def worst_frames(corpus: Corpus, oof: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Return the rows that the shipping arm misses by most, undefined ones first."""
    residual = (oof[f"pred_{SHIPPED_ARM}"] - oof["vmaf"]).rename("residual")
    order = residual.abs().sort_values(ascending=False, kind="stable", na_position="first")
    worst = order.index[:count]
    shown = [*KEY, *CANONICAL_6]
    return corpus.table.loc[worst, shown].assign(residual=residual.loc[worst])


def by_title(
    corpus: Corpus,
    titles: Mapping[str, str],
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Repeat LOSO with sources of one title left out together.

    Parameters
    ----------
    titles : mapping
        Source to title, as the audit groups them.

    Returns
    -------
    dict or None
        Figures of the shipping arm; None where every source is its own title, or all are one.
    """
    groups = corpus.table["src"].map(titles).to_numpy()
    count = len(set(groups))
    if count == len(corpus.sources()) or count < 2:
        return None
    result = loso(corpus, recipe, [seed], [SHIPPED_ARM], groups, device=device, progress=progress)
    return {"titles": count, "summary": summary(result.of(SHIPPED_ARM))}


def loso_report(result: Loso) -> dict[str, Any]:
    """Return what ``loso.json`` holds: folds and figures per arm, intervals, lift, seeds.

    Intervals are percentile bootstraps over sources (95 %) of the first seed's means.
    """
    first = result.folds["seed"].iloc[0]
    arms = {}
    for arm in result.folds["arm"].unique():
        folds = result.of(arm)
        arms[arm] = {
            "folds": folds.drop(columns=["seed", "arm"]).to_dict(orient="records"),
            "summary": summary(folds),
            "intervals": {
                column: bootstrap_interval(folds[column]) for column in ("plcc", "srocc", "rmse")
            },
            "seed_mean_plcc": {
                str(seed): summary(result.of(arm, seed))["mean_plcc"]
                for seed in result.folds["seed"].unique()
            },
        }
    own = result.folds[result.folds["seed"] == first]
    others = [arm for arm in arms if arm != SHIPPED_ARM]
    return {
        "recipe": result.recipe.as_dict(),
        "seeds": result.folds["seed"].unique().tolist(),
        "arms": arms,
        "paired": [
            paired_difference(own, SHIPPED_ARM, other, column)
            for other in others
            for column in ("plcc", "rmse")
        ],
        "calibration": calibration(result.oof),
    }


def refit(
    corpus: Corpus,
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[ShippedRegressor, Trained]:
    """Train v1 and v3 on every row and join them into the graph that ships.

    Returns
    -------
    graph : ShippedRegressor
    aware : Trained
        v3 with its scaler, which v1 shares, as both saw the same rows.
    """
    import torch

    from fr_lib.batch import Job
    from fr_lib.model import ShippedRegressor
    from fr_lib.train import train_many

    rows = np.ones(len(corpus.table), dtype=bool)
    jobs = [Job(rows, ARMS[arm], seed) for arm in ("v1", SHIPPED_ARM)]
    blind, aware = train_many(input_table(corpus), corpus.target(), jobs, recipe, device, progress)
    mask = torch.from_numpy(trained_mask(corpus.rows_per_slot()))
    return ShippedRegressor(blind.model, aware.model, mask).eval(), aware
