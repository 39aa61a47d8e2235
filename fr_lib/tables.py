"""Tables as the notebooks show them: named columns, fixed digits, words for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from fr_lib.rundir import plain

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
    figures = dict.fromkeys(table.select_dtypes("float").columns, "{:.6g}")
    return table.style.hide(axis="index").format(figures, na_rep="not measured")


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


def calibration_table(loso: Mapping[str, Any]) -> pd.DataFrame:
    """Return residuals per range of VMAF, in VMAF points."""
    return pd.DataFrame(
        {
            "VMAF": f"{row['low']} to {row['low'] + 10}",
            "rows": f"{row['rows']:,}",
            "bias": text(row["bias"], "+.3f"),
            "RMSE": text(row["rmse"], ".3f"),
            "5 % to 95 %": _interval((row["p05"], row["p95"]), "+.2f"),
        }
        for row in loso["calibration"]
    )


def frames_table(frames: pd.DataFrame) -> pd.DataFrame:
    """Return single rows with features and residual, rounded for reading."""
    shown = frames.rename(columns={"frame_index": "frame"}).copy()
    for column in shown.select_dtypes("number").columns:
        digits = 0 if column == "frame" else 3
        shown[column] = [text(plain(value), f".{digits}f") for value in shown[column]]
    return shown


def transfer_table(transfer: Mapping[str, Any]) -> pd.DataFrame:
    """Return the cost of an unseen codec per scheme and answer, in VMAF points."""
    return pd.DataFrame(
        {
            "situation": scheme,
            "answer": {"ours": "ours", "reference": "reference recipe"}[answer],
            "mean RMSE": text(row["rmse"], ".2f"),
            "95 % interval": _interval((row["rmse_low"], row["rmse_high"]), ".2f"),
            "mean |bias|": text(row["abs_bias"], ".2f"),
            "worst RMSE": f"{text(row['worst_rmse'], '.2f')} ({row['worst_set']})",
        }
        for scheme, answers in transfer["headline"].items()
        for answer, row in answers.items()
    )


def transfer_matrix(transfer: Mapping[str, Any], answer: str, column: str) -> pd.DataFrame:
    """Return a figure for every codec trained on alone (rows) and scored (columns)."""
    pairs = pd.DataFrame(transfer["pairs"])
    own = pairs[(pairs["scheme"] == "train on one codec") & (pairs["answer"] == answer)]
    matrix = own.pivot_table(index="trained_on", columns="scored_on", values=column)
    order = transfer["encoders"]
    return matrix.loc[order, order]


def ablation_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return mean and worst figures per variant; RMSE in VMAF points."""
    return pd.DataFrame(
        {
            "choice": row["choice"],
            "variant": row["name"],
            "mean RMSE": text(row["rmse"], ".4g"),
            "95 % interval": _interval((row["low"], row["high"]), ".3g"),
            "worst RMSE": text(row["worst_rmse"], ".4g"),
            "mean PLCC": text(row["plcc"], ".5f"),
            "worst PLCC": text(row["worst_plcc"], ".5f"),
        }
        for row in rows
    )


def recommendation(ablation: Mapping[str, Any]) -> str:
    """Return what the ablation supports, in one sentence with its figures."""
    default, *others = ablation["rows"]
    others = [row for row in others if row["rmse"] is not None]
    if default["rmse"] is None or not others:
        return "Nothing can be recommended: the errors are not finite."
    best = min(others, key=lambda row: row["rmse"])
    figures = f"{best['rmse']:.3f} against {default['rmse']:.3f} VMAF points"
    if best["rmse"] >= default["rmse"]:
        return f"Keep the recipe: no single change lowers the mean RMSE ({figures} at best)."
    if best["low"] <= default["rmse"] <= best["high"]:
        return (
            f"The lowest mean RMSE is that of '{best['name']}' ({figures}), but the interval over "
            "sources holds both: on these clips nothing decides between them."
        )
    return (
        f"'{best['name']}' lowers the mean RMSE ({figures}) beyond what the sources' spread hides."
    )
