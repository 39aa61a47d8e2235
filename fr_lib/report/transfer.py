"""What the chapter on unseen codecs compares: the same error on seen codecs, and ladders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fr_lib.evaluate import LEAVE_ONE_OUT, ONE_CODEC


def seen_errors(transfer: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return, per scheme and answer, the mean RMSE on codecs that training saw, VMAF points.

    It is what ``headline`` of the result has to be held against: the same rows, held-out
    sources and means. Beside leaving a codec out stand the same networks trained on every codec,
    codec-blind as the answer to an unseen one is; beside training on one codec, that codec itself.
    """
    every = transfer["seen"]
    pairs = pd.DataFrame(transfer["pairs"]).query("seen").astype({"rmse": "float64"})
    own = pairs[pairs["scheme"] == ONE_CODEC].groupby("answer")["rmse"].mean()
    return {
        LEAVE_ONE_OUT: {
            "ours": every["codec-blind"]["rmse"],
            "reference": every["reference"]["rmse"],
        },
        ONE_CODEC: own.reindex(("ours", "reference")).to_dict(),
    }


def ladder_facts(transfer: Mapping[str, Any]) -> dict[str, int]:
    """Return of what the largest rise is: ladders, and the least and most values of one.

    A ladder is one encoder on one source; each of its values is the mean of the frames at one
    quality value.
    """
    ladders = pd.DataFrame(transfer["ladders"]).query("answer == 'ours' and seen")
    lengths = ladders.groupby(["src", "encoder"]).size()
    return {"count": len(lengths), "least": int(lengths.min()), "most": int(lengths.max())}
