"""Tables as the notebooks show them: named columns, fixed digits, words for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.errors import NOT_MEASURED, text
from fr_lib.evaluate import ONE_CODEC
from fr_lib.report.digits import between, correlations, points
from fr_lib.report.names import cell_text, page_text
from fr_lib.report.transfer import seen_errors
from fr_lib.schema import CANONICAL_6, VMAF_BIN, encoder_index, vmaf_bins

_CELL = "white-space: pre-wrap; overflow-wrap: break-word; max-width: 30em"
TEACHER_COLUMNS = ["src", "encoder", "preset", "quality", "n_rows", "max_abs_difference"]
TWIN_COLUMNS = ["a", "b", "signs", "equal_rows", "common_rows"]


def teacher_sentence(check: Mapping[str, Any]) -> str:
    """Return what the teacher's formula says of the rows, or why it cannot be asked."""
    if check["status"] != "measured":
        return f"No row could be checked here: {check['reason']}."
    return (
        f"{check['n_disagree']:,} of {check['n_rows']:,} rows differ by more than "
        f"{check['tolerance']:g} VMAF points; the largest difference is "
        f"{check['max_abs_difference']:.2g}."
    )


def show(table: pd.DataFrame) -> Styler:
    """Return a table for display without its row numbers; an empty one says so."""
    if table.empty:
        table = pd.DataFrame([["none", *[""] * (len(table.columns) - 1)]], columns=table.columns)
    forms = dict.fromkeys(table.columns, cell_text)
    forms |= dict.fromkeys(table.select_dtypes("float").columns, "{:.4g}")
    # Spaces and line ends belong to a name, and a long one must break somewhere.
    style = table.style.hide(axis="index").set_table_styles([{"selector": "td", "props": _CELL}])
    return style.format(forms, na_rep=NOT_MEASURED).format_index(escape="html", axis="columns")


def arms_table(loso: Mapping[str, Any]) -> pd.DataFrame:
    """Return mean, interval and worst source of every arm of a ``loso.json``."""
    rows = []
    for arm, facts in loso["arms"].items():
        figures, intervals = facts["summary"], facts["intervals"]
        low, high = intervals["plcc"]
        mean, low, high, worst = correlations(
            [figures["mean_plcc"], low, high, figures["min_plcc"]]
        )
        rows.append(
            {
                "arm": ARMS[arm].label,
                "mean PLCC": mean,
                "95 % interval": low if low == high else f"{low} to {high}",
                "worst PLCC": worst,
                "mean SROCC": correlations([figures["mean_srocc"]])[0],
                "mean RMSE": points(figures["mean_rmse"]),
                "95 % interval ": between(*intervals["rmse"]),
                "worst RMSE": points(figures["max_rmse"]),
            }
        )
    return pd.DataFrame(rows)


def short_of_one(plcc: float | None) -> str:
    """Return by how much a correlation misses 1; in fixed digits those of a run look all alike.

    Examples
    --------
    >>> short_of_one(0.9999996), short_of_one(0.5), short_of_one(None)
    ('4.0e-07', '5.0e-01', 'not measured')
    """
    return NOT_MEASURED if plcc is None else text(1 - plcc, ".1e")


def folds_table(loso: Mapping[str, Any], arm: str) -> pd.DataFrame:
    """Return the folds of one arm, one line per held-out source; RMSE and bias in VMAF points."""
    folds = loso["arms"][arm]["folds"]
    return pd.DataFrame(
        {
            "held-out source": [fold["held_out"] for fold in folds],
            "training rows": [f"{fold['n_train']:,}" for fold in folds],
            "held-out rows": [f"{fold['n_val']:,}" for fold in folds],
            "PLCC": correlations([fold["plcc"] for fold in folds]),
            "SROCC": correlations([fold["srocc"] for fold in folds]),
            "RMSE": [points(fold["rmse"]) for fold in folds],
            "bias": [points(fold["bias"], "+") for fold in folds],
        }
    )


def made_sentence(recipe: Mapping[str, Any]) -> str:
    """Return what a recipe adds to the real rows, in one sentence."""
    if not recipe["made_per_row"]:
        return "It trains on real rows alone."
    return (
        f"Beside each real row it trains on {recipe['made_per_row']} that were made from a fold's "
        "own training rows, or drawn from the domain, and labelled by the teacher's formula."
    )


