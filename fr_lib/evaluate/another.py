"""How far scores of another teacher can be read off rows that VMAF v0.6.1 scored.

An archive of v0.6.1 logs holds six features and one score a frame, and no pictures. VMAF v1 sees
more than that, so nothing decides its score exactly: here is where a codec block can be worth
something. Every figure is of a held-out source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import TEACHERS, V061, Corpus
from fr_lib.errors import InputError, say
from fr_lib.evaluate.loso import (
    Progress,
    bootstrap_interval,
    input_table,
    metrics,
    paired_difference,
)
from fr_lib.evaluate.rivals import MAP, Fit, linear
from fr_lib.runs import ANOTHER
from fr_lib.train import Recipe

AS_IS = "VMAF v0.6.1 as it is"
LINEAR, TREES = "linear regression, six features", "boosted trees, six features"
BLIND, ONE_HOT, QUALITY, AWARE = (
    "network: six features",
    "network: + codec",
    "network: + codec, quality",
    "network: + codec, quality, preset",
)
MAP_BLIND, MAP_AWARE = "map + network: six features", "map + network: + whole block"
_BLIND, _AWARE = ARMS[BLIND_ARM].columns, ARMS[SHIPPED_ARM].columns
# The block ends with preset and quality.
NETWORKS: Mapping[str, tuple[int, ...]] = {
    BLIND: _BLIND,
    ONE_HOT: _AWARE[:-2],
    QUALITY: (*_AWARE[:-2], _AWARE[-1]),
    AWARE: _AWARE,
}
CORRECTIONS: Mapping[str, tuple[int, ...]] = {MAP_BLIND: _BLIND, MAP_AWARE: _AWARE}
# Networks that see the block or a part of it.
SEES_CODEC = (ONE_HOT, QUALITY, AWARE, MAP_AWARE)
# Parts of the block, one put upon the other, and the whole of it: with and without.
LIFTS = {
    "codec (one-hot)": (ONE_HOT, BLIND),
    "quality, upon the codec": (QUALITY, ONE_HOT),
    "preset, upon both": (AWARE, QUALITY),
    "whole block": (AWARE, BLIND),
    "whole block, correction of the map": (MAP_AWARE, MAP_BLIND),
}
# Features that do not decide the target ask for little freedom and few epochs; and wider networks
# would take minutes.
NETWORK = Recipe(name="another", hidden=16, lr=1e-2, batch=128, epochs=20, schedule="cosine")
CORRECTION = Recipe(
    name="correction",
    hidden=16,
    dropout=0.3,
    lr=5e-3,
    weight_decay=1e-2,
    batch=128,
    epochs=20,
    schedule="cosine",
)


def run_another(
    corpus: Corpus,
    teachers: Sequence[str] = ANOTHER,
    seeds: Sequence[int] = range(5),
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Predict other teachers' scores of held-out sources, with and without the codec block.

    Parameters
    ----------
    corpus : Corpus
        With a score of every teacher, and of VMAF v0.6.1, on each row.
    teachers : sequence of str
    seeds : sequence of int
        Of the networks; a source's figure is the mean over them.
    device, progress
        As in :func:`fr_lib.train.many.train_many`.

    Returns
    -------
    dict
        ``teachers``: per name title, ``predictors`` (records with name, sees_codec, mean RMSE and
        PLCC over sources, the 95 % interval of the RMSE, the worst source, and the difference of
        the RMSE to that of the map), ``lift`` (what each part of the block changes), ``by_codec``
        and ``by_source`` (what the whole block changes there). ``rows``, ``sources``, ``seeds``
        and ``widths`` (least and greatest width of the pictures, or None).

    Raises
    ------
    InputError
        If a row has no score of one of them, or there are fewer than two sources.
    """
    from fr_lib.train import keep_processes

    if len(corpus.sources()) < 2:
        raise InputError(
            say("another teacher", "1 source", "2 or more sources", "add clips to the corpus")
        )
    # Before any training: each teacher must have scored every row.
    targets = {name: scores_of(corpus, name) for name in teachers}
    with keep_processes():
        answers = {
            name: answers_of(corpus, name, seeds, device, _part(progress, k, len(targets), name))
            for k, name in enumerate(targets)
        }
    widths = corpus.table.get("width", pd.Series(dtype=float)).dropna()
    return {
        "teachers": {
            name: _of_teacher(corpus, name, target, answers[name])
            for name, target in targets.items()
        },
        "rows": len(corpus.table),
        "sources": len(corpus.sources()),
        "seeds": list(seeds),
        "widths": None if widths.empty else [int(widths.min()), int(widths.max())],
    }


