"""Evidence beyond LOSO: how far networks are off where the corpus does not go.

Leaving sources out shows how a recipe does on more clips of the same making. These measures go
elsewhere: frames that no encoder of the grid made, another row's codec block at equal features, and
the worst frame of a stated domain. They need a teacher that is a formula, since it is the truth
beside every answer.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fr_lib.arms import ARMS
from fr_lib.corpus import (
    Corpus,
    Log,
    domain_of,
    outside_domain,
    read_log,
    svr_parameters,
    vmaf_from_features,
)
from fr_lib.errors import InputError, say
from fr_lib.evaluate.loso import Progress, input_rows, refit
from fr_lib.files import sha256_of
from fr_lib.runs import project_path
from fr_lib.schema import ADAPTERS, CANONICAL_6, VMAF_RANGE, vmaf_bins
from fr_lib.train import HIGHEST, MOTION_MAX, RECIPES, Recipe, beside, draw_domain, into_domain

if TYPE_CHECKING:
    from torch import Tensor

    from fr_lib.train import Trained

# Quality values that every encoder of the vocabulary has: high, middling, low (or the other way).
QUALITIES = (18, 30, 45)
BLIND = "codec-blind"
# The swap asks this many rows, evenly spaced, for each legal block.
SWAP_ROWS = 2_000
SWAP_QUALITIES = 7
SEARCHED = 1_000_000
STARTS, ASCENT_STEPS = 256, 80
# One step of the ascent at its start: a thousandth of each feature's range, or so.
_STEP = np.array([2e-3] * 5 + [0.1])
_CHUNK = 20_000


@dataclass(frozen=True)
class Answer:
    """One way to ask a network: as codec-blind, or as an encoder at a quality value and preset."""

    encoder: str = BLIND
    quality: float = 0.0
    preset: str = ""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.encoder if self.encoder == BLIND else f"{self.encoder} {self.quality:g}"

    def block(self, net: Trained) -> np.ndarray:
        """Return the codec block that a network sees for this answer: (B,) float32, maybe empty."""
        encoder = next(iter(ADAPTERS)) if self.encoder == BLIND else self.encoder
        unit = ADAPTERS[encoder]
        ordinal = unit.preset_ordinal(self.preset or unit.default_preset)
        row = input_rows(np.zeros((1, 6)), [encoder], np.array([ordinal]), np.array([self.quality]))
        return row[0, list(net.columns[len(CANONICAL_6) :])]

    def ask(self, net: Trained, features: np.ndarray) -> np.ndarray:
        """Return VMAF of (N, 6) raw features, clipped as the graph does: (N,) float64."""
        import torch

        block = self.block(net)
        parts = []
        for start in range(0, len(features), _CHUNK):
            seen = net.scaler(features[start : start + _CHUNK])
            inputs = np.concatenate([seen, np.broadcast_to(block, (len(seen), len(block)))], axis=1)
            with torch.no_grad():
                parts.append(net.model(torch.from_numpy(inputs)).squeeze(1).numpy())
        return np.clip(np.concatenate(parts).astype(np.float64), *VMAF_RANGE)


def answers(arm: str, encoders: Sequence[str]) -> list[Answer]:
    """Return how an arm is asked: once if it is blind, else as every encoder at ``QUALITIES``."""
    if ARMS[arm].blind:
        return [Answer()]
    return [Answer(encoder, quality) for encoder in encoders for quality in QUALITIES]


# --- the stress set -------------------------------------------------------------------------------


def stress_report(
    net: Trained, asked: Sequence[Answer], stress: pd.DataFrame, domain: Mapping[str, Any]
) -> dict[str, Any]:
    """Return errors on the stress set, by what was done, by width, by VMAF, by answer.

    Parameters
    ----------
    net : Trained
    asked : sequence of Answer
    stress : DataFrame
        As :func:`fr_lib.corpus.stress_set.read_stress` returns it.
    domain : mapping
        Feature to its least and greatest training value.

    Returns
    -------
    dict
        rmse, max_abs (VMAF points, over all rows and answers); worst_cell {cell, answer, rmse};
        kinds, widths, bins : records with rows, rmse, bias and the RMSE of the worst answer;
        by_answer : records; domain : see :func:`domain_report`.
    """
    features, vmaf = stress[list(CANONICAL_6)].to_numpy(), stress["vmaf"].to_numpy()
    residuals = np.array([a.ask(net, features) - vmaf for a in asked])
    bins = vmaf_bins(vmaf)
    cells = _errors(residuals, stress["cell"].to_numpy(), asked)
    worst = max(cells, key=lambda record: record["worst_rmse"])
    return {
        "rows": len(stress),
        "cells": len(cells),
        "rmse": np.sqrt(np.mean(residuals**2)),
        "max_abs": np.abs(residuals).max(),
        "median_cell": float(np.median([record["rmse"] for record in cells])),
        "worst_cell": {
            "cell": worst["name"],
            "answer": worst["worst_answer"],
            "rmse": worst["worst_rmse"],
        },
        "kinds": _errors(residuals, stress["kind"].to_numpy(), asked),
        "widths": _errors(residuals, stress["width"].to_numpy(), asked),
        "bins": _errors(residuals, bins, asked),
        "by_answer": [
            {"answer": a.label, "rmse": np.sqrt(np.mean(r**2)), "bias": r.mean()}
            for a, r in zip(asked, residuals, strict=True)
        ],
        "domain": domain_report(features, residuals, domain),
    }


def _errors(
    residuals: np.ndarray, groups: np.ndarray, asked: Sequence[Answer]
) -> list[dict[str, Any]]:
    """Return one record per group of rows; `residuals` are (answers, rows)."""
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.bincount(codes)
    squares = np.array([np.bincount(codes, r**2) for r in residuals]) / counts
    sums = np.array([np.bincount(codes, r) for r in residuals]) / counts
    worst = squares.argmax(axis=0)
    return [
        {
            "name": name,
            "rows": int(counts[k]),
            "rmse": np.sqrt(squares[:, k].mean()),
            "bias": sums[:, k].mean(),
            "worst_rmse": np.sqrt(squares[worst[k], k]),
            "worst_answer": asked[worst[k]].label,
        }
        for k, name in enumerate(names.tolist())
    ]


def domain_report(
    features: np.ndarray, residuals: np.ndarray, domain: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Return which share of rows lies outside the training range, and the RMSE on both sides."""
    out = outside_domain(features, domain).any(axis=1)

    def rmse(rows: np.ndarray) -> float | None:
        return np.sqrt(np.mean(residuals[:, rows] ** 2)) if rows.any() else None

    return {"share_outside": out.mean(), "rmse_inside": rmse(~out), "rmse_outside": rmse(out)}


