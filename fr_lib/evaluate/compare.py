"""Two finished runs, side by side: paired differences of held-out sources, and what was changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.arms import SHIPPED_ARM
from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.evaluate.loso import KEY, bootstrap_interval
from fr_lib.runs import STEPS, RunDir

# Metric, its unit, and whether more of it is better.
METRICS = (("rmse", "VMAF points", False), ("plcc", "no unit", True))
# Where two runs lie is no setting of theirs, and their corpora are compared by content.
_PLACES = ("run_dir", "corpus")
ABSENT = "none"


def compare_runs(a: RunDir, b: RunDir) -> dict[str, Any]:
    """Compare the arm that ships of two finished runs, `b` minus `a`.

    Sources are paired by name, and the 95 % interval of a mean difference is a percentile bootstrap
    over the pairs, as in :func:`fr_lib.evaluate.loso.paired_difference`. The folds are those of the
    first seed, on which the verdict rests.

    Returns
    -------
    dict
        ``runs``: name, verdict and model of each. ``metrics``: per metric the means over the paired
        sources, their difference, its interval (null with fewer than two pairs, or where one is not
        finite) and what it says. ``sources``: a record per pair, and whether both runs judged the
        same rows. ``only``: sources of one run alone. ``stress``: errors on the stress set.
        ``parameters``, ``software``, ``data``: what differs. ``clauses``: status and value of each.

    Raises
    ------
    InputError
        If both are one folder, or a run is at work in one.
    ArtefactError
        If one has no finished run.
    """
    if a.path.resolve() == b.path.resolve():
        raise InputError(say(str(b.path), "the same run twice", "two runs", "name another"))
    with ExitStack() as still:
        for run in (a, b):
            still.enter_context(run.at_rest())
        sides = [_side(run) for run in (a, b)]
    pairs = _pairs(*sides)
    names = [set(side["folds"].index) for side in sides]
    return {
        "runs": [side["run"] for side in sides],
        "metrics": [_difference(pairs, *metric) for metric in METRICS],
        "sources": pairs.reset_index().to_dict(orient="records"),
        "only": [sorted(names[0] - names[1]), sorted(names[1] - names[0])],
        "stress": [side["stress"] for side in sides],
        "parameters": _changed(*(side["parameters"] for side in sides)),
        "software": _changed(*(side["software"] for side in sides)),
        "data": _changed(*(side["data"] for side in sides)),
        "clauses": list(_clauses(*(side["clauses"] for side in sides))),
    }


def _side(run: RunDir) -> dict[str, Any]:
    """Return what is compared of one run."""
    # Written last, from the files of all other steps.
    if not (run / "export.json").is_file():
        found = "no finished run: export.json is missing"
        raise ArtefactError(say(str(run.path), found, "two finished runs", "finish it first"))
    card = run.read("export.json")["card"]
    audit, loso, gate = (run.read(f"{name}.json") for name in ("audit", "loso", "gate"))
    identity = audit["identity"]
    stress = run.read("outside.json")["arms"][SHIPPED_ARM]["stress"]
    return {
        "run": {
            "name": run.run_id,
            "passed": gate["gate_passed"],
            "synthetic": card["run_provenance"]["synthetic"],
            "sha256": card["sha256"],
        },
        "folds": pd.DataFrame(loso["arms"][SHIPPED_ARM]["folds"]).set_index("held_out"),
        "rows": _fingerprints(run.read_table("oof.parquet")),
        "stress": {"rmse": stress["rmse"], "worst": stress["worst_cell"]["rmse"]},
        "parameters": {f"recipe: {k}": v for k, v in card["recipe"].items()}
        | {"seeds": loso["seeds"]}
        | _given(run),
        "software": {
            "code": card["run_provenance"]["git_revision"],
            "Python": card["run_provenance"]["python"],
            "platform": card["run_provenance"]["platform"],
        }
        | card["run_provenance"]["versions"],
        "data": {
            "corpus": identity["name"],
            "sha256": audit["corpus_sha256"],
            "teacher": identity["teacher"],
            "shape": identity["shape"],
            "rows": identity["n_rows_kept"],
            "sources": len(audit["sources"]),
        }
        | {f"rows of {slot}": n for slot, n in audit["rows_per_slot"].items()},
        "clauses": gate["clauses"],
    }


def _given(run: RunDir) -> dict[str, Any]:
    """Return the parameters with which papermill ran the four steps."""
    found = {}
    for name in STEPS:
        found |= run.noted(name).get("parameters", {})
    return {f"parameter: {k}": v for k, v in found.items() if k not in _PLACES}


def _fingerprints(oof: pd.DataFrame) -> dict[str, int]:
    """Return a number per source that two runs share where they judged the same rows of it."""
    rows = oof[KEY].copy()
    rows["preset"] = rows["preset"].astype(str)
    hashed = pd.util.hash_pandas_object(rows, index=False)
    # The order of rows is no part of them.
    return hashed.groupby(oof["src"]).sum().to_dict()


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per source that both runs held out, what gained most in RMSE first."""
    both = a["folds"].merge(b["folds"], left_index=True, right_index=True, suffixes=("_a", "_b"))
    columns = ["n_val", *(name for name, *_ in METRICS)]
    pairs = both[[f"{name}_{side}" for name in columns for side in "ab"]].copy()
    for name, *_ in METRICS:
        pair = [pd.to_numeric(pairs[f"{name}_{side}"]) for side in "ab"]
        pairs[f"{name}_a"], pairs[f"{name}_b"] = pair
        pairs[f"{name}_difference"] = pair[1] - pair[0]
    pairs["same_rows"] = [a["rows"][source] == b["rows"][source] for source in pairs.index]
    return pairs.sort_values("rmse_difference", kind="stable").rename_axis("source")


