"""The ship gate: clauses with a limit, what was measured, and what that means.

Two verdicts come out of it. ``gate_passed`` asks every blocking clause of the recipe that ships;
``adr_gate_passed`` asks ADR-0319's recipe for the clauses of ADR-0323 and Research-0078 alone, so
that what was decided there is answered whatever ships here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fr_lib.errors import GateFailed, InputError, say
from fr_lib.schema import ADAPTERS

MEAN_PLCC = 0.95
WORST_PLCC = 0.85
MIN_SOURCES = 3
RMSE_RATIO = 1.5
LIFT_FLOOR = 0.005
MIN_FAMILIES = 3
SEED_SPREAD = 0.005
# Ours, docs/adr/0009 and 0010: a floor of correlation is cleared by a linear fit, by two rows, by a
# source that is held out from itself, and says nothing of clips that the corpus does not resemble.
MIN_ROWS = 20
MIN_QUALITIES = 2
DROPPED_SHARE = 0.10
RIVAL_RATIO = {True: 0.5, False: 1.0}  # of VMAF v0.6.1, of another teacher
SWAP_P99 = 0.5
STRESS_RMSE = 1.0
OURS, BEYOND = "docs/adr/0010", "docs/adr/0009"

# v2's published per-source PLCC and RMSE (CONTRACT section 5): a reference table that a run can ask
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

# A mean of decimals is off by some 1e-16: three folds of 0.95 must pass ">= 0.95".
DIGITS = 12

PASS, FAIL, NOT_MEASURED = "pass", "fail", "not measured"


@dataclass(frozen=True)
class Clause:
    """One clause of the gate.

    Attributes
    ----------
    name, source : str
        What is asked, and which decision record asks it.
    limit : str
        The limit in words, with its comparison.
    value : float or None
        What was measured; None where nothing could be.
    status : {"pass", "fail", "not measured"}
    blocks : bool
        Whether a failure keeps the model from shipping.
    reason : str
        One sentence for the reader.
    """

    name: str
    limit: str
    value: float | None
    status: str
    blocks: bool
    reason: str
    source: str


def _limit(ok: bool) -> str:
    return PASS if ok else FAIL


def _at_least(value: float, limit: float) -> bool:
    return round(value, DIGITS) >= limit


def _at_most(value: float, limit: float) -> bool:
    return round(value, DIGITS) <= limit


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def evaluate_gate(
    folds: pd.DataFrame,
    encoders: Sequence[str],
    reference: Mapping[str, Mapping[str, float]] | None = None,
    arm: str = "v3",
    baseline: str = "v1",
) -> list[Clause]:
    """Judge LOSO folds by every clause of CONTRACT section 5.

    Parameters
    ----------
    folds : DataFrame
        ``seed arm held_out plcc rmse`` as :class:`fr_lib.evaluate.Loso` holds them. The first seed
        is the default one; the others serve the seed clause.
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
        f"largest ratio at {at}, over {len(shared)} shared sources",
        source,
    )


def _lift_clause(own: pd.DataFrame, blind: pd.DataFrame, encoders: Sequence[str]) -> Clause:
    families = sorted({ADAPTERS[e].standard for e in encoders})
    baseline = float(blind["plcc"].to_numpy().mean()) if len(blind) else math.nan
    headroom = 1.0 - baseline
    room = f"headroom 1 - PLCC(v1) = {headroom:.5f}" if math.isfinite(headroom) else "no v1 fold"
    name, limit, source = "multi-codec lift over v1", f">= +{LIFT_FLOOR} PLCC", "ADR-0235"
    if len(families) < MIN_FAMILIES or not math.isfinite(headroom):
        return Clause(
            name,
            limit,
            None,
            NOT_MEASURED,
            False,
            f"not measurable: {len(families)} codec families ({', '.join(families)}), "
            f"{MIN_FAMILIES} needed; {room}",
            source,
        )
    lift = float(own["plcc"].to_numpy().mean()) - baseline
    reason = f"{len(families)} codec families, {len(encoders)} encoders; {room}"
    if headroom < LIFT_FLOOR:
        reason += "; the floor is larger than the headroom, so no block could reach it"
    return Clause(
        name, limit, _finite(lift), _limit(_at_least(lift, LIFT_FLOOR)), False, reason, source
    )


