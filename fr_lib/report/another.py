"""What the chapter on another teacher shows: its tables, and its verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fr_lib.errors import text
from fr_lib.evaluate import MAP

Facts = Mapping[str, Any]


def _with_interval(found: Mapping[str, float], form: str) -> str:
    return (
        f"{text(found['mean'], form)} ({text(found['low'], form)} to {text(found['high'], form)})"
    )


def predictors_table(teacher: Facts) -> pd.DataFrame:
    """Return every predictor of one teacher's scores, on held-out sources; RMSE in VMAF points."""
    return pd.DataFrame(
        {
            "predictor": row["name"],
            "sees the codec": "yes" if row["sees_codec"] else "no",
            "mean RMSE": text(row["rmse"], ".2f"),
            "95 % interval": f"{text(row['low'], '.2f')} to {text(row['high'], '.2f')}",
            "against the map": (
                _with_interval(row["against_map"], "+.2f") if row["against_map"] else "the map"
            ),
            "mean PLCC": text(row["plcc"], ".5f"),
            "worst RMSE": f"{text(row['worst_rmse'], '.2f')} ({row['worst_source']})",
        }
        for row in teacher["predictors"]
    )


def lift_table(facts: Facts) -> pd.DataFrame:
    """Return what each part of the block changes, per teacher, with 95 % intervals over sources."""
    return pd.DataFrame(
        {
            "teacher": teacher["title"],
            "part of the block": row["part"],
            "PLCC": _with_interval(row["plcc"], "+.4f"),
            "RMSE (VMAF points)": _with_interval(row["rmse"], "+.2f"),
        }
        for teacher in facts["teachers"].values()
        for row in teacher["lift"]
    )


def codecs_table(facts: Facts) -> pd.DataFrame:
    """Return by how much the whole block changes the RMSE on each codec's rows, VMAF points."""
    return pd.DataFrame(
        {
            "teacher": teacher["title"],
            "codec": row["encoder"],
            "network": _with_interval(row["network"], "+.2f"),
            "correction of the map": _with_interval(row["correction"], "+.2f"),
        }
        for teacher in facts["teachers"].values()
        for row in teacher["by_codec"]
    )


def sources_table(teacher: Facts) -> pd.DataFrame:
    """Return what the map leaves of each source and the block changes there, most helped first."""
    return pd.DataFrame(
        {
            "held-out source": row["src"],
            "RMSE of the map": text(row["map"], ".2f"),
            "network": text(row["network"], "+.2f"),
            "correction of the map": text(row["correction"], "+.2f"),
        }
        for row in sorted(teacher["by_source"], key=lambda row: row["correction"])
    )


def verdict(facts: Facts) -> str:
    """Return, per teacher, whether anything beats the map and whether the block helps."""
    return " ".join(_of_teacher(teacher) for teacher in facts["teachers"].values())


def _of_teacher(teacher: Facts) -> str:
    by_name = {row["name"]: row for row in teacher["predictors"]}
    best = min(teacher["predictors"], key=lambda row: row["rmse"])
    whole = teacher["lift"][-1]["rmse"]
    if best["name"] == MAP:
        beaten = f"nothing beats the map of one number ({best['rmse']:.2f} points)"
    else:
        beaten = (
            f"the best is '{best['name']}' with {best['rmse']:.2f} points, "
            f"{_decided(best['against_map'])} against {by_name[MAP]['rmse']:.2f} of the map"
        )
    return (
        f"{teacher['title']}: {beaten}; the codec block changes the corrected map's RMSE by "
        f"{whole['mean']:+.2f} ({whole['low']:+.2f} to {whole['high']:+.2f}), {_sign(whole)}."
    )


def _decided(found: Mapping[str, float]) -> str:
    return "beyond the sources' spread" if excludes_zero(found) else "within the sources' spread"


def _sign(found: Mapping[str, float]) -> str:
    if not excludes_zero(found):
        return "which may be nothing"
    return "which helps" if found["mean"] < 0 else "which harms"


def excludes_zero(found: Mapping[str, float]) -> bool:
    """Return whether an interval lies on one side of 0."""
    return found["low"] > 0 or found["high"] < 0


def where(teacher: Facts) -> str:
    """Return on which codec and on which sources the block helps the corrected map most."""
    codecs = sorted(teacher["by_codec"], key=lambda row: row["correction"]["mean"])
    sources = sorted(teacher["by_source"], key=lambda row: row["correction"])
    helped = sum(row["correction"] < 0 for row in sources)
    return (
        f"on {codecs[0]['encoder']} it changes the error by "
        f"{codecs[0]['correction']['mean']:+.2f} points and on {codecs[-1]['encoder']} by "
        f"{codecs[-1]['correction']['mean']:+.2f}; it helps {helped} of {len(sources)} sources"
    )


def sizes(facts: Facts) -> str:
    """Return the widths of the pictures that were scored, in words."""
    if facts["widths"] is None:
        return "of sizes that the rows do not name"
    low, high = facts["widths"]
    return f"{low} to {high} pixels wide"