def _difference(pairs: pd.DataFrame, name: str, unit: str, more: bool) -> dict[str, Any]:
    values = pairs[f"{name}_difference"].to_numpy(dtype=float)
    finite = bool(len(values)) and bool(np.isfinite(values).all())
    low, high = bootstrap_interval(values) if finite and len(values) > 1 else (None, None)
    return {
        "metric": name,
        "unit": unit,
        "more_is_better": more,
        "pairs": len(values),
        "a": float(pairs[f"{name}_a"].mean(skipna=False)) if finite else None,
        "b": float(pairs[f"{name}_b"].mean(skipna=False)) if finite else None,
        "mean": float(values.mean()) if finite else None,
        "low": low,
        "high": high,
        "says": _says(values, finite, low, high, more),
    }


def _says(
    values: np.ndarray, finite: bool, low: float | None, high: float | None, more: bool
) -> str:
    """Return what a difference says, in words."""
    if not len(values):
        return "no source in common"
    if not finite:
        return "not finite for every source, so no mean"
    if not values.any():
        return "no difference at all"
    if low is None or high is None:
        return "one source in common, so no interval"
    if low <= 0 <= high:
        return "the interval holds 0: nothing decides between them"
    return "B is better" if (low > 0) == more else "A is better"


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs between two mappings, in the order of the first."""
    return [
        {"name": key, "a": a.get(key, ABSENT), "b": b.get(key, ABSENT)}
        for key in dict.fromkeys((*a, *b))
        if a.get(key, ABSENT) != b.get(key, ABSENT)
    ]


def _clauses(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    sides = [{clause["name"]: clause for clause in clauses} for clauses in (a, b)]
    for name in dict.fromkeys((*sides[0], *sides[1])):
        found = [side.get(name, {"status": ABSENT, "value": None}) for side in sides]
        either = sides[0].get(name) or sides[1][name]
        yield {
            "name": name,
            "limit": either["limit"],
            "status": [clause["status"] for clause in found],
            "value": [clause["value"] for clause in found],
            "changed": found[0]["status"] != found[1]["status"],
        }
