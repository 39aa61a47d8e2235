"""What a translation of VMAF v0.6.1 into another teacher is worth on sources it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.corpus import TEACHERS, Corpus, domain_of
from fr_lib.errors import InputError, say
from fr_lib.evaluate.another import scores_of
from fr_lib.evaluate.clauses import FAIL, MIN_SOURCES
from fr_lib.evaluate.gate import _finite_clause, _mean_clause, _worst_clause, verdict
from fr_lib.evaluate.loso import metrics, paired_difference
from fr_lib.evaluate.own import _rival_clause, _rows_clause
from fr_lib.schema import NEWEST_VOCAB
from fr_lib.train import Translation, fit_translation

CORRECTED, MAP_ALONE = "kernel correction of the map", "monotone map of VMAF v0.6.1"
SHARE = 0.95
# Sources that are left out together where a codec is left out besides, so that it stays cheap.
CODEC_FOLDS = 6


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a corpus as a translation takes them."""

    features: np.ndarray
    slots: np.ndarray
    src_scale: np.ndarray
    target: np.ndarray
    limits: tuple[float, float]

    @classmethod
    def of(cls, corpus: Corpus, teacher: str) -> _Rows:
        table = corpus.table
        slots = table["encoder"].map({name: k for k, name in enumerate(NEWEST_VOCAB)})
        scale = table.get("src_scale", pd.Series(1.0, index=table.index)).fillna(1.0)
        return cls(
            corpus.features().astype(np.float64),
            slots.to_numpy(dtype=np.int64),
            scale.to_numpy(dtype=np.float64),
            scores_of(corpus, teacher),
            TEACHERS[teacher].range,
        )

    def fit(self, kept: np.ndarray) -> Translation:
        given = (self.features, self.slots, self.src_scale, self.target)
        return fit_translation(*(values[kept] for values in given), self.limits)

    def predict(self, model: Translation, rows: np.ndarray) -> np.ndarray:
        return model(self.features[rows], self.slots[rows], self.src_scale[rows])


def make_translation(corpus: Corpus, teacher: str) -> tuple[Translation, dict[str, Any]]:
    """Fit a translation to all rows, and measure it on held-out sources.

    The correction ships if it beats the map on the same folds; else the map alone.

    Parameters
    ----------
    corpus : Corpus
        Rows of frames that VMAF v0.6.1 scored, with a score of `teacher` on each.
    teacher : str

    Returns
    -------
    model : Translation
    facts : dict
        method, folds (of what ships), summary, map (the same of the map), against_map (difference
        of the RMSE with its 95 % interval over sources), own_size (mean RMSE on the rows with the
        least src_scale of their source), interval (share, and the points within which that share of
        held-out encodes' means, of those of a codec without training rows, and of frames lies),
        domain, gate (clauses and verdict).

    Raises
    ------
    InputError
        If a row has no score of `teacher`, the rows are means of encodes, or there are fewer than
        three sources.
    """
    if corpus.shape != "frame" or len(corpus.sources()) < MIN_SOURCES:
        found = f"rows of each {corpus.shape}, {len(corpus.sources())} sources"
        allowed = f"rows of frames, {MIN_SOURCES} or more sources"
        raise InputError(say(corpus.name, found, allowed, "make such a corpus"))
    rows = _Rows.of(corpus, teacher)
    groups = corpus.groups()
    corrected, mapped = (np.empty(len(groups)) for _ in range(2))
    for source in corpus.sources():
        held = groups == source
        model = rows.fit(~held)
        corrected[held] = rows.predict(model, held)
        mapped[held] = rows.predict(model.map_alone(), held)
    answers = {CORRECTED: corrected, MAP_ALONE: mapped}
    folds = _folds(answers, rows.target, groups)
    gate = _gate(folds, corpus, CORRECTED)
    beaten = next(c for c in gate["clauses"] if c["name"] == "RMSE against a rival")
    method, model = CORRECTED, rows.fit(np.full(len(groups), True))
    if beaten["status"] == FAIL:
        method, model, gate = MAP_ALONE, model.map_alone(), _gate(folds, corpus, MAP_ALONE)
    off = answers[method] - rows.target
    return model, {
        "teacher": teacher,
        "method": method,
        "folds": _records(folds, method),
        "summary": _summary(folds, method),
        "map": _summary(folds, MAP_ALONE),
        "against_map": {
            key: float(value)
            for key, value in paired_difference(folds, CORRECTED, MAP_ALONE, "rmse").items()
            if key in ("mean", "low", "high")
        },
        "own_size": _own_size(off, rows.src_scale, groups),
        "interval": {
            "share": SHARE,
            "encode": _within(_encode_means(off, corpus.table)),
            "untrained": _within(_encode_means(_unseen(rows, groups, method), corpus.table)),
            "frame": _within(off),
        },
        "domain": domain_of(corpus),
        "gate": gate,
    }


