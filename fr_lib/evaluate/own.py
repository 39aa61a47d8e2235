"""Clauses of our own: what correlations over held-out sources cannot see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fr_lib.arms import SHIPPED_ARM
from fr_lib.corpus import formula_applies
from fr_lib.errors import NOT_FINITE, NOT_MEASURED, text
from fr_lib.evaluate.clauses import (
    FAIL,
    MEAN_PLCC,
    MIN_SOURCES,
    PASS,
    WORST_PLCC,
    Clause,
    _at_least,
    _at_most,
    _finite,
    _limit,
)

# Ours, docs/adr/0009 and 0010: a floor of correlation is cleared by a linear fit, by two rows, by a
# source that is held out from itself, and says nothing of clips that the corpus does not resemble.
MIN_ROWS = 20
MIN_QUALITIES = 2
DROPPED_SHARE = 0.10
RIVAL_RATIO = {True: 0.5, False: 1.0}  # of VMAF v0.6.1, of another teacher
SWAP_P99 = 0.5
STRESS_RMSE = 1.0
OURS, BEYOND = "docs/adr/0010", "docs/adr/0009"
_shown = partial(text, missing=NOT_FINITE)


def own_clauses(
    audit: Mapping[str, Any],
    loso: Mapping[str, Any],
    outside: Mapping[str, Any],
    arm: str = SHIPPED_ARM,
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
    if not formula_applies(check):
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
    article = "an" if rival["name"][0] in "aeiou" else "a"
    return Clause(
        "RMSE against a rival",
        f"{'<=' if rival['formula_teacher'] else '<'} {most:g} x",
        _finite(ratio),
        _limit(below),
        True,
        f"mean RMSE of {article} {rival['name']} on the same folds: {_shown(rival['rmse'], '.3f')} "
        "VMAF points",
        OURS,
    )


def _outside_clauses(check: Mapping[str, Any], report: Mapping[str, Any]) -> list[Clause]:
    limits = {"block swap, p99": SWAP_P99, "stress set RMSE": STRESS_RMSE}
    if not formula_applies(check):
        why = f"the teacher is no formula here: {check['reason']}"
        return [
            Clause(name, f"<= {most:g}", None, NOT_MEASURED, False, why, BEYOND)
            for name, most in limits.items()
        ]
    swap, stress = report["swap"], report["stress"]
    judged = {
        "block swap, p99": (
            swap["p99"],
            f"features kept, codec block replaced: mean {_shown(swap['mean'], '.3f')}, most "
            f"{_shown(swap['max'], '.3f')} VMAF points",
        ),
        "stress set RMSE": (
            stress["rmse"],
            f"{stress['rows']:,} frames that no encoder of the corpus made, every trained slot; "
            f"worst cell {_shown(stress['worst_cell']['rmse'], '.2f')} VMAF points",
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