# --- the block swap -------------------------------------------------------------------------------


def legal_blocks(encoders: Sequence[str]) -> list[Answer]:
    """Return seven quality values over each encoder's range, at its presets' ends and default."""
    blocks = []
    for encoder in encoders:
        unit = ADAPTERS[encoder]
        by_speed = sorted(unit.presets, key=unit.presets.__getitem__)
        presets = dict.fromkeys([by_speed[0], unit.default_preset, by_speed[-1]])
        blocks += [
            Answer(encoder, float(quality), preset)
            for preset in presets
            for quality in np.linspace(unit.lo, unit.hi, SWAP_QUALITIES)
        ]
    return blocks


def swap_report(net: Trained, corpus: Corpus, encoders: Sequence[str]) -> dict[str, Any]:
    """Keep the features of a row, replace its codec block, and see how far the score moves.

    The teacher does not know the codec, so every move is an error of one of the two answers.

    Returns
    -------
    dict
        rows, blocks (counts), mean, p99, max (VMAF points), at : encoder and quality of the max.
    """
    n = len(corpus.table)
    picked = np.unique(np.linspace(0, n - 1, min(n, SWAP_ROWS)).astype(int))
    table = corpus.table.iloc[picked]
    features = table[list(CANONICAL_6)].to_numpy()
    own = input_rows(
        features,
        table["encoder"].tolist(),
        table["preset_ordinal"].to_numpy(),
        table["quality"].to_numpy(),
    )
    base = np.clip(net.predict(own), *VMAF_RANGE)
    blocks = legal_blocks(encoders)
    moves = np.abs([block.ask(net, features) - base for block in blocks])
    return {
        "rows": len(picked),
        "blocks": len(blocks),
        "mean": moves.mean(),
        "p99": np.quantile(moves, 0.99),
        "max": moves.max(),
        "at": blocks[int(moves.max(axis=1).argmax())].label,
    }


