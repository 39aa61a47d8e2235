"""How well a recipe predicts clips it has not seen: metrics, LOSO, intervals, the final fit.

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

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import Corpus
from fr_lib.errors import InputError, say
from fr_lib.evaluate.rivals import rival
from fr_lib.schema import (
    BY_63,
    CANONICAL_6,
    ENCODER_VOCAB_V2,
    MINMAX,
    NEWEST_VOCAB,
    VMAF_BIN,
    VMAF_RANGE,
    BlockNorm,
    codec_block,
    trained_mask,
    vmaf_bins,
)
from fr_lib.train import DEFAULT_RECIPE, Recipe, beside, recipe_for

if TYPE_CHECKING:
    from fr_lib.train import Job, ShippedRegressor, Trained

Progress = Callable[[str, float], None]

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
        found = f"shapes {p.shape} and {v.shape}"
        raise InputError(
            say("metrics", found, "two equal (N,)", "give one prediction for each score")
        )
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


def input_rows(
    features: np.ndarray, encoders: Sequence[str], ordinals: np.ndarray, quality: np.ndarray
) -> np.ndarray:
    """Return features, newest block and v2 block side by side: (N, C) float32, features raw."""
    blocks = [
        codec_block(encoders, ordinals, quality, vocab=vocab)
        for vocab in (NEWEST_VOCAB, ENCODER_VOCAB_V2)
    ]
    return np.concatenate([np.asarray(features, dtype=np.float32), *blocks], axis=1)


def input_table(corpus: Corpus) -> np.ndarray:
    """Return :func:`input_rows` of every row of a corpus."""
    table = corpus.table
    columns = (table[name].to_numpy() for name in ("encoder", "preset_ordinal", "quality"))
    return input_rows(corpus.features(), *columns)


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
    final : mapping of str to Trained
        Per arm the network of every source, first seed; empty unless asked for.
    """

    oof: pd.DataFrame
    folds: pd.DataFrame
    recipe: Recipe
    final: Mapping[str, Trained]

    def of(self, arm: str, seed: int | None = None) -> pd.DataFrame:
        """Return the folds of one arm (default: of the first seed), in order of source."""
        seed = self.folds["seed"].iloc[0] if seed is None else seed
        return self.folds.query("arm == @arm and seed == @seed").reset_index(drop=True)


