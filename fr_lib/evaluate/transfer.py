"""What a codec without training rows costs, measured on real encodes.

Every score here is of a held-out source *and*, where it says unseen, of a codec that the network
never saw: leave one codec out, or train on one codec and score the others, which is the situation
of a corpus with one hardware encoder. Two answers are compared: ours (the codec-blind network for
an unseen slot, the codec-aware one for a seen slot), and that of the reference recipe, whose
untrained slots are whatever training left there. Beside them stands what the same rows cost when
every codec was seen: without that, nobody can tell the codec's part from the source's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import Corpus
from fr_lib.errors import InputError, say
from fr_lib.evaluate.loso import Progress, bootstrap_interval, input_table, metrics
from fr_lib.schema import ADAPTERS, VMAF_RANGE
from fr_lib.train import Recipe, beside

if TYPE_CHECKING:
    from fr_lib.train import Trained

LEAVE_ONE_OUT = "leave one codec out"
ONE_CODEC = "train on one codec"
EVERY_CODEC = "train on every codec"
OURS, REFERENCE, BLIND = "ours", "reference", "codec-blind"


@dataclass(frozen=True)
class Plan:
    """One set of training codecs, and which of them a scheme scores."""

    scheme: str
    trained_on: tuple[str, ...]
    scored_on: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name of the row or column in a matrix."""
        if self.scheme == ONE_CODEC:
            return self.trained_on[0]
        if self.scheme == EVERY_CODEC:
            return "every codec"
        return f"all but {self.scored_on[0]}"


def plans(encoders: Sequence[str]) -> list[Plan]:
    """Return all schemes for the encoders of a corpus; InputError below two encoders."""
    if len(encoders) < 2:
        raise InputError(
            say("transfer", f"{len(encoders)} encoder", "2 or more", "add rows of another encoder")
        )
    every = tuple(encoders)
    left = [Plan(LEAVE_ONE_OUT, tuple(e for e in every if e != x), (x,)) for x in every]
    alone = [Plan(ONE_CODEC, (x,), every) for x in every]
    return [Plan(EVERY_CODEC, every, every), *left, *alone]