# --- the worst frame ------------------------------------------------------------------------------


def worst_frame(
    net: Trained, answer: Answer, points: np.ndarray, truth: np.ndarray, highest: float
) -> dict[str, Any]:
    """Return the frame of the domain that a network misses by most, as far as could be found.

    The worst of many random points, then gradient ascent of the difference to the teacher's formula
    from the worst ``STARTS`` of them, kept inside the domain.

    Parameters
    ----------
    net : Trained
    answer : Answer
    points : (N, 6) float64
        Drawn from the domain.
    truth : (N,) float64
        Their VMAF by the formula.
    highest : float
        The domain's greatest adm2 and vif scale.

    Returns
    -------
    dict
        answer, difference (absolute, VMAF points), random (the same before the ascent), predicted,
        vmaf, features {name: value}, p99 and mean of the random points.
    """
    difference = np.abs(answer.ask(net, points) - truth)
    starts = points[np.argsort(-difference, kind="stable")[:STARTS]]
    # A few hundred rows a step: more threads than one wait for each other longer than they work.
    with threadpool_limits(1):
        found, size = _ascend(net, answer, starts, highest)
    worst = found[int(size.argmax())]
    predicted = float(answer.ask(net, worst[None])[0])
    vmaf = float(vmaf_from_features(worst[None])[0])
    return {
        "answer": answer.label,
        "difference": abs(predicted - vmaf),
        "random": difference.max(),
        "p99": np.quantile(difference, 0.99),
        "mean": difference.mean(),
        "predicted": predicted,
        "vmaf": vmaf,
        "features": dict(zip(CANONICAL_6, worst.tolist(), strict=True)),
    }


def formula_of(features: Tensor) -> Tensor:
    """Return VMAF v0.6.1 of (N, 6) raw features by the teacher's formula, with its gradient."""
    import torch

    svr = svr_parameters()
    slopes, intercepts, vectors, weights = (
        torch.from_numpy(a) for a in (svr.slopes, svr.intercepts, svr.vectors, svr.weights)
    )
    z = features * slopes + intercepts
    kernel = torch.exp(-svr.gamma * torch.cdist(z, vectors).square())
    score = (kernel @ weights - svr.rho - svr.score_intercept) / svr.score_slope
    return score.clamp(*svr.clip)