def reasons(clauses: Sequence[Mapping[str, Any]]) -> str:
    """Return what each clause of the gate says, as a Markdown list."""
    return "\n".join(
        f"- **{page_text(c['name'])}**: {page_text(c['reason'])} ({page_text(c['source'])})."
        for c in clauses
    )


def _measured(value: float | None) -> str:
    # A correlation that is not 1 must not read as 1.
    near_one = value is not None and 0.99999 < value < 1
    return correlations([value])[0] if near_one else text(value, ".5g")


def gate_table(clauses: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return clauses of a ``gate.json``, one line each."""
    return pd.DataFrame(
        {
            "clause": clause["name"],
            "limit": clause["limit"],
            "measured": _measured(clause["value"]),
            "status": {"pass": "✓ pass", "fail": "✗ fail"}.get(clause["status"], clause["status"]),
            "blocks shipping": "yes" if clause["blocks"] else "no",
        }
        for clause in clauses
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


def _answering(arm: str) -> str:
    return f"{arm}, {ARMS[arm].sight}"


def slots_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """Return training rows per slot and which network answers for it."""
    return pd.DataFrame(
        {
            "slot": slot,
            "training rows": f"{rows:,}",
            "answered by": _answering(SHIPPED_ARM if rows else BLIND_ARM),
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


def errors_table(rows: pd.DataFrame, oof: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return held-out errors by codec, size of the picture and range of VMAF, in VMAF points.

    Parameters
    ----------
    rows : DataFrame
        The corpus; sizes are left out where it has no ``width height``.
    oof : DataFrame
        ``vmaf encoder pred_<arm>``, with the index of `rows`.
    arm : str
    """
    error, low = oof[f"pred_{arm}"] - oof["vmaf"], vmaf_bins(oof["vmaf"], VMAF_BIN)
    groups = {"codec": (oof["encoder"], encoder_index)}
    if "width" in rows:
        groups["size"] = _sizes(rows.loc[oof.index]), _pixels
    ranges = [f"{start:g} to {start + VMAF_BIN:g}" for start in low]
    groups["VMAF"] = pd.Series(ranges, error.index), _first
    return pd.DataFrame(
        {
            "by": by,
            "group": name,
            "rows": f"{len(own):,}",
            "bias": points(own.mean(), "+"),
            "RMSE": points((own**2).mean() ** 0.5),
            "5 % to 95 %": between(*own.quantile([0.05, 0.95]), "+"),
            "99 % are within": points(own.abs().quantile(0.99)),
            "largest": points(own.abs().max()),
        }
        for by, (names, order) in groups.items()
        for name, own in sorted(error.groupby(names), key=lambda pair: order(pair[0]))
    )


def _sizes(rows: pd.DataFrame) -> pd.Series:
    return rows["width"].astype(str) + "x" + rows["height"].astype(str)


def _pixels(size: str) -> int:
    width, height = size.split("x")
    return int(width) * int(height)


def _first(name: str) -> int:
    return int(name.partition(" ")[0])


def frames_table(frames: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return single rows of a corpus with their features and residual, rounded for reading.

    Parameters
    ----------
    frames : DataFrame
        As :func:`fr_lib.evaluate.loso.worst_frames` returns them.
    rows : DataFrame
        The corpus, for the size of the picture: one source may have several.
    """
    # Two lines in a cell, so that all columns stay on the page.
    sizes = "\n" + _sizes(rows.loc[frames.index]) if "width" in rows else ""
    quality = [f", {value:g}" for value in frames["quality"]]
    encode = frames["encoder"] + "\n" + frames["preset"].astype(str) + quality
    shown = pd.DataFrame({"source": frames["src"] + sizes, "encode": encode})
    forms = {"frame_index": ".0f", "vmaf": ".2f", "residual": "+.2f"}
    for column, form in (forms | dict.fromkeys(CANONICAL_6, ".3f")).items():
        shown[column] = [text(value, form) for value in frames[column]]
    return shown.rename(columns={"frame_index": "frame", "vmaf": "VMAF"})


def transfer_table(transfer: Mapping[str, Any]) -> pd.DataFrame:
    """Return the cost of an unseen codec per scheme and answer, beside that of a seen one."""
    seen = seen_errors(transfer)
    return pd.DataFrame(
        {
            "situation": scheme,
            "answer": {"ours": "ours", "reference": "reference recipe"}[answer],
            "RMSE, seen codecs": points(seen[scheme][answer]),
            "RMSE, unseen codecs": points(row["rmse"]),
            "95 % interval": between(row["rmse_low"], row["rmse_high"]),
            "mean |bias|": points(row["abs_bias"]),
            "worst RMSE": f"{points(row['worst_rmse'])} ({row['worst_set']})",
        }
        for scheme, answers in transfer["headline"].items()
        for answer, row in answers.items()
    )


def transfer_matrix(transfer: Mapping[str, Any], answer: str, column: str) -> pd.DataFrame:
    """Return a figure for every codec trained on alone (rows) and scored (columns)."""
    pairs = pd.DataFrame(transfer["pairs"])
    own = pairs[(pairs["scheme"] == ONE_CODEC) & (pairs["answer"] == answer)]
    matrix = own.pivot_table(index="trained_on", columns="scored_on", values=column)
    order = transfer["encoders"]
    return matrix.loc[order, order]


def unseen_table(transfer: Mapping[str, Any]) -> pd.DataFrame:
    """Return, per codec, the RMSE with it in training and left out, ours and the reference's."""
    pairs = pd.DataFrame(transfer["pairs"])
    pairs = pairs[pairs["scheme"] != ONE_CODEC]
    errors = pairs.set_index(["scored_on", "answer", "seen"])["rmse"].to_dict()
    columns = {
        f"{name}, {situation}": (answer, seen)
        for answer, name in (("ours", "ours"), ("reference", "reference recipe"))
        for seen, situation in ((True, "seen"), (False, "left out"))
    }
    return pd.DataFrame(
        {"codec": codec}
        | {column: points(errors.get((codec, *which))) for column, which in columns.items()}
        for codec in transfer["encoders"]
    )


def ablation_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return mean and worst figures per variant; RMSE in VMAF points."""
    return pd.DataFrame(
        {
            "choice": [row["choice"] for row in rows],
            "variant": [row["name"] for row in rows],
            "mean RMSE": [points(row["rmse"]) for row in rows],
            "95 % interval": [between(row["low"], row["high"]) for row in rows],
            "worst RMSE": [points(row["worst_rmse"]) for row in rows],
            "mean PLCC": correlations([row["plcc"] for row in rows]),
            "worst PLCC": correlations([row["worst_plcc"] for row in rows]),
        }
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
        f"'{best['name']}' lowers the mean RMSE ({figures}) beyond what the sources' spread hides. "
        f"{_why_not(best, ablation['stamps']['recipe'])}"
    )


def _why_not(best: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Return why a run ships its recipe though a change of it is the better one."""
    limit = ""
    if best["choice"] == "epochs" and recipe["steps"]:
        limit = (
            f" The recipe takes {recipe['steps']:,} steps at most, here {recipe['epochs']} epochs, "
            "so that a larger corpus trains no fold longer."
        )
    return (
        "What ships is the recipe as it stands all the same: these folds judge it, and would judge "
        f"nothing any more had they chosen it.{limit}"
    )


def _reports(facts: Mapping[str, Any], recipes: Sequence[str] = ()) -> list[tuple[str, str, Any]]:
    """Return (recipe, arm, report) of what chapter 07 measured, the shipped recipe first."""
    return [
        (name, arm, report)
        for name in shipped_first(facts)
        if not recipes or name in recipes
        for arm, report in facts["recipes"][name]["arms"].items()
    ]


def shipped_first(facts: Mapping[str, Any]) -> list[str]:
    """Return the recipes of chapter 07: the one that ships, then the others by name."""
    return sorted(facts["recipes"], key=lambda name: (name != facts["shipped"], name))


def outside_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return stress set and block swap per recipe and arm, in VMAF points."""
    return pd.DataFrame(
        {
            "recipe": name,
            "arm": ARMS[arm].label,
            "RMSE": text(report["stress"]["rmse"], ".3f"),
            "median cell": text(report["stress"]["median_cell"], ".3f"),
            "worst cell": text(report["stress"]["worst_cell"]["rmse"], ".2f"),
            "largest error": text(report["stress"]["max_abs"], ".2f"),
            "swap, p99": text(report["swap"]["p99"], ".3f") if report["swap"] else "no block",
        }
        for name, arm, report in _reports(facts)
    )


def outside_slots_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return RMSE and bias on the stress set per answer of the shipped recipe's arms that ship."""
    return pd.DataFrame(
        {
            "asked as": row["answer"],
            "RMSE": text(row["rmse"], ".3f"),
            "bias": text(row["bias"], "+.3f"),
        }
        for _, arm, report in _reports(facts, [facts["shipped"]])
        if arm in (BLIND_ARM, SHIPPED_ARM)
        for row in report["stress"]["by_answer"]
    )


def swap_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return how far a score moves when another legal codec block is put in, VMAF points."""
    return pd.DataFrame(
        {
            "recipe": name,
            "arm": ARMS[arm].label,
            "rows x blocks": f"{report['swap']['rows']:,} x {report['swap']['blocks']}",
            "mean": text(report["swap"]["mean"], ".4f"),
            "p99": text(report["swap"]["p99"], ".3f"),
            "largest": text(report["swap"]["max"], ".2f"),
            "largest at": report["swap"]["at"],
        }
        for name, arm, report in _reports(facts)
        if report["swap"]
    )


def worst_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return, per recipe and arm, the worst frame over all slots, once per end of the domain."""
    return pd.DataFrame(
        {
            "recipe": name,
            "arm": arm,
            "features up to": f"{frame['highest']:g}",
            "asked as": frame["answer"],
            "error": text(frame["difference"], ".2f"),
            "p99 of random points": text(frame["p99"], ".2f"),
            "VMAF": text(frame["vmaf"], ".1f"),
        }
        for name, arm, frame in worst_of_domain(facts)
    )


def worst_features_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the features of the worst frames of the recipe that ships, one frame a column."""
    return pd.DataFrame(
        {"feature": list(CANONICAL_6)}
        | {
            f"{arm}, to {frame['highest']:g}": [
                f"{frame['features'][feature]:.3g}" for feature in CANONICAL_6
            ]
            for name, arm, frame in worst_of_domain(facts)
            if name == facts["shipped"]
        }
    )


def worst_of_domain(facts: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (recipe, arm, frame) with the largest difference, once per end of the domain."""
    return [
        (name, arm, max(own, key=lambda frame: frame["difference"] or 0.0))
        for name in shipped_first(facts)
        for arm, frames in facts["recipes"][name]["worst"].items()
        for highest in sorted({frame["highest"] for frame in frames})
        if (own := [frame for frame in frames if frame["highest"] == highest])
    ]


def domain_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the RMSE on frames of the stress set inside and outside the training range."""
    return pd.DataFrame(
        {
            "recipe": name,
            "arm": ARMS[arm].label,
            "frames outside": text(report["stress"]["domain"]["share_outside"], ".1%"),
            "RMSE inside": text(report["stress"]["domain"]["rmse_inside"], ".3f"),
            "RMSE outside": text(report["stress"]["domain"]["rmse_outside"], ".3f"),
        }
        for name, arm, report in _reports(facts)
    )


LOG_COLUMNS = ["log", "frames", "VMAF", "outside", BLIND_ARM, SHIPPED_ARM]
LOG_COLUMNS += [f"adr0319 {SHIPPED_ARM}"]


def logs_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the RMSE of the worst answer per log of another origin, VMAF points."""
    shipped = facts["recipes"][facts["shipped"]]["logs"]
    adr = facts["recipes"]["adr0319"]["logs"]
    rows = [
        (
            # With spaces a long name wraps, and the last column stays on the page.
            log["name"].removesuffix(".json").replace("_", " "),
            f"{log['frames']:,}",
            text(log["vmaf"], ".2f"),
            text(log["share_outside"], ".0%"),
            text(log["rmse"][BLIND_ARM], ".3f"),
            text(log["rmse"][SHIPPED_ARM], ".3f"),
            text(other["rmse"][SHIPPED_ARM], ".2f"),
        )
        for log, other in zip(shipped, adr, strict=True)
    ]
    return pd.DataFrame(rows, columns=LOG_COLUMNS)