def run_transfer(
    corpus: Corpus,
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure transfer to unseen codecs, for our graph and for the reference recipe.

    Parameters
    ----------
    corpus : Corpus
    recipe : Recipe
        Of our networks; the reference has its own, shortened as much as this one is.
    seed : int
    device, progress
        As in :func:`fr_lib.train.many.train_many`.

    Returns
    -------
    dict
        ``pairs``: one record per scheme, training set, scored codec and answer, with RMSE and bias
        averaged over held-out sources. ``headline``: means over unseen pairs. ``seen``: the same
        per answer where every codec was seen, the codec-blind network's too. ``ladders``: mean
        score per encoder and quality value, seen and unseen. ``largest_rise``: how far such a mean
        rises anywhere while quality falls.
    """
    from fr_lib.train import keep_processes

    with keep_processes():
        scored = _predict_all(corpus, recipe, seed, device, progress)
    by_source = _per_source(scored)
    ladders = _ladders(scored)
    return {
        "encoders": corpus.encoders(),
        "pairs": _pairs(by_source),
        "headline": _headline(by_source[~by_source["seen"]]),
        "seen": _headline(by_source[by_source["scheme"] == EVERY_CODEC])[EVERY_CODEC],
        "ladders": ladders,
        "largest_rise": largest_rise(ladders),
        "reference_recipe": beside("reference", recipe).as_dict(),
    }


@dataclass(frozen=True, eq=False)
class _Fold:
    """A plan without one source: `rows` marks what is left to train on."""

    plan: Plan
    source: str
    rows: np.ndarray


# The codec-aware network answers for seen codecs and the codec-blind one for the others: schemes in
# which an arm has nothing to answer need none of its networks.
_ASKED = {
    BLIND_ARM: (EVERY_CODEC, LEAVE_ONE_OUT, ONE_CODEC),
    SHIPPED_ARM: (EVERY_CODEC, ONE_CODEC),
    REFERENCE: (EVERY_CODEC, LEAVE_ONE_OUT, ONE_CODEC),
}


def _predict_all(
    corpus: Corpus, recipe: Recipe, seed: int, device: str, progress: Progress | None
) -> pd.DataFrame:
    """Return one row per scored corpus row, plan and answer."""
    table, folds = input_table(corpus), _folds(corpus)
    models: dict[tuple[str, Plan, str], Trained] = {}
    for arm, schemes in _ASKED.items():
        asked = [fold for fold in folds if fold.plan.scheme in schemes]
        models |= _trained(arm, asked, table, corpus, recipe, seed, device, progress)
    parts = [
        part
        for fold in folds
        for codec in fold.plan.scored_on
        for part in _answers(corpus, table, fold, codec, models)
    ]
    return pd.concat(parts, ignore_index=True)


def _folds(corpus: Corpus) -> list[_Fold]:
    sources, encoders = corpus.groups(), corpus.table["encoder"].to_numpy()
    folds = [
        _Fold(plan, source, np.isin(encoders, plan.trained_on) & (sources != source))
        for plan in plans(corpus.encoders())
        for source in corpus.sources()
    ]
    # A codec that one source alone has teaches nothing to the fold without that source.
    return [fold for fold in folds if fold.rows.any()]


def _trained(
    arm: str,
    folds: Sequence[_Fold],
    table: np.ndarray,
    corpus: Corpus,
    recipe: Recipe,
    seed: int,
    device: str,
    progress: Progress | None,
) -> dict[tuple[str, Plan, str], Trained]:
    """Train one network per fold; by arm, plan and held-out source."""
    from fr_lib.train import Job, train_many

    training = beside("reference", recipe) if arm == REFERENCE else recipe
    columns = ARMS[BLIND_ARM if arm == BLIND_ARM else SHIPPED_ARM].columns
    jobs = [Job(fold.rows, columns, seed) for fold in folds]
    models = train_many(table, corpus.target(), jobs, training, device, _named(progress, arm))
    return {(arm, fold.plan, fold.source): model for fold, model in zip(folds, models, strict=True)}


def _answers(
    corpus: Corpus,
    table: np.ndarray,
    fold: _Fold,
    codec: str,
    models: Mapping[tuple[str, Plan, str], Trained],
) -> Iterator[pd.DataFrame]:
    """Yield each answer to the held-out source's rows of one codec, clipped as the scale is.

    Our graph clips, and the reference's network does not: unclipped, its error would be greater.
    """
    own = (corpus.groups() == fold.source) & (corpus.table["encoder"] == codec).to_numpy()
    if not own.any():
        return
    seen = codec in fold.plan.trained_on
    facts = corpus.table.loc[own, ["src", "encoder", "quality", "vmaf"]]
    given = {OURS: SHIPPED_ARM if seen else BLIND_ARM, REFERENCE: REFERENCE}
    if fold.plan.scheme == EVERY_CODEC:
        given[BLIND] = BLIND_ARM
    for answer, arm in given.items():
        predicted = models[arm, fold.plan, fold.source].predict(table[own])
        yield facts.assign(
            scheme=fold.plan.scheme,
            trained_on=fold.plan.label,
            seen=seen,
            answer=answer,
            predicted=np.clip(predicted, *VMAF_RANGE),
        )


def _named(progress: Progress | None, arm: str) -> Progress | None:
    if progress is None:
        return None
    return lambda message, share: progress(f"{arm}: {message}", share)


def _per_source(scored: pd.DataFrame) -> pd.DataFrame:
    keys = ["scheme", "trained_on", "encoder", "seen", "answer", "src"]
    records = [
        dict(zip(keys, key, strict=True))
        | metrics(rows["predicted"].to_numpy(), rows["vmaf"].to_numpy())
        for key, rows in scored.groupby(keys, sort=True)
    ]
    return pd.DataFrame(records)


def _pairs(by_source: pd.DataFrame) -> list[dict[str, Any]]:
    keys = ["scheme", "trained_on", "encoder", "seen", "answer"]
    means = by_source.groupby(keys, sort=True)[["rmse", "bias", "plcc"]].mean()
    return means.reset_index().rename(columns={"encoder": "scored_on"}).to_dict(orient="records")


def _headline(by_source: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, per scheme and answer, means over training sets of RMSE and of absolute bias."""
    result: dict[str, dict[str, Any]] = {}
    for (scheme, answer), rows in by_source.groupby(["scheme", "answer"]):
        by_set = rows.groupby("trained_on")[["rmse", "bias"]].mean()
        low, high = bootstrap_interval(rows.groupby("src")["rmse"].mean().to_numpy())
        result.setdefault(scheme, {})[answer] = {
            "rmse": by_set["rmse"].mean(),
            "rmse_low": low,
            "rmse_high": high,
            "abs_bias": by_set["bias"].abs().mean(),
            "worst_rmse": by_set["rmse"].max(),
            "worst_set": by_set["rmse"].idxmax(),
        }
    return result


def _ladders(scored: pd.DataFrame) -> list[dict[str, Any]]:
    """Return mean score per source, encoder, quality value and answer: seen once, unseen once."""
    # Seen: the network of every codec. Unseen: the network that left this codec out.
    shown = scored[(scored["scheme"] != ONE_CODEC) & (scored["answer"] != BLIND)]
    keys = ["answer", "seen", "src", "encoder", "quality"]
    means = shown.groupby(keys, sort=True)[["vmaf", "predicted"]].mean()
    return means.reset_index().to_dict(orient="records")


def largest_rise(ladders: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return, per answer and seen / unseen, the largest rise of a score while quality falls.

    VMAF points; 0 where every ladder falls all the way. Quality falls with a rising value, or with
    a falling one for encoders whose scale runs the other way.
    """
    table = pd.DataFrame(ladders)
    rises: dict[str, float] = {}
    for (answer, seen, _, encoder), rows in table.groupby(["answer", "seen", "src", "encoder"]):
        order = rows.sort_values("quality", ascending=not ADAPTERS[encoder].higher_is_better)
        steps = np.diff(order["predicted"].to_numpy())
        name = f"{answer}, {'seen' if seen else 'unseen'}"
        rises[name] = max(rises.get(name, 0.0), float(steps.max(initial=0.0)))
    return rises
