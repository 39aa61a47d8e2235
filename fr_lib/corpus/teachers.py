"""The teachers: which model of libvmaf scored a row, and its formula where it has one.

A row's `vmaf` is the score of the teacher that it is stamped with; scores of others stand beside
it, each in a column of the teacher's own name.

libvmaf's ``vmaf_v0.6.1`` is a nu-SVR with an RBF kernel over exactly the six features of
``CANONICAL_6``, so its score can be worked out from a corpus row alone. The audit uses that to find
rows that another model scored, and the synthetic corpus to label its rows.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.schema import CANONICAL_6, FIXED_POINT, VMAF_RANGE

# The wheel that ships libvmaf's model files as plain JSON; only its data is used.
MODEL_PACKAGE = "ffmpeg_quality_metrics"
MODEL_FOLDER = "vmaf_models"
MODEL_FILE = "vmaf_v0.6.1.json"

MEASURED, NOT_APPLICABLE = "measured", "not applicable"  # states of a teacher check

# 16,384 rows x 211 support vectors x 8 bytes = 28 MB for the one large temporary.
_CHUNK_ROWS = 16_384


@dataclass(frozen=True)
class Svr:
    """Parameters of the nu-SVR; columns are in ``CANONICAL_6`` order."""

    slopes: np.ndarray  # (6,)
    intercepts: np.ndarray  # (6,)
    score_slope: float
    score_intercept: float
    clip: tuple[float, float]
    gamma: float
    rho: float
    weights: np.ndarray  # (S,)
    vectors: np.ndarray  # (S, 6)


def _model_json() -> dict[str, Any]:
    # find_spec locates a top-level package without running its code.
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / MODEL_FOLDER / MODEL_FILE
        if path.is_file():
            return json.loads(path.read_text())["model_dict"]
    raise ArtefactError(
        say(
            "teacher",
            f"{MODEL_FILE} not found in the package {MODEL_PACKAGE}",
            f"an installed {MODEL_PACKAGE} with its model files",
            "install requirements.lock again",
        )
    )


def _support_vectors(lines: list[str], n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Parse ``weight 1:value 2:value ...``; an index that is left out is 0 (libsvm's format)."""
    weights = np.zeros(len(lines))
    vectors = np.zeros((len(lines), n_features))
    for row, line in enumerate(lines):
        weight, *entries = line.split()
        weights[row] = float(weight)
        for entry in entries:
            index, value = entry.split(":")
            vectors[row, int(index) - 1] = float(value)
    return weights, vectors


def _canonical_order(feature_names: list[str]) -> list[int]:
    """Return where each of ``CANONICAL_6`` stands in the model's own feature list."""
    short = [name.removeprefix(f"VMAF_{FIXED_POINT}feature_").removesuffix("_score")
             for name in feature_names]  # fmt: skip
    return [short.index(name) for name in CANONICAL_6]


@functools.cache
def svr_parameters() -> Svr:
    """Return the parameters of VMAF v0.6.1; ArtefactError if the model file is not installed."""
    model = _model_json()
    head, _, body = model["model"].partition("\nSV\n")
    options = dict(line.split(maxsplit=1) for line in head.splitlines())
    lines = [line for line in body.splitlines() if line.strip()]
    weights, vectors = _support_vectors(lines, len(model["feature_names"]))
    order = _canonical_order(model["feature_names"])
    # Index 0 of both lists belongs to the score, 1.. to the features.
    slopes, intercepts = np.array(model["slopes"]), np.array(model["intercepts"])
    return Svr(
        slopes=slopes[1:][order],
        intercepts=intercepts[1:][order],
        score_slope=float(slopes[0]),
        score_intercept=float(intercepts[0]),
        clip=(float(model["score_clip"][0]), float(model["score_clip"][1])),
        gamma=float(options["gamma"]),
        rho=float(options["rho"]),
        weights=weights,
        vectors=vectors[:, order],
    )