def scores_of(corpus: Corpus, teacher: str) -> np.ndarray:
    """Return a teacher's score of each row: (N,) float64; InputError where one is missing."""
    column = "vmaf" if teacher == corpus.taught_by.name else teacher
    if column not in corpus.table or not np.isfinite(corpus.table[column]).all():
        found = f"rows without a score of {teacher}"
        raise InputError(
            say("another teacher", found, "one on each row", "score the rows with it too")
        )
    return corpus.table[column].to_numpy(dtype=np.float64)


def _part(progress: Progress | None, k: int, n: int, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda message, share: progress(f"{name}: {message}", (k + share) / n)


def answers_of(
    corpus: Corpus,
    teacher: str,
    seeds: Sequence[int],
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Return what each predictor says of each row, trained on the other sources.

    Returns
    -------
    dict of str to (S, N) float64
        Within the teacher's range; S is the number of seeds, or 1 where chance has no part.
    """
    target, old = scores_of(corpus, teacher), scores_of(corpus, V061.name)
    features, groups = corpus.features().astype(np.float64), corpus.groups()
    table = input_table(corpus)
    told = [_part(progress, k, 2, name) for k, name in enumerate(("networks", "corrections"))]
    given = {
        AS_IS: old[None],
        MAP: _held_out(isotonic, old, target, groups),
        LINEAR: _held_out(linear, features, target, groups),
        TREES: _held_out(trees, features, target, groups),
        **_networks(table, target, groups, seeds, device, told[0]),
        **_corrections(table, target, old, groups, seeds, device, told[1]),
    }
    return {key: np.clip(scores, *TEACHERS[teacher].range) for key, scores in given.items()}


def _of_teacher(
    corpus: Corpus, name: str, target: np.ndarray, answers: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    folds = _folds(answers, target, corpus.groups())
    return {
        "title": TEACHERS[name].title,
        "predictors": [_figures(folds, key) for key in answers],
        "lift": [
            {"part": part}
            | {column: _difference(folds, *pair, column) for column in ("plcc", "rmse")}
            for part, pair in LIFTS.items()
        ],
        "by_codec": _by_codec(answers, target, corpus),
        "by_source": _by_source(folds),
    }


def isotonic(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Predict by an isotonic map of one score: (n,), (n,) and (m,) to (m,)."""
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(asked)


def trees(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Predict by boosted regression trees on the six features."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Left to itself it would stop by rows of the sources that it trains on, which decides nothing.
    forest = HistGradientBoostingRegressor(early_stopping=False, random_state=0)
    # Its threads wait for each other at every node, which takes ages where cores are shared.
    with threadpool_limits(1):
        return forest.fit(x, y).predict(asked)


def _held_out(fit: Fit, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return what `fit` says of each row after training on the other sources: (1, N)."""
    scores = np.empty((1, len(y)))
    for source in sorted(set(groups)):
        held = groups == source
        scores[0, held] = fit(x[~held], y[~held], x[held])
    return scores


def _networks(
    table: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    seeds: Sequence[int],
    device: str,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Return what each network says of held-out rows: (seeds, N) per name."""
    from fr_lib.train import Job, train_many

    kept = {source: groups != source for source in sorted(set(groups))}
    plan = [(key, k, source) for key in NETWORKS for k in range(len(seeds)) for source in kept]
    jobs = [Job(kept[source], NETWORKS[key], seeds[k]) for key, k, source in plan]
    models = train_many(table, target, jobs, NETWORK, device, progress)
    scores = {key: np.empty((len(seeds), len(target))) for key in NETWORKS}
    for (key, k, source), model in zip(plan, models, strict=True):
        scores[key][k, ~kept[source]] = model.predict(table[~kept[source]])
    return scores


def _corrections(
    table: np.ndarray,
    target: np.ndarray,
    old: np.ndarray,
    groups: np.ndarray,
    seeds: Sequence[int],
    device: str,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Return the map, corrected by each network, of held-out rows: (seeds, N) per name.

    What a network learns is what the map of its own training rows leaves of the target.
    """
    from fr_lib.train import Job, train_many

    scores = {key: np.empty((len(seeds), len(target))) for key in CORRECTIONS}
    sources = sorted(set(groups))
    for n, source in enumerate(sources):
        kept = groups != source
        mapped = isotonic(old[kept], target[kept], old)
        plan = [(key, k) for key in CORRECTIONS for k in range(len(seeds))]
        jobs = [Job(kept, CORRECTIONS[key], seeds[k]) for key, k in plan]
        tell = _part(progress, n, len(sources), f"fold {n + 1} of {len(sources)}")
        models = train_many(table, target - mapped, jobs, CORRECTION, device, tell)
        for (key, k), model in zip(plan, models, strict=True):
            scores[key][k, ~kept] = mapped[~kept] + model.predict(table[~kept])
    return scores


def _folds(
    answers: Mapping[str, np.ndarray], target: np.ndarray, groups: np.ndarray
) -> pd.DataFrame:
    """Return ``arm held_out seed`` with the metrics of each fold."""
    return pd.DataFrame(
        {"arm": key, "held_out": source, "seed": seed}
        | metrics(scores[groups == source], target[groups == source])
        for key, answer in answers.items()
        for seed, scores in enumerate(answer)
        for source in sorted(set(groups))
    )


def _figures(folds: pd.DataFrame, key: str) -> dict[str, Any]:
    own = folds[folds["arm"] == key].groupby("held_out")[["rmse", "plcc"]].mean()
    low, high = bootstrap_interval(own["rmse"].to_numpy())
    return {
        "name": key,
        "sees_codec": key in SEES_CODEC,
        "rmse": own["rmse"].mean(),
        "low": low,
        "high": high,
        "plcc": own["plcc"].mean(),
        "worst_rmse": own["rmse"].max(),
        "worst_source": own["rmse"].idxmax(),
        "against_map": _difference(folds, key, MAP, "rmse") if key != MAP else None,
    }


def _difference(folds: pd.DataFrame, arm: str, baseline: str, column: str) -> dict[str, float]:
    found = paired_difference(folds, arm, baseline, column)
    return {key: found[key] for key in ("mean", "low", "high")}


def _rmse_change(
    answers: Mapping[str, np.ndarray], target: np.ndarray, rows: np.ndarray, part: str
) -> float:
    """Return by how much a part of the block changes the RMSE of some rows, mean over seeds."""
    arm, baseline = (
        np.sqrt(np.mean((answers[key][:, rows] - target[rows]) ** 2, axis=1)).mean()
        for key in LIFTS[part]
    )
    return float(arm - baseline)


_WHOLE = {"network": "whole block", "correction": "whole block, correction of the map"}


def _by_codec(
    answers: Mapping[str, np.ndarray], target: np.ndarray, corpus: Corpus
) -> list[dict[str, Any]]:
    """Return what the block changes per encoder, in the vocabulary's order."""
    records = []
    groups, encoders = corpus.groups(), corpus.table["encoder"].to_numpy(dtype=object)
    for encoder in corpus.encoders():
        cells = [(groups == source) & (encoders == encoder) for source in corpus.sources()]
        cells = [rows for rows in cells if rows.any()]
        record: dict[str, Any] = {"encoder": encoder}
        for kind, part in _WHOLE.items():
            changes = np.array([_rmse_change(answers, target, rows, part) for rows in cells])
            low, high = bootstrap_interval(changes)
            record[kind] = {"mean": changes.mean(), "low": low, "high": high}
        records.append(record)
    return records


def _by_source(folds: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what the block changes per source, and the RMSE that the map leaves there."""
    wide = folds.groupby(["held_out", "arm"])["rmse"].mean().unstack("arm")
    changes = {kind: wide[LIFTS[part][0]] - wide[LIFTS[part][1]] for kind, part in _WHOLE.items()}
    return [
        {"src": source, "map": wide.loc[source, MAP]}
        | {kind: values[source] for kind, values in changes.items()}
        for source in wide.index
    ]