def _seed_clause(own: pd.DataFrame) -> Clause:
    means = own.groupby("seed")["plcc"].apply(lambda s: s.to_numpy().mean())
    name = "seed spread of mean PLCC"
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
        f"{len(means)} seeds, lowest mean {lowest:.5f}; the bound is across seeds, not folds",
        "ADR-0303",
    )


# --- clauses of our own ---------------------------------------------------------------------------


def own_clauses(
    audit: Mapping[str, Any], loso: Mapping[str, Any], outside: Mapping[str, Any], arm: str = "v3"
) -> list[Clause]:
    """Judge a run by what LOSO's correlations cannot see.

    Parameters
    ----------
    audit, loso, outside : mapping
        Contents of ``audit.json``, ``loso.json`` and ``outside.json``.
    arm : str
        Arm that ships.

    Returns
    -------
    list of Clause
        All blocking, or not measured: teacher, rows per source, rows dropped, sources twice, RMSE
        against a rival, block swap, stress set.
    """
    return [
        _teacher_clause(audit["teacher_check"]),
        _rows_clause(audit),
        _dropped_clause(audit["identity"]),
        _twice_clause(audit, loso["by_title"]),
        _rival_clause(loso, arm),
        *_outside_clauses(audit["teacher_check"], outside["arms"][arm]),
    ]


def _teacher_clause(check: Mapping[str, Any]) -> Clause:
    name, limit = "rows agree with the teacher", "all rows"
    if check["status"] != "measured":
        return Clause(name, limit, None, NOT_MEASURED, False, check["reason"], OURS)
    wrong, rows = check["n_disagree"], check["n_rows"]
    return Clause(
        name,
        limit,
        (rows - wrong) / rows,
        _limit(wrong == 0),
        True,
        f"{wrong:,} of {rows:,} rows differ from the formula of {check['teacher']} by more than "
        f"{check['tolerance']:g} VMAF points, by {check['max_abs_difference']:.3g} at most",
        OURS,
    )


def _rows_clause(audit: Mapping[str, Any]) -> Clause:
    short = [
        f"{s['src']} ({s['n_rows']:,} rows, {s['n_qualities']} quality values)"
        for s in audit["sources"]
        if s["n_rows"] < MIN_ROWS or s["n_qualities"] < MIN_QUALITIES
    ]
    least = min(s["n_rows"] for s in audit["sources"])
    return Clause(
        "rows per held-out source",
        f">= {MIN_ROWS} rows and >= {MIN_QUALITIES} quality values each",
        float(least),
        _limit(not short),
        True,
        f"too few to correlate: {_first(short)}" if short else f"the least has {least:,} rows",
        OURS,
    )