def _ascend(
    net: Trained, answer: Answer, starts: np.ndarray, highest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Climb the difference to the formula; return the best place of each path, and its height."""
    import torch

    mean, std = (torch.from_numpy(a).double() for a in (net.scaler.mean, net.scaler.std))
    block = torch.from_numpy(answer.block(net)).expand(len(starts), -1)
    steps = torch.from_numpy(_STEP)
    x = starts
    best, height = x.copy(), np.zeros(len(x))
    for k in range(ASCENT_STEPS):
        at = torch.from_numpy(x).requires_grad_(True)
        inputs = torch.cat([((at - mean) / std).float(), block], dim=1)
        score = net.model(inputs).squeeze(1).double().clamp(*VMAF_RANGE)
        gap = (score - formula_of(at)).abs()
        (slope,) = torch.autograd.grad(gap.sum(), at)
        now = gap.detach().numpy()
        higher = now > height
        best[higher], height[higher] = x[higher], now[higher]
        direction = slope * steps
        direction /= direction.norm(dim=1, keepdim=True) + 1e-12
        # Wide steps first, ever smaller ones after.
        stride = 10.0 * (1 - k / ASCENT_STEPS)
        x = into_domain(x + stride * (direction * steps).numpy(), highest)
    return best, height


# --- logs from elsewhere --------------------------------------------------------------------------


def read_logs(pattern: str) -> list[Log]:
    """Read the logs that match a pattern; InputError if none does or one has no score."""
    if not pattern:
        return []
    paths = sorted(Path(p) for p in glob.glob(str(project_path(pattern))))
    if not paths:
        raise InputError(say("logs", f"no file matches {pattern!r}", "libvmaf logs", "check it"))
    logs = [read_log(path) for path in paths]
    for log in logs:
        if log.vmaf is None:
            raise InputError(say(log.path, "no score", "a log with vmaf", "leave it out"))
    return logs


def logs_report(
    networks: Mapping[str, Trained], corpus: Corpus, logs: Sequence[Log]
) -> list[dict[str, Any]]:
    """Return, per log, the RMSE of the worst answer of every arm, and its share outside the domain.

    Returns
    -------
    list of dict
        name, sha256, frames, vmaf (mean), share_outside, rmse {arm: VMAF points}.
    """
    encoders, domain = corpus.encoders(), domain_of(corpus)
    return [
        {
            "name": Path(log.path).name,
            "sha256": sha256_of(log.path),
            "frames": len(log.vmaf),
            "vmaf": log.vmaf.mean(),
            "share_outside": outside_domain(log.features, domain).any(axis=1).mean(),
            "rmse": {
                arm: max(
                    np.sqrt(np.mean((answer.ask(net, log.features) - log.vmaf) ** 2))
                    for answer in answers(arm, encoders)
                )
                for arm, net in networks.items()
            },
        }
        for log in logs
    ]


# --- all of it ------------------------------------------------------------------------------------


def shipped_report(
    networks: Mapping[str, Trained], corpus: Corpus, stress: pd.DataFrame
) -> dict[str, Any]:
    """Return stress set and block swap of every arm, for ``outside.json``: what the gate asks."""
    encoders = corpus.encoders()
    domain = domain_of(corpus)
    arms: dict[str, Any] = {}
    for arm, net in networks.items():
        arms[arm] = {"stress": stress_report(net, answers(arm, encoders), stress, domain)}
        arms[arm]["swap"] = None if ARMS[arm].blind else swap_report(net, corpus, encoders)
    return {"arms": arms, "domain": domain, "qualities": list(QUALITIES)}


def worst_frames_report(
    networks: Mapping[str, Trained], corpus: Corpus, seed: int, points: int
) -> dict[str, list[dict[str, Any]]]:
    """Return, per arm, the worst frame of every slot over the domain up to 1 and up to 1.4."""
    rng = np.random.default_rng([seed, 3])
    result: dict[str, list[dict[str, Any]]] = {arm: [] for arm in networks}
    for highest in (1.0, HIGHEST):
        drawn = draw_domain(rng, points, highest)
        truth = vmaf_from_features(drawn)
        for arm, net in networks.items():
            slots = [a for a in answers(arm, corpus.encoders()) if a.quality in (0, 30)]
            result[arm] += [
                worst_frame(net, slot, drawn, truth, highest) | {"highest": highest}
                for slot in slots
            ]
    return result


def measure_outside(
    networks: Mapping[str, Trained],
    corpus: Corpus,
    recipe: Recipe,
    stress: pd.DataFrame,
    seed: int = 0,
    points: int = SEARCHED,
    logs: str = "",
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure every arm of the recipe that ships, of ADR-0319's and of the reference's.

    Parameters
    ----------
    networks : mapping of str to Trained
        The shipped recipe's, per arm.
    corpus : Corpus
        What they were trained on; the others are trained on it here.
    recipe : Recipe
    stress : DataFrame
    seed, device, progress
        As in :func:`fr_lib.evaluate.loso.run_loso`.
    points : int
        How many random frames are searched for the worst one, for each end of the domain.
    logs : str
        A pattern of libvmaf logs to score too.

    Returns
    -------
    dict
        recipes : per name :func:`shipped_report`, ``worst`` of :func:`worst_frames_report` and
        ``logs`` of :func:`logs_report`; shipped (str), searched (int, random points), domain.
    """
    read = read_logs(logs)
    result = {}
    for k, (name, nets) in enumerate(_all_networks(networks, corpus, recipe, seed, device)):
        if progress:
            progress(f"{name}: stress set, block swap, worst frames", k / len(RECIPES))
        report = shipped_report(nets, corpus, stress)
        result[name] = report | {
            "worst": worst_frames_report(nets, corpus, seed, points),
            "logs": logs_report(nets, corpus, read),
        }
    return {
        "shipped": recipe.name,
        "recipes": result,
        "searched": points,
        "domain": {"highest": HIGHEST, "motion2": MOTION_MAX},
    }


def _all_networks(
    networks: Mapping[str, Trained], corpus: Corpus, recipe: Recipe, seed: int, device: str
) -> Iterator[tuple[str, Mapping[str, Trained]]]:
    yield recipe.name, networks
    for name in ("adr0319", "reference"):
        if name != recipe.name:
            yield name, refit(corpus, beside(name, recipe), seed, tuple(ARMS), device)
