"""Logs as arrays: the six features of each frame, the scores beside them, and whose they are."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from fr_lib.corpus.formats import Frames, no_log, read_frames
from fr_lib.corpus.strict import shown
from fr_lib.corpus.teachers import V061
from fr_lib.errors import InputError, say
from fr_lib.schema import CANONICAL_6, FIXED_POINT

# Beyond this no feature is real, and float32 would end in infinities inside the network.
MOST = 1e4
# Mean absolute difference per frame, VMAF points, up to which a log's score is v0.6.1's own. Logs
# of six decimals differ by 5e-5, those of libvmaf 1.5, of five, by 6e-4, and features rounded to
# three by 6e-2; the other models that libvmaf ships (phone, 4K, without enhancement gain) differ by
# whole points. A mean, as the worst frame grows with the number of frames.
SAME_TEACHER = 0.1
NOT_NAMED = "not named"

# Under what libvmaf has written a feature, the newest first: fixed point, floating point, and both
# as its model files and its Python library name them.
FEATURE_NAMES = {
    name: (
        f"{FIXED_POINT}{name}",
        name,
        f"VMAF_{FIXED_POINT}feature_{name}_score",
        f"VMAF_feature_{name}_score",
    )
    for name in CANONICAL_6
}
# The score as libvmaf's Python library names it.
_PYTHON_SCORE = "VMAF_score"
# What a score is called where it is called like a model: vmaf_v0.6.1neg, vmaf_4k_v0.6.1.
_MODEL = re.compile(r"vmaf(_[a-z0-9]+)*_v\d+(\.\d+)+\w*")
# Beyond this a float64 no longer tells one whole number from the next.
_MOST_FRAME = 2**53


@dataclass(frozen=True)
class Log:
    """What one log holds.

    Attributes
    ----------
    path : str
    features : (N, 6) float64
        Raw libvmaf units, order ``CANONICAL_6``.
    scores : dict of str to (N,) float64
        The log's own scores by name: every metric that begins with "vmaf". NaN where a frame has
        none.
    frames : (N,) int64
        Number of each frame in its clip, from 0, ascending: with ``n_subsample`` not all are there.
    form : str
        Who wrote it and how: ``libvmaf XML``, say.
    version : str or None
        Of libvmaf, where the log says.
    model : str or None
        The model that scored ``vmaf``, where the log says: only old ones do.
    """

    path: str
    features: np.ndarray
    scores: dict[str, np.ndarray]
    frames: np.ndarray
    form: str
    version: str | None = None
    model: str | None = None

    @property
    def vmaf(self) -> np.ndarray | None:
        """The score named ``vmaf``; None unless every frame has one."""
        own = self.scores.get("vmaf")
        return None if own is None or np.isnan(own).any() else own

    def teacher_named(self, score: str) -> str | None:
        """Return the teacher that the log names for one of its scores, None where it does not."""
        if is_model(score):
            return score
        return self.model if score == "vmaf" else None


def read_log(path: str | Path) -> Log:
    """Read a log of libvmaf or ffmpeg-quality-metrics: JSON, XML or CSV of any age, plain or gzip.

    The fixed-point extractors' names (``integer_adm2``) come before the floating-point ones'
    (``adm2``). NaN and infinities outside the six features and the score are nobody's business, and
    neither is a byte order mark.

    Raises
    ------
    ArtefactError
        If the file is missing, is no file, broken, or something else; it is called what it is.
    InputError
        If it has no frames, no features, frames that do not ascend, or a frame lacks a feature that
        is a number; the message names both.
    """
    path = Path(path)
    read = read_frames(path)
    metrics = [frame if isinstance(frame, dict) else {} for frame in read.metrics]
    names = dict.fromkeys(itertools.chain.from_iterable(metrics))
    if not any(name in names for known in FEATURE_NAMES.values() for name in known):
        found = f"{read.form} without any of the six features (it has {_listed(names)})"
        raise no_log(path, found)
    numbers = _frame_numbers(path, read)
    features = [_feature(path, metrics, names, numbers, name) for name in CANONICAL_6]
    scores = {
        _score_name(name): numbers_of([frame.get(name) for frame in metrics])
        for name in names
        if name.startswith("vmaf") or name == _PYTHON_SCORE
    }
    return Log(
        path=str(path),
        features=np.stack(features, axis=1),
        scores={name: own for name, own in scores.items() if not np.isnan(own).all()},
        frames=numbers,
        form=read.form,
        version=read.version,
        model=_model_of(read.model),
    )


def is_model(name: str) -> bool:
    """Return whether a score is called like one of libvmaf's models.

    Examples
    --------
    >>> [is_model(n) for n in ("vmaf_v0.6.1neg", "vmaf_4k_v0.6.1", "vmaf_v1.0.16_3d0h", "vmaf_4k")]
    [True, True, True, False]
    """
    return bool(_MODEL.fullmatch(name))


def agrees(scores: np.ndarray, formula: np.ndarray) -> bool:
    """Return whether scores, NaN where a frame has none, are those that the formula gives."""
    return bool(np.nanmean(np.abs(scores - formula)) <= SAME_TEACHER)


def who_scored(log: Log, score: str, formula: np.ndarray) -> str:
    """Say which teacher gave a score of a log, as far as the log lets that be known.

    Parameters
    ----------
    log : Log
    score : str
        One of ``log.scores``.
    formula : (N,) float64
        VMAF v0.6.1 of the log's features.
    """
    named = log.teacher_named(score)
    if named is not None:
        return f"{named} (named in the log)"
    same = agrees(log.scores[score], formula)
    return f"agrees with {V061.title}'s formula" if same else NOT_NAMED


def numbers_of(values: list[Any]) -> np.ndarray:
    """Return values as (N,) float64, NaN in the place of one that no metric can have."""
    if {*map(type, values)} == {float}:
        found = np.array(values)
    else:
        # By way of None; a comparison, as float() overflows on an integer of hundreds of digits.
        found = np.array([v if _is_number(v) else None for v in values], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(found) <= MOST, found, np.nan)


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and -MOST <= value <= MOST


def _listed(names: dict[str, None]) -> str:
    return shown(", ".join(names) or "nothing")


def _score_name(name: str) -> str:
    return "vmaf" if name == _PYTHON_SCORE else name


def _model_of(file: str | None) -> str | None:
    """Return the name of a model file without folder (of any system) and suffix."""
    if not file:
        return None
    name = PureWindowsPath(file).name.removesuffix(".model")
    return name.removesuffix(".json").removesuffix(".pkl")


def _frame_numbers(path: Path, read: Frames) -> np.ndarray:
    """Return the frames' numbers; a log that counts none of them has all, from 0."""
    if not any(isinstance(frame, dict) for frame in read.metrics):
        return np.arange(len(read.metrics))
    if all(number is None for number in read.numbers):
        return np.arange(len(read.numbers))
    for place, number in enumerate(read.numbers):
        before = read.numbers[place - 1] if place else -1
        real = isinstance(number, int | float) and not isinstance(number, bool)
        if not real or not 0 <= number < _MOST_FRAME or number != int(number) or number <= before:
            raise InputError(
                say(
                    f"{path} frame {place}",
                    f"its number is {shown(number)}",
                    "whole numbers that ascend",
                    "write the log again",
                )
            )
    return np.array(read.numbers, dtype=np.int64)


def _feature(
    path: Path,
    metrics: list[dict[str, Any]],
    names: dict[str, None],
    frames: np.ndarray,
    name: str,
) -> np.ndarray:
    """Return one feature of all frames, under the newest of its names that the log has."""
    known = [key for key in FEATURE_NAMES[name] if key in names]
    values = [frame.get(known[0]) for frame in metrics] if known else [None] * len(metrics)
    column = numbers_of(values)
    bad = np.isnan(column)
    if not bad.any():
        return column
    place = int(np.argmax(bad))
    found = f"no {name}"
    if known and known[0] in metrics[place]:
        found = f"{name} is {shown(values[place])}"
    raise InputError(
        say(
            f"{path} frame {frames[place]}",
            found,
            f"{' or '.join(FEATURE_NAMES[name][:2])} in each frame's metrics, a number up to "
            f"{MOST:g}",
            f"run libvmaf with a {V061.name} model, which logs all six features",
        )
    )