def _first(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _dropped_clause(identity: Mapping[str, Any]) -> Clause:
    read, kept = identity["n_rows_read"], identity["n_rows_kept"]
    share = (read - kept) / read
    return Clause(
        "rows dropped",
        f"<= {DROPPED_SHARE:.0%}",
        share,
        _limit(_at_most(share, DROPPED_SHARE)),
        True,
        f"{read - kept:,} of {read:,} rows left with a reason",
        OURS,
    )


def _twice_clause(audit: Mapping[str, Any], by_group: Mapping[str, Any] | None) -> Clause:
    """No source twice; where sources belong together, LOSO by group decides."""
    name, limit = (
        "no source twice",
        f"none, or by group {MIN_SOURCES} groups clear both PLCC floors",
    )
    groups: dict[str, list[str]] = {}
    for source, group in audit["source_groups"].items():
        groups.setdefault(group, []).append(source)
    together = [" = ".join(members) for members in groups.values() if len(members) > 1]
    if not together:
        count = float(len(groups))
        return Clause(name, limit, count, PASS, True, "every source is its own", OURS)
    found = f"one clip or title: {_first(together)}; {len(groups)} groups"
    if by_group is None or len(groups) < MIN_SOURCES:
        found += f", {MIN_SOURCES} needed"
        return Clause(name, limit, float(len(groups)), FAIL, True, found, OURS)
    mean, worst = (by_group["summary"][k] for k in ("mean_plcc", "min_plcc"))
    ok = (
        mean is not None
        and worst is not None
        and _at_least(mean, MEAN_PLCC)
        and _at_least(worst, WORST_PLCC)
    )
    shown = " and ".join("none" if v is None else f"{v:.5f}" for v in (mean, worst))
    reason = f"{found}; left out together, mean and worst PLCC are {shown}"
    return Clause(name, limit, float(len(groups)), _limit(ok), True, reason, OURS)


def _rival_clause(loso: Mapping[str, Any], arm: str) -> Clause:
    rival, own = loso["rival"], loso["arms"][arm]["summary"]["mean_rmse"]
    most = RIVAL_RATIO[rival["formula_teacher"]]
    ratio = _measured(own) / rival["rmse"] if rival["rmse"] else math.nan
    below = _at_most(ratio, most) if rival["formula_teacher"] else ratio < most
    return Clause(
        "RMSE against a rival",
        f"{'<=' if rival['formula_teacher'] else '<'} {most:g} x",
        _finite(ratio),
        _limit(below),
        True,
        f"mean RMSE of a {rival['name']} on the same folds: {_shown(rival['rmse'], 3)} VMAF points",
        OURS,
    )


def _outside_clauses(check: Mapping[str, Any], report: Mapping[str, Any]) -> list[Clause]:
    limits = {"block swap, p99": SWAP_P99, "stress set RMSE": STRESS_RMSE}
    if check["status"] != "measured":
        why = f"the teacher is no formula here: {check['reason']}"
        return [
            Clause(name, f"<= {most:g}", None, NOT_MEASURED, False, why, BEYOND)
            for name, most in limits.items()
        ]
    swap, stress = report["swap"], report["stress"]
    judged = {
        "block swap, p99": (
            swap["p99"],
            f"features kept, codec block replaced: mean {_shown(swap['mean'], 3)}, most "
            f"{_shown(swap['max'], 3)} VMAF points",
        ),
        "stress set RMSE": (
            stress["rmse"],
            f"{stress['rows']:,} frames that no encoder of the corpus made, every trained slot; "
            f"worst cell {_shown(stress['worst_cell']['rmse'], 2)} VMAF points",
        ),
    }
    return [
        Clause(
            name,
            f"<= {limits[name]:g}",
            _finite(_measured(value)),
            _limit(_at_most(_measured(value), limits[name])),
            True,
            reason,
            BEYOND,
        )
        for name, (value, reason) in judged.items()
    ]


def _measured(value: float | None) -> float:
    """Return a figure of a run's file, where one that is not finite is null, as a number again."""
    return math.nan if value is None else value


def _shown(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(_measured(value)) else "not finite"


# --- verdicts -------------------------------------------------------------------------------------


def passed(clauses: Sequence[Clause]) -> bool:
    """Return whether no blocking clause failed."""
    return not any(c.blocks and c.status == FAIL for c in clauses)


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


def failed_clauses(gate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the blocking clauses of a ``gate.json`` that failed."""
    return [c for c in gate["clauses"] if c["blocks"] and c["status"] == FAIL]


def statement(gate: Mapping[str, Any]) -> str:
    """Return the verdict as one sentence."""
    if gate["gate_passed"]:
        return "The gate passed: no blocking clause failed."
    names = ", ".join(c["name"] for c in failed_clauses(gate))
    return f"The gate failed ({names}). The model does not ship; v3 retrain pending."


def adr_statement(gate: Mapping[str, Any]) -> str:
    """Return the verdict on ADR-0319's recipe as one sentence."""
    if gate["adr_gate_passed"]:
        return "it passes; no blocking clause failed."
    failed = [c["name"] for c in gate["adr_clauses"] if c["blocks"] and c["status"] == FAIL]
    return f"it fails ({', '.join(failed)})."


def require_pass(gate: Mapping[str, Any], stop: bool = True) -> None:
    """Raise :class:`GateFailed` naming every failed blocking clause of a ``gate.json``.

    With `stop` false the verdict is left to whoever reads the file.
    """
    failed = failed_clauses(gate)
    if failed and stop:
        found = "; ".join(f"{c['name']} is {c['value']} ({c['reason']})" for c in failed)
        allowed = "; ".join(f"{c['name']} {c['limit']}" for c in failed)
        raise GateFailed(say("gate", found, allowed, "the model does not ship: v3 retrain pending"))
