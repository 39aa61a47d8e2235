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
    ONE_CODEC,
    RETRAIN_PENDING,
    SEED_CLAUSE,
    failed_clauses,
)
from fr_lib.files import ROOT, read_json
from fr_lib.report.tables import shipped_first, worst_of_domain
from fr_lib.runs import CHAPTERS, PAGES, RunDir, find
from fr_lib.schema import ADAPTERS, CANONICAL_6, ENCODER_VOCAB_V2

PUBLISHED = ROOT / "data" / "adr0323_published.json"


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
    return {
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
