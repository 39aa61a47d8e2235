"""What the chapter on unseen codecs compares: the same error on seen codecs, ladders, the scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fr_lib.evaluate import EVERY_CODEC, LEAVE_ONE_OUT, ONE_CODEC
from fr_lib.schema import VMAF_RANGE

ANSWERS = ("ours", "reference")


def seen_errors(transfer: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return, per scheme and answer, the mean RMSE on codecs that training saw, VMAF points.

    It is what ``headline`` of the result has to be held against: the same rows, held-out
    sources and means. Beside leaving a codec out stand networks of every codec; beside training
    on one codec, that codec itself.
    """
    pairs = pd.DataFrame(transfer["pairs"]).query("seen").astype({"rmse": "float64"})
    beside = {LEAVE_ONE_OUT: EVERY_CODEC, ONE_CODEC: ONE_CODEC}
    return {
        scheme: pairs[pairs["scheme"] == seen]
        .groupby("answer")["rmse"]
        .mean()
        .reindex(ANSWERS)
        .to_dict()
        for scheme, seen in beside.items()
    }


def ladder_facts(transfer: Mapping[str, Any]) -> dict[str, int]:
    """Return of what the largest rise is: ladders, and the least and most values of one.

    A ladder is one encoder on one source; each of its values is the mean of the frames at one
    quality value.
    """
    ladders = pd.DataFrame(transfer["ladders"]).query("answer == 'ours' and seen")
    lengths = ladders.groupby(["src", "encoder"]).size()
    return {"count": len(lengths), "least": int(lengths.min()), "most": int(lengths.max())}


def beyond_scale(transfer: Mapping[str, Any], answer: str) -> dict[str, float]:
    """Return how many of an answer's ladder values on unseen codecs VMAF cannot have.

    ``count`` of ``total`` lie outside 0..100, the farthest by ``most`` VMAF points. Ours are
    clipped, as the graph clips; the reference's are not, as its file does not.
    """
    ladders = pd.DataFrame(transfer["ladders"])
    own = ladders[(ladders["answer"] == answer) & ~ladders["seen"]]["predicted"].astype("float64")
    low, high = VMAF_RANGE
    over = pd.concat([low - own, own - high], axis=1).max(axis=1).clip(lower=0)
    return {"count": int((over > 0).sum()), "total": len(own), "most": float(over.max())}
