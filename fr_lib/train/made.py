"""Rows that the teacher labels: what training adds where a corpus is silent.

A corpus shows features, quality values and codecs together as they came out of a few clips, and a
network leans on that. VMAF v0.6.1 is a formula, so it can label any frame: mixtures of two rows,
rows with other motion, frames from anywhere in the stated domain, each with the codec block of
another row. They are made from the rows that a training may see and from nothing else.
"""

from __future__ import annotations

import math

import numpy as np

from fr_lib.corpus import V061
from fr_lib.schema import N_FEATURES, NEWEST_VOCAB

# The domain: adm2 lies within ADM_SPREAD of a line over the mean of the vif scales, a coarser vif
# scale is at most STEP_DOWN below the finer one before it (a lost contrast shows in all scales
# alike), and motion2 ends at MOTION_MAX. Sharpened frames and some GPU builds go beyond 1, so a
# share of the rows that are made does, up to HIGHEST.
HIGHEST = 1.4
ADM_LINE = (0.25, 0.75)
ADM_SPREAD = 0.45
STEP_DOWN = 0.1
MOTION_MAX = 80.0
MOTION_LEAST = 0.01
# Shares of the rows that are made: from the domain, as they are, and the rest mixed and jittered.
DOMAIN_SHARE, COPY_SHARE = 0.6, 0.1
JITTER = 0.15  # standard deviations of the training rows
# A small corpus needs as many to learn the formula from, and of a large one no more are needed.
LEAST, MOST = 40_000, 120_000
_SLOTS = slice(N_FEATURES, N_FEATURES + len(NEWEST_VOCAB))
_QUALITY = N_FEATURES + len(NEWEST_VOCAB) + 1


def made_count(n_real: int, per_row: int) -> int:
    """Return how many rows are made beside `n_real` rows: none if `per_row` is 0."""
    return min(max(per_row * n_real, LEAST), MOST) if per_row else 0


def draw_domain(rng: np.random.Generator, count: int, highest: float = HIGHEST) -> np.ndarray:
    """Draw feature rows from the whole domain, its corners and edges more often than its middle.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
    highest : float
        A fifth of the rows has adm2 and vif scales up to this, the others up to 1.

    Returns
    -------
    (count, 6) float64
        Raw libvmaf units, columns in ``CANONICAL_6`` order.
    """
    # Three ways for a ladder of scales: sorted draws, each keeping a part of what is lost, and all
    # about alike.
    free = np.sort(rng.random((count, 4)), axis=1)
    kept = 1.0 - np.cumprod(rng.random((count, 4)), axis=1)
    steps = rng.uniform(-STEP_DOWN, STEP_DOWN, (count, 1)) * np.arange(4)
    level = (rng.random((count, 1)) + steps + rng.normal(0.0, 0.01, (count, 4))).clip(0.0, 1.0)
    way = rng.integers(0, 3, (count, 1))
    vif = np.where(way == 0, free, np.where(way == 1, kept, level))
    vif *= np.where(rng.random((count, 1)) < 0.3, rng.random((count, 1)) ** 2, 1.0)
    vif *= np.where(rng.random((count, 1)) < 0.2, highest, 1.0)
    off = rng.uniform(-ADM_SPREAD, ADM_SPREAD, count)
    off = np.where(rng.random(count) < 0.1, np.copysign(ADM_SPREAD, off), off)
    low, high = math.log(MOTION_LEAST), math.log(MOTION_MAX)
    motion = np.where(
        rng.random(count) < 0.5,
        rng.uniform(0.0, MOTION_MAX, count),
        np.exp(rng.uniform(low, high, count)),
    )
    motion = np.where(rng.random(count) < 0.15, 0.0, motion)
    motion = np.where(rng.random(count) < 0.05, MOTION_MAX, motion)
    adm = ADM_LINE[0] + ADM_LINE[1] * vif.mean(axis=1) + off
    return into_domain(np.column_stack([adm, vif, motion]), highest)


