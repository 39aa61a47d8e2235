"""Tables as the notebooks show them: named columns, fixed digits, words for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

TEACHER_COLUMNS = ["src", "encoder", "preset", "quality", "n_rows", "max_abs_difference"]
TWIN_COLUMNS = ["a", "b", "signs", "equal_rows", "common_rows"]
ARM_NAMES = {
    "v1": "v1: six features",
    "v2": "v2: + 12-slot block",
    "v3": "v3: + 16-slot block",
}


def text(value: float | None, form: str) -> str:
    """Return a figure in a format such as ``.3f``, or "not measured" where there is none."""
    return "not measured" if value is None else format(value, form)


def show(table: pd.DataFrame) -> Styler:
    """Return a table for display without its row numbers; an empty one says so."""
    if table.empty:
        table = pd.DataFrame([["none", *[""] * (len(table.columns) - 1)]], columns=table.columns)
    return table.style.hide(axis="index").format(na_rep="not measured")


def _interval(pair: tuple[float | None, float | None], form: str) -> str:
    low, high = pair
    return "not measured" if low is None else f"{low:{form}} to {high:{form}}"


def arms_table(loso: Mapping[str, Any]) -> pd.DataFrame:
    """Return mean, interval and worst source of every arm of a ``loso.json``."""
    rows = []
    for arm, facts in loso["arms"].items():
        figures, intervals = facts["summary"], facts["intervals"]
        rows.append(
            {
                "arm": ARM_NAMES[arm],
                "mean PLCC": text(figures["mean_plcc"], ".5f"),
                "95 % interval": _interval(intervals["plcc"], ".5f"),
                "worst PLCC": text(figures["min_plcc"], ".5f"),
                "mean SROCC": text(figures["mean_srocc"], ".4f"),
                "mean RMSE": text(figures["mean_rmse"], ".3f"),
                "95 % interval ": _interval(intervals["rmse"], ".3f"),
                "worst RMSE": text(figures["max_rmse"], ".3f"),
            }
        )
    return pd.DataFrame(rows)


def folds_table(loso: Mapping[str, Any], arm: str) -> pd.DataFrame:
    """Return the folds of one arm, one line per held-out source; RMSE and bias in VMAF points."""
    return pd.DataFrame(
        {
            "held-out source": fold["held_out"],
            "training rows": f"{fold['n_train']:,}",
            "held-out rows": f"{fold['n_val']:,}",
            "PLCC": text(fold["plcc"], ".5f"),
            "SROCC": text(fold["srocc"], ".4f"),
            "RMSE": text(fold["rmse"], ".3f"),
            "bias": text(fold["bias"], "+.3f"),
        }
        for fold in loso["arms"][arm]["folds"]
    )


def gate_table(gate: Mapping[str, Any]) -> pd.DataFrame:
    """Return the clauses of a ``gate.json``, one line each."""
    return pd.DataFrame(
        {
            "clause": clause["name"],
            "limit": clause["limit"],
            "measured": text(clause["value"], ".5g"),
            "status": {"pass": "✓ pass", "fail": "✗ fail"}.get(clause["status"], clause["status"]),
            "blocks shipping": "yes" if clause["blocks"] else "no",
        }
        for clause in gate["clauses"]
    )


def parity_table(parity: Mapping[str, Any]) -> pd.DataFrame:
    """Return the largest difference between ONNX file and network for each batch size."""
    return pd.DataFrame(
        {
            "batch": batch,
            "largest difference (VMAF points)": text(difference, ".2e"),
            "allowed": text(parity["atol"], ".0e"),
        }
        for batch, difference in parity["max_abs_diff"].items()
    )


def slots_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """Return training rows per slot and which network answers for it."""
    return pd.DataFrame(
        {
            "slot": slot,
            "training rows": f"{rows:,}",
            "answered by": "v3, codec-aware" if rows else "v1, codec-blind",
        }
        for slot, rows in card["trained_slots"].items()
    )


def model_table(card: Mapping[str, Any], facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return what identifies the exported model."""
    rows = {
        "model": card["id"],
        "sha256": card["sha256"],
        "size (bytes)": f"{facts['n_bytes']:,}",
        "opset": card["opset"],
        "operators": ", ".join(facts["ops"]),
        "inputs": ", ".join(card["input_names"]),
        "output": ", ".join(card["output_names"]),
        "gate passed": card["gate_passed"],
        "smoke": card["training"]["smoke"],
        "notes": card["notes"],
    }
    return pd.DataFrame({"key": rows.keys(), "value": [str(v) for v in rows.values()]})
