"""A translation of VMAF v0.6.1 into another teacher's score: a monotone map, and its correction.

The map takes the v0.6.1 score alone. What it leaves is learnt by a kernel ridge regression on the
six features, that score and the scale of the source; rows of another codec count for a fixed share
(a multi-task kernel, Bonilla et al. 2007), so that a codec without training rows gets what all
codecs have in common. Both are solved, not trained: no seed, no epochs, the same weights each time
up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from fr_lib.corpus import vmaf_from_features


@dataclass(frozen=True, eq=False)
class Fixed:
    """Numbers that no fit decides.

    Width, share and ridge were chosen from a handful of round numbers on the folds of the shipped
    corpus, so its held-out figures flatter them a little: other choices among these moved the RMSE
    by up to a few tenths of a point.

    Attributes
    ----------
    knots : (K,) float64
        Ends of the straight pieces of the map, VMAF v0.6.1.
    offset, sign : (6,) float64
        An input is log(offset + sign * feature): of adm2 and vif the distance from 1 counts, by
        factors, and so does motion2. Fixed point may put a feature a little above 1.
    least, most : float
        Where that sum ends.
    above : float
        Another input is log(above - VMAF v0.6.1): the last points before 100 count more.
    gamma : float
        Likeness is exp(-gamma * squared distance of standardised inputs).
    shared : float
        What a row of another codec counts for.
    ridge : float
        VMAF points, squared.
    places_per_codec : int
        Training rows of each codec that the kernel is measured from.
    """

    knots: np.ndarray
    offset: np.ndarray
    sign: np.ndarray
    least: float = 1e-3
    most: float = 1e3
    above: float = 101.0
    gamma: float = 0.03
    shared: float = 0.65
    ridge: float = 1.0
    places_per_codec: int = 60


FIXED = Fixed(
    knots=np.arange(0.0, 101.0, 5.0),
    offset=np.array([1.003, 1.01, 1.01, 1.01, 1.01, 1.0]),
    sign=np.array([-1.0, -1.0, -1.0, -1.0, -1.0, 1.0]),
)
_JITTER = 1e-6


@dataclass(frozen=True, eq=False)
class Translation:
    """A fitted translation.

    Attributes
    ----------
    floor : float
        Of the map: the score at VMAF v0.6.1 = 0, before the correction.
    steps : (K - 1,) float64
        By how much the map rises from each of ``FIXED.knots`` to the next, none below 0.
    mean, std : (9,) float64
        Of the inputs over training rows.
    places : (P, 9) float64
        Standardised inputs of some training rows; the kernel is measured from them.
    place_slots : (P,) int64
        The codec of each, by its place in the vocabulary.
    weights : (P,) float64
        All 0 where the map answers alone.
    range : tuple of float
        Least and greatest score of the teacher.
    """

    floor: float
    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    places: np.ndarray
    place_slots: np.ndarray
    weights: np.ndarray
    range: tuple[float, float]

    def mapped(self, old: np.ndarray) -> np.ndarray:
        """Return the map of (N,) VMAF v0.6.1: (N,) float64."""
        return self.floor + _ramps(old) @ self.steps

    def __call__(
        self, features: np.ndarray, slots: np.ndarray, src_scale: np.ndarray
    ) -> np.ndarray:
        """Return the teacher's score of each row: (N,) float64.

        Parameters
        ----------
        features : (N, 6) array_like
            Raw libvmaf values, order ``CANONICAL_6``.
        slots : (N,) int array
            The codec of each row; -1 or one without training rows gets what codecs share.
        src_scale : (N,) float array
            By how much the source had been scaled up, above 0; 1 where it had not.
        """
        x = (inputs_of(features, src_scale) - self.mean) / self.std
        kernel = _kernel(x, slots, self.places, self.place_slots)
        score = self.mapped(vmaf_from_features(features)) + kernel @ self.weights
        return np.clip(score, *self.range)

    def map_alone(self) -> Translation:
        """Return the same map without its correction."""
        return replace(self, weights=np.zeros_like(self.weights))


def inputs_of(features: np.ndarray, src_scale: np.ndarray) -> np.ndarray:
    """Return what the kernel compares: (N, 9) float64, not standardised."""
    x = np.asarray(features, dtype=np.float64)
    old = vmaf_from_features(x)
    logs = np.log(np.clip(FIXED.offset + FIXED.sign * x, FIXED.least, FIXED.most))
    return np.column_stack([logs, old, np.log(FIXED.above - old), np.log(src_scale)])


def fit_translation(
    features: np.ndarray,
    slots: np.ndarray,
    src_scale: np.ndarray,
    target: np.ndarray,
    limits: tuple[float, float],
) -> Translation:
    """Fit the map by non-negative least squares, and its correction by kernel ridge regression.

    Parameters
    ----------
    features, slots, src_scale
        Of training rows, as :class:`Translation` takes them.
    target : (N,) float array
        The teacher's score.
    limits : tuple of float
        Least and greatest score of the teacher.
    """
    from scipy.linalg import solve
    from scipy.optimize import nnls

    old = vmaf_from_features(features)
    floor, *steps = nnls(np.column_stack([np.ones(len(old)), _ramps(old)]), target)[0]
    raw = inputs_of(features, src_scale)
    mean, std = raw.mean(axis=0), raw.std(axis=0)
    # What never varied decides nothing here, and must not decide anything elsewhere.
    std = np.where(std < np.sqrt(np.finfo(float).eps), 1e6, std)
    x, chosen = (raw - mean) / std, _places(slots)
    places, place_slots = x[chosen], np.asarray(slots, dtype=np.int64)[chosen]
    fitted = Translation(
        float(floor), np.array(steps), mean, std, places, place_slots, np.zeros(len(chosen)), limits
    )
    kernel = _kernel(x, slots, places, place_slots)
    with threadpool_limits(1):  # others wait for the cores, and the sums keep their order
        system = kernel.T @ kernel + FIXED.ridge * kernel[chosen] + _JITTER * np.eye(len(chosen))
        weights = solve(system, kernel.T @ (target - fitted.mapped(old)), assume_a="pos")
    return replace(fitted, weights=weights)


def _places(slots: np.ndarray) -> np.ndarray:
    """Return which rows the kernel is measured from: of each codec the same number, by chance."""
    rng = np.random.default_rng(0)
    found = []
    for slot in np.unique(slots):
        rows = np.flatnonzero(slots == slot)
        found.append(rng.choice(rows, min(FIXED.places_per_codec, len(rows)), replace=False))
    return np.sort(np.concatenate(found))


def _ramps(old: np.ndarray) -> np.ndarray:
    """Return how far each score has come along each piece of the map: (N, K - 1), 0..1."""
    return np.clip((np.asarray(old)[:, None] - FIXED.knots[:-1]) / np.diff(FIXED.knots), 0.0, 1.0)


def _kernel(
    x: np.ndarray, slots: np.ndarray, places: np.ndarray, place_slots: np.ndarray
) -> np.ndarray:
    """Return how much each row is like each place: (N, P), 0..1."""
    squared = (x**2).sum(axis=1)[:, None] + (places**2).sum(axis=1) - 2 * x @ places.T
    same = np.asarray(slots)[:, None] == place_slots
    return np.exp(-FIXED.gamma * squared) * np.where(same, 1.0, FIXED.shared)