def vmaf_from_features(features: np.ndarray) -> np.ndarray:
    """Return VMAF v0.6.1 of each row of features.

    The model file's ``linear_rescale`` is applied to the features, then the RBF nu-SVR, then the
    score's rescaling is undone and the result clipped. The model file also holds a score transform;
    libvmaf leaves that off unless asked, and so does this.

    Parameters
    ----------
    features : (N, 6) array_like
        Raw libvmaf units, columns in ``CANONICAL_6`` order.

    Returns
    -------
    (N,) float64
        0..100; NaN where a feature is NaN. Within 2e-4 of libvmaf's own per-frame score, whose log
        rounds the features to six decimals.

    Raises
    ------
    InputError
        If `features` is not two-dimensional with six columns.
    ArtefactError
        If the model file is not installed.

    Examples
    --------
    >>> vmaf_from_features([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]]).round(3).tolist()
    [97.428]
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(CANONICAL_6):
        raise InputError(
            say("teacher features", f"shape {x.shape}", "(N, 6)", "give CANONICAL_6 as columns")
        )
    svr = svr_parameters()
    out = np.empty(len(x))
    for start in range(0, len(x), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        out[rows] = _predict(svr, x[rows])
    return out


def _predict(svr: Svr, x: np.ndarray) -> np.ndarray:
    z = x * svr.slopes + svr.intercepts
    # |z - s|^2 written out, so that the product of all rows and vectors is one matrix product.
    kernel = z @ svr.vectors.T
    kernel *= 2.0
    kernel -= np.sum(z**2, axis=1, keepdims=True)
    kernel -= np.sum(svr.vectors**2, axis=1)
    kernel *= svr.gamma
    np.exp(kernel, out=kernel)
    score = kernel @ svr.weights - svr.rho
    return np.clip((score - svr.score_intercept) / svr.score_slope, *svr.clip)


@dataclass(frozen=True)
class Teacher:
    """A model of libvmaf whose scores a corpus may hold.

    Attributes
    ----------
    name : str
        As libvmaf knows it and rows are stamped with it.
    title : str
        In text.
    features : tuple of str
        What `formula` takes, in this order; empty where there is none.
    formula : callable or None
        From (N, len(features)) raw features of frames to (N,) scores; None where the score is no
        formula of the six, and then whatever needs one is not applicable.
    range : tuple of float
        Least and greatest score.
    sees_banding : bool
        Whether it measures banding: such a model asks for pictures of 10 bits, whatever the encode
        has, and to be told the encode's own size and depth.
    least_side : int
        Pixels of width and of height that libvmaf needs; it dies of less. Tried one by one.
    """

    name: str
    title: str
    features: tuple[str, ...] = ()
    formula: Callable[[np.ndarray], np.ndarray] | None = None
    range: tuple[float, float] = VMAF_RANGE
    sees_banding: bool = False
    least_side: int = 18


def _v1(variant: str, seen: str, top: float = VMAF_RANGE[1], least_side: int = 216) -> Teacher:
    """Return a model of VMAF v1 (libvmaf's ``resource/doc/models_v1.md``)."""
    name, title = f"vmaf_v1.0.16_{variant}", f"VMAF v1.0.16, {seen}"
    return Teacher(name, title, (), None, (0.0, top), sees_banding=True, least_side=least_side)


V061 = Teacher("vmaf_v0.6.1", "VMAF v0.6.1", CANONICAL_6, vmaf_from_features)
_OTHERS = (
    # The same formula of other features: the gain of enhancement is limited in them.
    Teacher("vmaf_v0.6.1neg", "VMAF v0.6.1 NEG"),
    _v1("3d0h", "1080p at 3 heights"),
    _v1("5d0h", "1080p at 5 heights", least_side=266),
    _v1("hfr_3d0h", "1080p at 3 heights, high frame rate"),
    _v1("hfr_5d0h", "1080p at 5 heights, high frame rate", least_side=266),
    _v1("1d5h_2160", "2160p at 1.5 heights"),
    _v1("3d0h_2160", "2160p at 3 heights", 110.0, least_side=318),
    _v1("hfr_1d5h_2160", "2160p at 1.5 heights, high frame rate"),
    _v1("hfr_3d0h_2160", "2160p at 3 heights, high frame rate", 110.0, least_side=318),
)
TEACHERS = {teacher.name: teacher for teacher in (V061, *_OTHERS)}


def teacher_of(stamp: str | None) -> Teacher:
    """Return the teacher that rows are stamped with; where none is, VMAF v0.6.1 is assumed.

    Raises
    ------
    InputError
        If there is no such teacher.
    """
    if stamp is None:
        return V061
    if stamp not in TEACHERS:
        raise InputError(say("teacher", stamp, ", ".join(TEACHERS), "score the rows with one"))
    return TEACHERS[stamp]


def formula_applies(check: Mapping[str, Any]) -> bool:
    """Return whether a corpus's rows could be held against its teacher's formula.

    Parameters
    ----------
    check : mapping
        What :func:`fr_lib.corpus.audit.teacher_check` found; else its ``reason`` says why not.
    """
    return check["status"] == MEASURED
