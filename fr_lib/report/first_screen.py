"""What the first screen of the card says: verdict, errors, slots, ranges, costs.

Every function takes contents of the run's files and returns plain values; the wording that depends
on them is here too, where it is tested, and the page only sets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.arms import SHIPPED_ARM
from fr_lib.errors import NOT_MEASURED, counted, text
from fr_lib.evaluate import LEAVE_ONE_OUT, MEAN_PLCC, WORST_PLCC, failed_clauses
from fr_lib.report.transfer import seen_errors
from fr_lib.schema import VMAF_BIN

_SHARE = 0.99


PASSED, FAILED, SYNTHETIC = "passed", "failed", "synthetic"


def state_of(gate: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Return what the card has to say before anything else: "passed", "failed" or "synthetic"."""
    if not gate["gate_passed"]:
        return FAILED
    return SYNTHETIC if card["training"]["smoke"] else PASSED


def verdict_counts(gate: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many clauses passed, and the names of the others by what became of them.

    Returns
    -------
    dict
        ``total`` and ``passed`` (int); ``blocking``, ``other`` and ``not_measured`` (lists of str):
        clauses that failed and keep the model from shipping, that failed without, that could not be
        measured.
    """
    by_status: dict[str, list[str]] = {}
    for clause in gate["clauses"]:
        by_status.setdefault(clause["status"], []).append(clause["name"])
    blocking = [clause["name"] for clause in failed_clauses(gate)]
    return {
        "total": len(gate["clauses"]),
        "passed": len(by_status.get("pass", ())),
        "blocking": blocking,
        "other": [name for name in by_status.get("fail", ()) if name not in blocking],
        "not_measured": by_status.get(NOT_MEASURED, []),
    }


def floors_passed_by(
    loso: Mapping[str, Any], gate: Mapping[str, Any], ablation: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return what else clears both floors of correlation on the same folds.

    Predictors without a network, as far as they were measured, then ADR-0319's recipe, where it is
    not the one that is judged.

    Returns
    -------
    dict or None
        ``names``, and ``lowest``: the least of their mean PLCCs. None where nothing does, or
        nothing else was measured.
    """
    rivals = [] if ablation is None else ablation["baselines"]
    passed = {
        rival["name"].replace(", its own", "'s own"): rival["plcc"]
        for rival in rivals
        if rival["plcc"] is not None
        and rival["worst_plcc"] is not None
        and rival["plcc"] >= MEAN_PLCC
        and rival["worst_plcc"] >= WORST_PLCC
    }
    if loso["adr0319"] and gate["adr_gate_passed"]:
        own = loso["adr0319"]["arms"][SHIPPED_ARM]["summary"]
        passed["ADR-0319's recipe"] = own["mean_plcc"]
    return {"names": list(passed), "lowest": min(passed.values())} if passed else None


def row_errors(oof: pd.DataFrame, arm: str = SHIPPED_ARM) -> dict[str, Any]:
    """Return how far single held-out rows are off, in VMAF points.

    Parameters
    ----------
    oof : DataFrame
        ``oof.parquet``: each row as the network predicts it that never saw its source.
    arm : str

    Returns
    -------
    dict
        ``rows``; ``p99``: the least error that 99 % of them do not exceed; ``max`` and ``at``, the
        row where it is; ``not_finite``: rows without a finite prediction. With any of those the
        errors are None, since no bound holds for all rows.
    """
    error = (oof[f"pred_{arm}"] - oof["vmaf"]).abs().to_numpy()
    bad = int((~np.isfinite(error)).sum())
    worst = oof.iloc[int(np.argmax(error))]
    return {
        "rows": len(error),
        "not_finite": bad,
        "p99": None if bad else float(np.quantile(error, _SHARE, method="inverted_cdf")),
        "max": None if bad else float(error.max()),
        "at": {name: worst[name] for name in ("src", "encoder", "quality", "vmaf")},
    }


def slot_errors(
    audit: Mapping[str, Any], oof: pd.DataFrame, arm: str = SHIPPED_ARM
) -> list[dict[str, Any]]:
    """Return every slot with its training rows and, where it has any, the RMSE of held-out ones.

    Slots with rows come first. The RMSE is over all held-out rows of the encoder, VMAF points.
    """
    squares = (oof[f"pred_{arm}"] - oof["vmaf"]) ** 2
    rmse = np.sqrt(squares.groupby(oof["encoder"]).mean())
    slots = [
        {"name": name, "rows": rows, "rmse": float(rmse[name]) if rows else None}
        for name, rows in audit["rows_per_slot"].items()
    ]
    trained = audit["trained_slots"]
    order = {name: place for place, name in enumerate([*trained, *audit["empty_slots"]])}
    return sorted(slots, key=lambda slot: order[slot["name"]])


def presets_of(oof: pd.DataFrame) -> dict[str, list[str]]:
    """Return the presets of each encoder in the rows, encoders and presets in order of name."""
    return {
        encoder: sorted(rows["preset"].dropna().astype(str).unique())
        for encoder, rows in oof.groupby("encoder")
    }


def picture_sizes(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return least and greatest width and height of the rows' pictures, in pixels; None unknown.

    ``count``: how many sizes there are; ``per_source``: the most that one source has.
    """
    if not {"width", "height"} <= set(rows) or rows[["width", "height"]].isna().any(axis=None):
        return None
    sizes = rows[["src", "width", "height"]].drop_duplicates()
    return {
        "width": (int(sizes["width"].min()), int(sizes["width"].max())),
        "height": (int(sizes["height"].min()), int(sizes["height"].max())),
        "count": len(sizes[["width", "height"]].drop_duplicates()),
        "per_source": int(sizes.groupby("src").size().max()),
    }


def block_verdict(seeds: Mapping[str, Any] | None) -> str:
    """Return in a word or two whether the codec block helps, by the mean RMSE of each seed."""
    if seeds is None:
        return "one seed, so not decided"
    lift = seeds["lift"]["rmse"]
    if lift["high"] < 0:
        return "yes, with every seed"
    return "no, worse with every seed" if lift["low"] > 0 else "no measurable help"


def deep_encodes(made: Mapping[str, Any] | None) -> list[str] | None:
    """Return the encoders that were given ten bits a sample, by their options; None unknown."""
    if made is None or not all("options" in encoder for encoder in made.get("encoders", ())):
        return None
    return [
        encoder["encoder"]
        for encoder in made["encoders"]
        if any("10le" in option for option in encoder["options"])
    ]


def multiplications(path: Path) -> int:
    """Return how many products of two numbers the matrices of an ONNX file take for one row."""
    import onnx

    graph = onnx.load(path).graph
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in graph.initializer}
    products = (node for node in graph.node if node.op_type in ("MatMul", "Gemm"))
    return sum(sizes.get(name, 0) for node in products for name in node.input[:2])


def ranges(
    audit: Mapping[str, Any],
    loso: Mapping[str, Any],
    stress: Mapping[str, Any] | None,
    swap: Mapping[str, Any] | None,
    clips: Mapping[str, Any] | None,
    sizes: Mapping[str, Any] | None,
    presets: Mapping[str, Sequence[str]],
    transfer: Mapping[str, Any] | None,
) -> list[dict[str, str]]:
    """Return what a reader asks of his own clips: ``what``, ``seen`` in training, ``beyond`` it.

    Parameters
    ----------
    audit, loso : mapping
        ``audit.json`` and ``loso.json``.
    stress, swap : mapping or None
        Of the arm that ships, from ``outside.json``; None where there is no formula to ask.
    clips, sizes, presets
        What :func:`fr_lib.report.values.clip_figures`, :func:`picture_sizes` and
        :func:`presets_of` return.
    transfer : mapping or None
        Evidence on unseen codecs.
    """
    return [
        _codec_range(audit, transfer),
        _preset_range(audit, presets, swap),
        _size_range(sizes, clips, stress),
        {
            "what": "frame rate",
            "seen": f"{_span(clips['rate'], 'g')} a second" if clips else "not stated",
            "beyond": NOT_MEASURED,
        },
        _vmaf_range(audit, loso),
    ]


def _span(pair: Sequence[float], form: str = ",") -> str:
    low, high = (format(round(value, 2), form) for value in pair)
    return low if low == high else f"{low} to {high}"


def _codec_range(audit: Mapping[str, Any], transfer: Mapping[str, Any] | None) -> dict[str, str]:
    empty = len(audit["empty_slots"])
    beyond = f"{counted(empty, 'other slot')}, answered codec-blind"
    if transfer:
        unseen = transfer["headline"][LEAVE_ONE_OUT]["ours"]["rmse"]
        seen = seen_errors(transfer)[LEAVE_ONE_OUT]["ours"]
        beyond += f": RMSE {text(unseen, '.3f')} on codecs left out, {text(seen, '.3f')} if seen"
    elif empty:
        beyond += f"; their error was {NOT_MEASURED}"
    return {
        "what": "codec",
        "seen": ", ".join(audit["trained_slots"]),
        "beyond": beyond if empty else "every slot has rows",
    }


def _preset_range(
    audit: Mapping[str, Any],
    presets: Mapping[str, Sequence[str]],
    swap: Mapping[str, Any] | None,
) -> dict[str, str]:
    seen = ", ".join(f"{encoder} {' '.join(own)}" for encoder, own in presets.items() if own)
    beyond = NOT_MEASURED
    if preset_effect(audit, presets) == INERT:
        beyond = "moves no score: its column never varied"
    elif swap:
        beyond = f"another codec block moves 99 % of scores by {text(swap['p99'], '.3f')} at most"
    return {"what": "preset", "seen": seen or "none named", "beyond": beyond}


INERT, EXTRAPOLATED, VARIED = "inert", "extrapolated", "varied"


def preset_effect(audit: Mapping[str, Any], presets: Mapping[str, Sequence[str]]) -> str:
    """Return what another preset does to a score.

    "inert": nothing, as the column never varied and was folded into the bias; "extrapolated": each
    encoder has one preset, so the column says what the slot says; "varied": some encoder has more.
    """
    if "preset_norm" in {column["column"] for column in audit["constant_columns"]}:
        return INERT
    return EXTRAPOLATED if all(len(own) < 2 for own in presets.values()) else VARIED


def _size_range(
    sizes: Mapping[str, Any] | None,
    clips: Mapping[str, Any] | None,
    stress: Mapping[str, Any] | None,
) -> dict[str, str]:
    known, beyond = sizes or clips, NOT_MEASURED
    if stress:
        widths = [part for part in stress["widths"] if part["rmse"] is not None]
        if widths:
            errors = [part["rmse"] for part in widths]
            names = [int(part["name"]) for part in widths]
            beyond = (
                f"stress set, {_span((min(names), max(names)))} wide: "
                f"RMSE {min(errors):.3f} to {max(errors):.3f}"
            )
    seen = "not stated"
    if known:
        seen = f"{_span(known['width'])} wide, {_span(known['height'])} high"
    return {"what": "size", "seen": seen, "beyond": beyond}


def _vmaf_range(audit: Mapping[str, Any], loso: Mapping[str, Any]) -> dict[str, str]:
    low = min(source["vmaf_min"] for source in audit["sources"])
    high = max(source["vmaf_max"] for source in audit["sources"])
    bins = [part for part in loso["calibration"] if part["rmse"] is not None]
    worst = max(bins, key=lambda part: part["rmse"], default=None)
    beyond = "no answer is finite"
    if worst:
        ends = f"{worst['low']} to {worst['low'] + VMAF_BIN}"
        beyond = f"worst where VMAF is {ends}: RMSE {worst['rmse']:.3f}"
    return {"what": "VMAF", "seen": f"{low:.0f} to {high:.0f}", "beyond": beyond}