def run_loso(
    corpus: Corpus,
    recipe: Recipe,
    seeds: Sequence[int] = (0,),
    arms: Sequence[str] = tuple(ARMS),
    groups: np.ndarray | None = None,
    crf_norm: str = BY_63,
    device: str = "auto",
    progress: Progress | None = None,
    final: bool = False,
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
        As in :func:`fr_lib.train.many.train_many`.
    final : bool
        Train the networks of every source beside the folds, in the same processes.

    Raises
    ------
    InputError
        With fewer than two groups, groups of another length, no seed, a negative one, or an
        unknown arm.
    """
    from fr_lib.train import Job, train_many

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
    whole = _final_jobs(len(vmaf), seeds[0], arms) if final else {}
    models = train_many(table, vmaf, [*jobs, *whole.values()], recipe, device, progress)
    oof = corpus.table[KEY].copy()
    folds = []
    for (seed, arm, name), model in zip(plan, models[: len(jobs)], strict=True):
        rows = np.flatnonzero(~kept[name])
        predicted = np.clip(model.predict(table[rows]), *VMAF_RANGE)
        if seed == seeds[0]:
            oof.loc[oof.index[rows], f"pred_{arm}"] = predicted
        folds.append(
            {"seed": seed, "arm": arm, "held_out": name}
            | {"n_train": len(vmaf) - len(rows), "n_val": len(rows)}
            | metrics(predicted, vmaf[rows].astype(np.float64))
        )
    networks = dict(zip(whole, models[len(jobs) :], strict=True))
    return Loso(oof, pd.DataFrame(folds), recipe, networks)


def _final_jobs(n_rows: int, seed: int, arms: Sequence[str]) -> dict[str, Job]:
    from fr_lib.train import Job

    rows = np.ones(n_rows, dtype=bool)
    return {arm: Job(rows, ARMS[arm].columns, seed) for arm in arms}


def _quality_columns(
    corpus: Corpus, kept: Mapping[str, np.ndarray], crf_norm: str
) -> tuple[np.ndarray, Callable[[str, str], tuple[int, ...]]]:
    """Return the input table, and which of its columns an arm sees in a fold.

    Folds whose training rows have the same bounds share one extra quality column.
    """
    table = input_table(corpus)
    if crf_norm == BY_63:
        return table, lambda arm, name: ARMS[arm].columns
    quality = corpus.table["quality"].to_numpy()
    bounds = {name: (0.0, 0.0) for name in kept}
    if crf_norm == MINMAX:
        bounds = {n: (quality[rows].min(), quality[rows].max()) for n, rows in kept.items()}
    distinct = sorted(set(bounds.values()))
    extra = [
        BlockNorm(crf_norm=MINMAX, crf_min=low, crf_max=high).crf(quality)
        if high > low
        else np.zeros(len(quality), dtype=np.float32)
        for low, high in distinct
    ]
    place = {pair: table.shape[1] + k for k, pair in enumerate(distinct)}

    def columns(arm: str, name: str) -> tuple[int, ...]:
        own = ARMS[arm].columns
        return own if ARMS[arm].blind else (*own[:-1], place[bounds[name]])

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


def calibration(oof: pd.DataFrame, arm: str = SHIPPED_ARM, width: int = VMAF_BIN) -> pd.DataFrame:
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
    low = vmaf_bins(oof["vmaf"], width)
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
    result = run_loso(
        corpus, recipe, [seed], [SHIPPED_ARM], groups, device=device, progress=progress
    )
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


def measure(
    corpus: Corpus,
    audit: Mapping[str, Any],
    recipe_name: str = DEFAULT_RECIPE,
    epochs: int = 0,
    seeds: Sequence[int] = (0,),
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[Loso, dict[str, Any]]:
    """Run LOSO of a recipe, and of ADR-0319's beside it, and train the networks that ship.

    Parameters
    ----------
    corpus : Corpus
    audit : mapping
        Of that corpus, as :func:`fr_lib.corpus.audit.audit_corpus` returns it.
    recipe_name, epochs
        As in :func:`fr_lib.train.recipe.recipe_for`.
    seeds, device, progress
        As in :func:`loso`. ADR-0319's recipe is measured with the first seed, and the two arms that
        its own verdict asks about.

    Returns
    -------
    result : Loso
        Of the recipe, with its final networks.
    facts : dict
        What ``loso.json`` holds: :func:`loso_report` of the recipe, and under ``adr0319`` that of
        ADR-0319's (or null where it is the recipe); ``recipe_refused``, ``by_title`` (see
        :func:`by_title`) and ``rival`` (see :func:`fr_lib.evaluate.rivals.rival`).
    """
    from fr_lib.train import keep_processes

    plan, refused = recipe_for(audit["teacher_check"], recipe_name, epochs)
    common = {"device": device, "progress": progress}
    with keep_processes():
        result = run_loso(corpus, plan, seeds, final=True, **common)
        titles = by_title(corpus, audit["source_groups"], plan, seeds[0], **common)
        adr = None
        if plan.name != "adr0319":
            arms = (BLIND_ARM, SHIPPED_ARM)
            adr = loso_report(run_loso(corpus, beside("adr0319", plan), seeds[:1], arms, **common))
    return result, loso_report(result) | {
        "adr0319": adr,
        "recipe_refused": refused,
        "by_title": titles,
        "rival": rival(corpus),
    }


def refit(
    corpus: Corpus,
    recipe: Recipe,
    seed: int = 0,
    arms: Sequence[str] = tuple(ARMS),
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Trained]:
    """Train one network per arm on every row of a corpus."""
    from fr_lib.train import train_many

    jobs = _final_jobs(len(corpus.table), seed, arms)
    trained = train_many(
        input_table(corpus), corpus.target(), list(jobs.values()), recipe, device, progress
    )
    return dict(zip(jobs, trained, strict=True))


def joined(networks: Mapping[str, Trained], corpus: Corpus) -> ShippedRegressor:
    """Join the codec-blind and the codec-aware network of a corpus into the graph that ships.

    They share a scaler, as both saw the same rows.
    """
    import torch

    from fr_lib.train import ShippedRegressor

    mask = torch.from_numpy(trained_mask(corpus.rows_per_slot()))
    return ShippedRegressor(networks[BLIND_ARM].model, networks[SHIPPED_ARM].model, mask).eval()
