"""Synthetic corpora: made-up features with the teacher's true score, for tests and smoke runs.

Nothing here was encoded. The features follow the look of real ones (they fall as the quality value
gets worse, faster for busy content; motion belongs to the source), and VMAF is the teacher's own
formula of them, so that every check of a real corpus holds. Encoder names only fill the slots; a
figure from these rows says nothing about an encoder, and every row is labelled so that none can be
mistaken for a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from fr_lib import schema
from fr_lib.corpus.teachers import V061
from fr_lib.errors import InputError, say
from fr_lib.schema import CANONICAL_6

PREFIX = "synthetic_"
# Numbered names would read as parts of one title (see fr_lib.corpus.audit), hence words.
# fmt: off
_WORDS = (
    "meadow", "harbour", "market", "forest", "station", "bridge", "glacier",
    "orchard", "workshop", "canyon", "lantern", "regatta", "library", "quarry",
    "carnival", "lagoon", "foundry", "prairie", "theatre", "aqueduct",
)
# fmt: on
_LETTERS = " bcdefghijklmnopqrstuvwxyz"
MAX_SOURCES = len(_WORDS) * len(_LETTERS)

# Feature = 1 - depth * damage ** power, with damage 0 (none) .. 1 (VMAF about 15).
_DEPTH = {
    "adm2": 0.34,
    "vif_scale0": 0.86,
    "vif_scale1": 0.64,
    "vif_scale2": 0.52,
    "vif_scale3": 0.42,
}
_POWER = {
    "adm2": 1.9,
    "vif_scale0": 0.65,
    "vif_scale1": 1.1,
    "vif_scale2": 1.35,
    "vif_scale3": 1.55,
}
# At one quality fraction a newer standard does less damage.
_DAMAGE_OF_STANDARD = {"h264": 1.0, "hevc": 0.98, "av1": 0.96, "vvc": 0.95}


def source_names(count: int) -> list[str]:
    """Return `count` names of made-up sources, each beginning with ``synthetic_``.

    Raises
    ------
    InputError
        If `count` is not within 1..``MAX_SOURCES``.
    """
    if not 1 <= count <= MAX_SOURCES:
        raise InputError(
            say("synthetic sources", str(count), f"1..{MAX_SOURCES}", "ask for that many")
        )
    turns = (divmod(i, len(_WORDS)) for i in range(count))
    return [f"{PREFIX}{_WORDS[word]}" + f"_{_LETTERS[t]}" * (t > 0) for t, word in turns]


def synthetic_table(
    encoders: Sequence[str], qualities: Sequence[float], sources: int, frames: int, seed: int
) -> pd.DataFrame:
    """Return made-up per-frame rows that agree with the teacher; no encoder made them.

    Parameters
    ----------
    encoders : sequence of str
        Slots of ``NEWEST_VOCAB``; each row carries the adapter's default preset.
    qualities : sequence of float
        Quality values, within the range of every one of `encoders`. Both ends of that range give
        VMAF of about 15 and 100.
    sources : int
        Number of made-up sources, 1..``MAX_SOURCES``.
    frames : int
        Frames per encode, at least 1; frame 0 has no motion, as in libvmaf's logs.
    seed : int
        The same seed and arguments give the same rows.

    Returns
    -------
    DataFrame
        Rows in the order encoder, source, quality, frame: src encoder preset cq frame_index vmaf,
        the columns of ``CANONICAL_6``, teacher, and ``synthetic`` = True. Numbers have six
        decimals, as in libvmaf's logs.

    Raises
    ------
    InputError
        For an unknown encoder, a quality value outside its range, or a count out of bounds.
    """
    names = source_names(sources)
    if frames < 1:
        raise InputError(say("synthetic frames", str(frames), "1 or more", "ask for that many"))
    for encoder in encoders:
        for quality in qualities:
            schema.adapter(encoder).check_quality(quality)
    rng = np.random.default_rng(seed)
    content = {name: _Content(rng, frames) for name in names}
    cells = list(product(encoders, names, qualities))
    features = [_features(content[name], encoder, q, rng) for encoder, name, q in cells]
    table = pd.DataFrame(
        {
            "src": [name for _, name, _ in cells],
            "encoder": [encoder for encoder, _, _ in cells],
            "preset": [schema.adapter(encoder).default_preset for encoder, _, _ in cells],
            "cq": [quality for _, _, quality in cells],
        }
    )
    table = table.loc[table.index.repeat(frames)].reset_index(drop=True)
    table["frame_index"] = np.tile(np.arange(frames), len(cells))
    table[[*_DEPTH, "motion2"]] = np.concatenate(features, axis=1).T
    return _scored(table)


class _Content:
    """What a source looks like, whatever encodes it: its complexity and its motion per frame."""

    def __init__(self, rng: np.random.Generator, frames: int) -> None:
        swell = np.sin(0.21 * np.arange(frames) + rng.uniform(0, 2 * np.pi))
        self.complexity = rng.uniform(0.93, 1.07) + 0.02 * swell
        self.motion = rng.uniform(0.5, 9.0) * (1 + 0.3 * swell) + rng.uniform(0, 0.2, frames)
        self.motion[0] = 0.0


def _damage(encoder: str, quality: float, complexity: np.ndarray) -> np.ndarray:
    adapter = schema.adapter(encoder)
    fraction = (quality - adapter.lo) / (adapter.hi - adapter.lo)
    if adapter.higher_is_better:
        fraction = 1 - fraction
    # Never quite zero: no two sources then have the same features at the best quality.
    return (0.01 + 0.99 * fraction**1.3) * _DAMAGE_OF_STANDARD[adapter.standard] * complexity


def _features(
    content: _Content, encoder: str, quality: float, rng: np.random.Generator
) -> np.ndarray:
    damage = _damage(encoder, quality, content.complexity)
    noise = rng.normal(0, 0.004, (len(_DEPTH), len(damage)))
    fidelity = [
        np.clip(1 - _DEPTH[feature] * damage ** _POWER[feature] * (1 + jitter), 0, 1)
        for (feature, jitter) in zip(_DEPTH, noise, strict=True)
    ]
    return np.array([*fidelity, content.motion])


def _scored(table: pd.DataFrame) -> pd.DataFrame:
    columns = list(CANONICAL_6)
    # Rounded first: the score belongs to the features as they are written.
    table[columns] = table[columns].round(6)
    score = V061.formula(table[columns].to_numpy()).round(6)
    table.insert(table.columns.get_loc("frame_index") + 1, "vmaf", score)
    table["teacher"] = V061.name
    table["synthetic"] = True
    return table
