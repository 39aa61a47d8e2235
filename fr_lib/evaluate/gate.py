"""The gate: clauses of ADR-0319, 0323, 0303 and 0235, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from fr_lib.arms import BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import MIN_FAMILIES
from fr_lib.errors import NOT_MEASURED, GateFailed, InputError, counted, say
from fr_lib.evaluate.clauses import (
    FAIL,
    MEAN_PLCC,
    MIN_SOURCES,
    RETRAIN_PENDING,
    WORST_PLCC,
    Clause,
    _at_least,
    _at_most,
    _finite,
    _limit,
)
from fr_lib.schema import codec_families

RMSE_RATIO = 1.5
LIFT_FLOOR = 0.005
LIFT_CLAUSE = f"multi-codec lift over {BLIND_ARM}"
SEED_CLAUSE = "seed spread of mean PLCC"
SEED_SPREAD = 0.005
# v2's published per-source PLCC and RMSE (Research-0078): a reference table that a run can ask
# for when its sources are those clips. A clip that only shares a name must not be held against it.
V2_REFERENCE = {
    "BigBuckBunny": {"plcc": 0.9652, "rmse": 3.794},
    "BirdsInCage": {"plcc": 0.9937, "rmse": 1.233},
    "CrowdRun": {"plcc": 0.9715, "rmse": 5.367},
    "ElFuente1": {"plcc": 0.9815, "rmse": 3.047},
    "ElFuente2": {"plcc": 0.9745, "rmse": 11.453},
    "FoxBird": {"plcc": 0.9521, "rmse": 5.752},
    "OldTownCross": {"plcc": 0.9183, "rmse": 5.371},
    "Seeking": {"plcc": 0.9778, "rmse": 4.689},
    "Tennis": {"plcc": 0.9787, "rmse": 6.391},
}


def evaluate_gate(
    folds: pd.DataFrame,
    encoders: Sequence[str],
    reference: Mapping[str, Mapping[str, float]] | None = None,
    arm: str = SHIPPED_ARM,
    baseline: str = BLIND_ARM,
) -> list[Clause]:
    """Judge LOSO folds by the clauses that upstream has: each names the ADR that it is from.

    Parameters
    ----------
    folds : DataFrame
        ``seed arm held_out plcc rmse`` as :class:`fr_lib.evaluate.loso.Loso` holds them. The
        first seed is the default one; the others serve the seed clause.
    encoders : sequence of str
        Encoders with training rows.
    reference : mapping, optional
        Source to ``{"rmse": ...}``; given, it becomes a blocking clause.
    arm, baseline : str
        Arm that ships, and codec-blind arm.

    Returns
    -------
    list of Clause

    Raises
    ------
    InputError
        Without a fold of `arm`.
    """
    if folds.empty or not (folds["arm"] == arm).any():
        raise InputError(say("gate", f"no fold of {arm}", "at least one", "run 02_loso first"))
    # A metric that is null in every fold arrives as a column of None.
    folds = folds.astype(dict.fromkeys(("plcc", "srocc", "rmse"), "float64"))
    first = folds["seed"].iloc[0]
    own = folds[(folds["arm"] == arm) & (folds["seed"] == first)]
    blind = folds[(folds["arm"] == baseline) & (folds["seed"] == first)]
    return [
        _mean_clause(own),
        _finite_clause(own),
        _worst_clause(own),
        _reference_clause(own, reference),
        _lift_clause(own, blind, encoders),
        _seed_clause(folds[folds["arm"] == arm]),
    ]


def _mean_clause(own: pd.DataFrame) -> Clause:
    mean = float(own["plcc"].to_numpy().mean())
    return Clause(
        "mean LOSO PLCC",
        f">= {MEAN_PLCC}",
        _finite(mean),
        _limit(_at_least(mean, MEAN_PLCC)),
        True,
        "mean over all folds; a fold without a finite PLCC fails it",
        "ADR-0302, ADR-0291",
    )


def _finite_clause(own: pd.DataFrame) -> Clause:
    bad = own[~own[["plcc", "srocc", "rmse"]].map(math.isfinite).all(axis=1)]["held_out"].tolist()
    sources = own["held_out"].nunique()
    reason = f"{sources} sources, all folds finite"
    if bad:
        reason = f"not finite: {', '.join(bad)}"
    elif sources < MIN_SOURCES:
        reason = f"only {sources} sources"
    return Clause(
        "finite folds, enough sources",
        f"every fold finite, >= {MIN_SOURCES} sources",
        float(sources),
        _limit(not bad and sources >= MIN_SOURCES),
        True,
        reason,
        "every gate record",
    )


def _worst_clause(own: pd.DataFrame) -> Clause:
    worst = float(own["plcc"].to_numpy().min())
    rows = own[own["plcc"].isna() | (own["plcc"] == worst)]["held_out"]
    return Clause(
        "worst source PLCC",
        f">= {WORST_PLCC}",
        _finite(worst),
        _limit(_at_least(worst, WORST_PLCC)),
        True,
        f"worst source: {', '.join(rows)}",
        "Research-0078 (3)",
    )


def _reference_clause(
    own: pd.DataFrame, reference: Mapping[str, Mapping[str, float]] | None
) -> Clause:
    name, limit, source = "RMSE vs reference table", f"<= {RMSE_RATIO} x", "Research-0078 (4)"
    if not reference:
        return Clause(name, limit, None, NOT_MEASURED, False, "no reference table given", source)
    shared = own[own["held_out"].isin(list(reference))]
    if shared.empty:
        return Clause(
            name, limit, None, NOT_MEASURED, True, "no source of the table is in the corpus", source
        )
    limits = shared["held_out"].map(lambda s: reference[s]["rmse"])
    ratio = shared["rmse"] / limits
    worst = float(ratio.to_numpy().max())
    at = shared["held_out"].iloc[int(ratio.fillna(math.inf).to_numpy().argmax())]
    return Clause(
        name,
        limit,
        _finite(worst),
        _limit(_at_most(worst, RMSE_RATIO)),
        True,
        f"largest ratio at {at}, over {counted(len(shared), 'shared source')}",
        source,
    )


def _lift_clause(own: pd.DataFrame, blind: pd.DataFrame, encoders: Sequence[str]) -> Clause:
    families = codec_families(encoders)
    found = counted(len(families), "codec family", "codec families")
    baseline = float(blind["plcc"].to_numpy().mean()) if len(blind) else math.nan
    headroom = 1.0 - baseline
    room = f"no {BLIND_ARM} fold"
    if math.isfinite(headroom):
        room = f"headroom 1 - PLCC({BLIND_ARM}) = {headroom:.2g}"
    name, limit, source = LIFT_CLAUSE, f">= +{LIFT_FLOOR} PLCC", "ADR-0235"
    if len(families) < MIN_FAMILIES or not math.isfinite(headroom):
        return Clause(
            name,
            limit,
            None,
            NOT_MEASURED,
            False,
            f"not measurable: {found} ({', '.join(families)}), {MIN_FAMILIES} needed; {room}",
            source,
        )
    lift = float(own["plcc"].to_numpy().mean()) - baseline
    reason = f"{found}, {counted(len(encoders), 'encoder')}; {room}"
    if headroom < LIFT_FLOOR:
        reason += "; the floor is larger than the headroom, so no block could reach it"
    return Clause(
        name, limit, _finite(lift), _limit(_at_least(lift, LIFT_FLOOR)), False, reason, source
    )


def _seed_clause(own: pd.DataFrame) -> Clause:
    means = own.groupby("seed")["plcc"].apply(lambda s: s.to_numpy().mean())
    name = SEED_CLAUSE
    limit = f"<= {SEED_SPREAD}, every seed >= {MEAN_PLCC}"
    if len(means) < 2:
        return Clause(name, limit, None, NOT_MEASURED, False, "one seed was run", "ADR-0303")
    spread = float(means.to_numpy().max() - means.to_numpy().min())
    lowest = float(means.to_numpy().min())
    return Clause(
        name,
        limit,
        _finite(spread),
        _limit(_at_most(spread, SEED_SPREAD) and _at_least(lowest, MEAN_PLCC)),
        True,
        f"{len(means)} seeds, lowest mean {lowest:.7f}; the bound is across seeds, not folds",
        "ADR-0303",
    )


def passed(clauses: Sequence[Clause]) -> bool:
    """Return whether no blocking clause failed."""
    return not failed_clauses({"clauses": [asdict(c) for c in clauses]})


def adr_clauses(loso: Mapping[str, Any], encoders: Sequence[str]) -> list[Clause]:
    """Judge ADR-0319's recipe, measured in the same run, by the clauses of its own records.

    Parameters
    ----------
    loso : mapping
        Contents of ``loso.json``.
    encoders : sequence of str
        Encoders with training rows.
    """
    arms = (loso["adr0319"] or loso)["arms"]
    folds = [
        {"seed": loso["seeds"][0], "arm": arm} | fold
        for arm, facts in arms.items()
        for fold in facts["folds"]
    ]
    return evaluate_gate(pd.DataFrame(folds), encoders)


def verdict(clauses: Sequence[Clause], adr: Sequence[Clause]) -> dict[str, Any]:
    """Return the clauses and both verdicts for ``gate.json``."""
    return {
        "gate_passed": passed(clauses),
        "clauses": [asdict(c) for c in clauses],
        "adr_gate_passed": passed(adr),
        "adr_clauses": [asdict(c) for c in adr],
    }


def reference_table(name: str) -> Mapping[str, Mapping[str, float]] | None:
    """Return the table that a run's RMSE is held against: "" for none, "v2" for the published one.

    Raises
    ------
    InputError
        For any other name.
    """
    tables = {"": None, "v2": V2_REFERENCE}
    if name not in tables:
        raise InputError(say("reference", repr(name), "'' (none), 'v2'", "choose one"))
    return tables[name]


def failed_clauses(gate: Mapping[str, Any], judged: str = "clauses") -> list[Mapping[str, Any]]:
    """Return the blocking clauses of a ``gate.json`` that failed; `judged`: or "adr_clauses"."""
    return [c for c in gate[judged] if c["blocks"] and c["status"] == FAIL]


def statement(gate: Mapping[str, Any]) -> str:
    """Return the verdict as one sentence."""
    if gate["gate_passed"]:
        return "The gate passed: no blocking clause failed."
    names = ", ".join(c["name"] for c in failed_clauses(gate))
    return f"The gate failed ({names}). The model does not ship; {RETRAIN_PENDING}."


def adr_statement(gate: Mapping[str, Any]) -> str:
    """Return the verdict on ADR-0319's recipe as one sentence."""
    if gate["adr_gate_passed"]:
        return "it passes; no blocking clause failed."
    failed = failed_clauses(gate, "adr_clauses")
    return f"it fails ({', '.join(c['name'] for c in failed)})."


def require_pass(gate: Mapping[str, Any], stop: bool = True) -> None:
    """Raise :class:`GateFailed` naming every failed blocking clause of a ``gate.json``.

    With `stop` false the verdict is left to whoever reads the file.
    """
    failed = failed_clauses(gate)
    if failed and stop:
        found = "; ".join(f"{c['name']} is {c['value']} ({c['reason']})" for c in failed)
        allowed = "; ".join(f"{c['name']} {c['limit']}" for c in failed)
        raise GateFailed(say("gate", found, allowed, f"the model does not ship: {RETRAIN_PENDING}"))