def into_domain(features: np.ndarray, highest: float) -> np.ndarray:
    """Return rows moved to the nearest place of the domain, feature by feature: (N, 6) float64."""
    rows = np.array(features, dtype=np.float64)
    rows[:, 1:5] = rows[:, 1:5].clip(0.0, highest)
    for scale in (2, 3, 4):
        rows[:, scale] = np.maximum(rows[:, scale], rows[:, scale - 1] - STEP_DOWN)
    line = ADM_LINE[0] + ADM_LINE[1] * rows[:, 1:5].mean(axis=1)
    rows[:, 0] = rows[:, 0].clip(line - ADM_SPREAD, line + ADM_SPREAD).clip(0.0, highest)
    rows[:, 5] = rows[:, 5].clip(0.0, MOTION_MAX)
    return rows


def _mixed(rng: np.random.Generator, real: np.ndarray, count: int) -> np.ndarray:
    """Mix each of `count` rows with another row's by a random weight, jitter, redraw the motion."""
    first, second = (real[rng.integers(0, len(real), count)] for _ in range(2))
    weight = rng.random((count, 1))
    rows = first * weight + second * (1.0 - weight)
    rows += rng.normal(0.0, JITTER, rows.shape) * real.std(axis=0)
    slow, any_speed = rng.uniform(0.0, 3.0, count), rng.uniform(0.0, MOTION_MAX, count)
    rows[:, 5] = np.where(rng.random(count) < 0.5, slow, any_speed)
    rows[rng.random(count) < 0.1, 5] = 0.0
    rows[:, :-1] = rows[:, :-1].clip(0.0, HIGHEST)
    return rows


def _blocks(rng: np.random.Generator, table: np.ndarray, count: int) -> np.ndarray:
    """Return blocks of random rows; half of them moved along their encoder's quality values.

    Between its rows of least and of highest quality value, and a tenth beyond: whatever columns a
    block has, they follow as they do between those two.
    """
    blocks = table[rng.integers(0, len(table), count), N_FEATURES:]
    slot = table[:, _SLOTS].argmax(axis=1)
    span = np.zeros((len(NEWEST_VOCAB), blocks.shape[1]), dtype=table.dtype)
    low = np.zeros_like(span)
    for k in np.unique(slot):
        rows = np.flatnonzero(slot == k)
        order = rows[np.argsort(table[rows, _QUALITY], kind="stable")]
        low[k] = table[order[0], N_FEATURES:]
        span[k] = table[order[-1], N_FEATURES:] - low[k]
    moved = np.flatnonzero(rng.random(count) < 0.5)
    own = blocks[moved, : len(NEWEST_VOCAB)].argmax(axis=1)
    at = rng.uniform(-0.1, 1.1, (len(moved), 1)).astype(table.dtype)
    blocks[moved] = low[own] + at * span[own]
    return blocks


def made_rows(table: np.ndarray, per_row: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make rows from training rows, and label them by the teacher's formula.

    Six of ten are drawn from the domain (:func:`draw_domain`), one of ten keeps a row's features,
    the others are mixtures of two rows with jitter and other motion. All get another row's block.

    Parameters
    ----------
    table : (n, C) float32
        The rows that a training may see: raw features, the v3 codec block, then any other columns.
    per_row : int
        Rows to make for each, between ``LEAST`` and ``MOST`` in all.
    seed : int

    Returns
    -------
    rows : (M, C) float32
    labels : (M,) float32
        VMAF v0.6.1, 0..100.
    """
    count = made_count(len(table), per_row)
    rng = np.random.default_rng([seed, 2])
    real = table[:, :N_FEATURES].astype(np.float64)
    from_domain, copied = round(DOMAIN_SHARE * count), round(COPY_SHARE * count)
    features = np.concatenate(
        [
            draw_domain(rng, from_domain),
            real[rng.integers(0, len(real), copied)],
            _mixed(rng, real, count - from_domain - copied),
        ]
    ).astype(np.float32)
    rows = np.concatenate([features, _blocks(rng, table, count)], axis=1)
    return rows, V061.formula(features).astype(np.float32)
