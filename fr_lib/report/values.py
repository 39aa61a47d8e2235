"""What the pages of the book may use: values of the run's files, computed and named here.

A page computes nothing and types no number: whatever it shows is a value of :func:`page_values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import formula_applies, teacher_of
from fr_lib.errors import text
from fr_lib.evaluate import (
    LEAVE_ONE_OUT,
    LIFT_CLAUSE,
    MEAN_PLCC,
    ONE_CODEC,
    RETRAIN_PENDING,
    SEED_CLAUSE,
    WORST_PLCC,
    failed_clauses,
)
from fr_lib.files import ROOT, read_json
from fr_lib.report.first_screen import (
    block_verdict,
    deep_encodes,
    floors_passed_by,
    multiplications,
    picture_sizes,
    preset_effect,
    presets_of,
    ranges,
    row_errors,
    slot_errors,
    state_of,
    verdict_counts,
)
from fr_lib.report.tables import recommendation, shipped_first, worst_of_domain
from fr_lib.report.transfer import seen_errors
from fr_lib.runs import CHAPTERS, PAGES, RunDir, find
from fr_lib.schema import ADAPTERS, CANONICAL_6, ENCODER_VOCAB_V2

PUBLISHED = ROOT / "data" / "adr0323_published.json"
OWNER = "the fr_regressor authors"  # as LICENSE has it
FORMULA = ROOT / "model" / "tiny" / "vmaf_v0_6_1_formula.onnx"


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure for a page: fixed digits, or words where there is none.

    Examples
    --------
    >>> number(0.12345, 2), number(None)
    ('0.12', 'not measured')
    """
    return text(value, f".{digits}f")


def thousands(value: float) -> str:
    """Return a count with a thin separator: ``6,864``."""
    return f"{value:,.0f}"


def page_values(run: RunDir) -> dict[str, Any]:
    """Return what the pages may use, all of it read from files of the run or of the project."""
    card = read_json(run / "model" / "fr_regressor_v3.json", made_by="04_export")
    audit, gate = run.read("audit.json"), run.read("gate.json")
    clauses = {clause["name"]: clause for clause in gate["clauses"]}
    values = {
        "audit": audit,
        "loso": run.read("loso.json"),
        "gate": gate,
        "lift_clause": clauses[LIFT_CLAUSE],
        "seed_clause": clauses[SEED_CLAUSE],
        "outside": run.read("outside.json"),
        "elsewhere": _elsewhere(find(run, "beyond")),
        "export": run.read("export.json"),
        "card": card,
        "made": audit.get("provenance"),
        "clips": clip_figures(audit.get("provenance")),
        "transfer": find(run, "transfer"),
        "ablation": find(run, "ablation"),
        "seeds": seed_figures(find(run, "seeds")),
        "published": read_json(PUBLISHED, made_by="a checkout of the project"),
        "teacher": teacher_of(audit["identity"]["teacher"]),
        "formula_applies": formula_applies(audit["teacher_check"]),
        "cost": run_cost(run),
        "owner": OWNER,
        "floors": {"mean": MEAN_PLCC, "worst": WORST_PLCC},
        "chapters": CHAPTERS,
        "pages": PAGES,
        "failed": failed_clauses(gate),
        "retrain_pending": RETRAIN_PENDING,
        "schemes": {"left_out": LEAVE_ONE_OUT, "alone": ONE_CODEC},
        "arms": ARMS,
        "aware": SHIPPED_ARM,
        "blind": BLIND_ARM,
        "adapters": ADAPTERS,
        "features": CANONICAL_6,
        "vocab_v2": ENCODER_VOCAB_V2,
        # Its title is the card's heading already, and its sections belong one level lower.
        "changelog": (ROOT / "CHANGELOG.md")
        .read_text()
        .partition("\n")[2]
        .replace("\n## ", "\n### "),
    }
    return values | _first_screen(run, values)