def _folds(
    answers: Mapping[str, np.ndarray], target: np.ndarray, groups: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {"arm": arm, "held_out": source, "n_val": int((groups == source).sum())}
        | metrics(scores[groups == source], target[groups == source])
        for arm, scores in answers.items()
        for source in sorted(set(groups))
    )


def _gate(folds: pd.DataFrame, corpus: Corpus, arm: str) -> dict[str, Any]:
    """Judge one arm by the clauses that apply; the map is its own baseline and is spared that."""
    own = folds[folds["arm"] == arm]
    counts = corpus.table.groupby("src")["quality"].agg(["size", "nunique"])
    sources = [
        {"src": src, "n_rows": int(row["size"]), "n_qualities": int(row["nunique"])}
        for src, row in counts.iterrows()
    ]
    clauses = [
        _mean_clause(own),
        _finite_clause(own),
        _worst_clause(own),
        _rows_clause({"sources": sources}),
    ]
    if arm != MAP_ALONE:
        rival = {
            "name": MAP_ALONE,
            "rmse": _summary(folds, MAP_ALONE)["rmse"],
            "formula_teacher": False,
        }
        arms = {arm: {"summary": {"mean_rmse": _summary(folds, arm)["rmse"]}}}
        clauses.append(_rival_clause({"rival": rival, "arms": arms}, arm))
    return {key: verdict(clauses, [])[key] for key in ("gate_passed", "clauses")}


def _summary(folds: pd.DataFrame, arm: str) -> dict[str, Any]:
    own = folds[folds["arm"] == arm].set_index("held_out")
    return {
        "rmse": float(own["rmse"].mean()),
        "plcc": float(own["plcc"].mean()),
        "worst_rmse": float(own["rmse"].max()),
        "worst_source": str(own["rmse"].idxmax()),
    }


def _records(folds: pd.DataFrame, arm: str) -> list[dict[str, Any]]:
    own = folds[folds["arm"] == arm].drop(columns=["arm", "bias"])
    return own.to_dict("records")


def _own_size(off: np.ndarray, src_scale: np.ndarray, groups: np.ndarray) -> float:
    """Return the mean RMSE over sources, each at its least scale alone."""
    least = pd.Series(src_scale).groupby(groups).transform("min").to_numpy()
    at_least = src_scale == least
    squares = pd.Series(off[at_least] ** 2).groupby(groups[at_least]).mean()
    return float(np.sqrt(squares).mean())


def _encode_means(off: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Return the mean over frames of each encode."""
    names = ("src", "encoder", "preset", "quality", "src_scale", "enc_scale")
    keys = [table[name].to_numpy() for name in names if name in table]
    return pd.Series(off).groupby(keys, dropna=False).mean().to_numpy()


def _within(off: np.ndarray) -> float | None:
    """Return the points within which that share of errors lies; None where none was measured."""
    measured = np.abs(off[np.isfinite(off)])
    return float(np.quantile(measured, SHARE)) if len(measured) else None


def _unseen(rows: _Rows, groups: np.ndarray, arm: str) -> np.ndarray:
    """Return the error on each row of a translation that saw neither its source nor its codec.

    NaN where no other codec is there to learn from.
    """
    off = np.full(len(groups), np.nan)
    sources = np.array(sorted(set(groups)), dtype=object)
    for slot in np.unique(rows.slots):
        for part in np.array_split(sources, min(CODEC_FOLDS, len(sources))):
            ours, together = rows.slots == slot, np.isin(groups, part)
            kept, held = ~ours & ~together, ours & together
            if kept.any() and held.any():
                model = rows.fit(kept)
                model = model if arm == CORRECTED else model.map_alone()
                off[held] = rows.predict(model, held) - rows.target[held]
    return off