def _first_screen(run: RunDir, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the first screen says beyond single figures of files."""
    audit, loso, gate, transfer = (values[k] for k in ("audit", "loso", "gate", "transfer"))
    oof, rows = run.read_table("oof.parquet"), run.read_table("corpus.parquet")
    arm = values["outside"]["arms"][SHIPPED_ARM] if values["formula_applies"] else {}
    stress, swap = arm.get("stress"), arm.get("swap")
    presets, sizes = presets_of(oof), picture_sizes(rows)
    return {
        "state": state_of(gate, values["card"]),
        "counts": verdict_counts(gate),
        "floors_passed_by": floors_passed_by(loso, gate, values["ablation"]),
        "row_errors": row_errors(oof),
        "slots": slot_errors(audit, oof),
        "stress": stress,
        "swap": swap,
        "ranges": ranges(audit, loso, stress, swap, values["clips"], sizes, presets, transfer),
        "recommendation": values["ablation"] and recommendation(values["ablation"]),
        "sizes": sizes,
        "presets": presets,
        "preset_effect": preset_effect(audit, presets),
        "deep": deep_encodes(values["made"]),
        "seen": transfer and seen_errors(transfer),
        "block_verdict": block_verdict(values["seeds"]),
        "products": {
            "network": multiplications(run / "model" / values["card"]["onnx"]),
            "formula": multiplications(FORMULA),
        },
        "formula_bytes": FORMULA.stat().st_size,
    }


def run_cost(run: RunDir) -> dict[str, Any]:
    """Return what a run took, from the times that papermill left in its notebooks.

    Returns
    -------
    dict
        ``seconds`` per notebook and ``total``, None where any of them has no time, as one that was
        run in another way; ``encode_hours``: the sum of the corpus's own encode times, None where
        rows have none; ``networks``: how many were trained for folds and file.
    """
    seconds = {
        chapter.name: run.noted(chapter.name).get("duration")
        for chapter in CHAPTERS
        if not chapter.evidence
    }
    known = all(value is not None for value in seconds.values())
    folds, loso = run.read_table("folds.parquet"), run.read("loso.json")
    beside = loso["adr0319"]["arms"].values() if loso["adr0319"] else ()
    titles = loso["by_title"]["titles"] if loso["by_title"] else 0
    return {
        "seconds": seconds,
        "total": sum(filter(None, seconds.values())) if known else None,
        "encode_hours": _encode_hours(run.read_table("corpus.parquet")),
        "networks": len(folds) + sum(len(arm["folds"]) for arm in beside) + titles + len(ARMS),
    }


def _encode_hours(rows: pd.DataFrame) -> float | None:
    if "enc_time_ms" not in rows or rows["enc_time_ms"].isna().any():
        return None
    # A row is a frame, and each frame of an encode says how long the whole encode took.
    names = ("src", "encoder", "preset", "quality", "width", "height", "enc_scale")
    encodes = rows.drop_duplicates([name for name in names if name in rows])
    return float(encodes["enc_time_ms"].sum()) / 3.6e6


def _elsewhere(beyond: Mapping[str, Any] | None, arm: str = SHIPPED_ARM) -> dict[str, Any] | None:
    """Return, per recipe, an arm's errors outside the corpus in VMAF points, what ships first."""
    if beyond is None:
        return None
    recipes = {}
    for name, found in beyond["recipes"].items():
        logs = [log["rmse"][arm] for log in found["logs"] if log["rmse"][arm] is not None]
        recipes[name] = {
            "stress": found["arms"][arm]["stress"],
            "swap": found["arms"][arm]["swap"],
            "log_median": float(np.median(logs)) if logs else None,
            "log_worst": max(logs, default=None),
            "worst_frames": [
                frame["difference"]
                for recipe, own, frame in worst_of_domain(beyond)
                if (recipe, own) == (name, arm)
            ],
        }
    return {
        "order": shipped_first(beyond),
        "recipes": recipes,
        "logs": beyond["recipes"][beyond["shipped"]]["logs"],
    }


def clip_figures(made: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the ranges of the clips' width, height, frame count and seconds, and their rates.

    None where they are not known, as of clips that others encoded.
    """
    if made is None or not all("fps_exact" in clip for clip in made["sources"]):
        return None
    rates = [Fraction(clip["fps_exact"]) for clip in made["sources"]]
    seconds = [clip["frames"] / rate for clip, rate in zip(made["sources"], rates, strict=True)]
    ranges = {
        name: (min(values), max(values))
        for name, values in {
            "seconds": [float(s) for s in seconds],
            "rate": [float(r) for r in rates],
            **{key: [c[key] for c in made["sources"]] for key in ("width", "height", "frames")},
        }.items()
    }
    return {"count": len(rates)} | ranges


def seed_figures(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return, per arm, mean and spread over seeds of mean PLCC and mean RMSE; and the block's lift.

    ``lift`` holds, per metric, the mean over seeds of the shipped arm minus the blind one, the
    lowest and the highest seed, and in how many seeds the shipped one was better.
    """
    if found is None:
        return None
    folds = pd.DataFrame(found["folds"])
    means = folds.groupby(["arm", "seed"])[["plcc", "rmse"]].mean()
    lift = means.loc[SHIPPED_ARM] - means.loc[BLIND_ARM]
    return {
        "count": int(folds["seed"].nunique()),
        "arms": {
            arm: {
                f"{column}_{name}": float(getattr(np, name)(own[column]))
                for column in ("plcc", "rmse")
                for name in ("mean", "ptp")
            }
            for arm, own in means.groupby("arm")
        },
        "lift": {
            column: {
                "mean": float(values.mean()),
                "low": float(values.min()),
                "high": float(values.max()),
                "better": int((sign * values > 0).sum()),
            }
            for column, sign, values in (("plcc", 1, lift["plcc"]), ("rmse", -1, lift["rmse"]))
        },
    }
