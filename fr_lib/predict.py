"""The consumer: from a verified model folder and libvmaf's features to scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.export import open_session
from fr_lib.files import read_json
from fr_lib.registry import REGISTRY, find_row, row_problems
from fr_lib.schema import CANONICAL_6, MODEL_ID, BlockNorm, adapter, codec_block

if TYPE_CHECKING:
    import onnxruntime

CODEC_AWARE = "codec-aware network"
CODEC_BLIND = "codec-blind network (no training rows for this encoder)"


@dataclass(frozen=True)
class Predictor:
    """A model that was verified before it was loaded; make one with :meth:`load`.

    Attributes
    ----------
    card : dict
        The sidecar.
    session : onnxruntime.InferenceSession
    """

    card: dict[str, Any]
    session: onnxruntime.InferenceSession

    @classmethod
    def load(
        cls, model_dir: str | Path, model_id: str = MODEL_ID, *, threads: int = 1
    ) -> Predictor:
        """Load a model through its registry.

        Parameters
        ----------
        model_dir : path-like
            Folder with ``registry.json``.
        model_id : str
            Id of a codec-aware model of that registry.
        threads : int
            Of onnxruntime; one is deterministic and fast enough for 6 + 18 numbers a row.

        Raises
        ------
        ArtefactError
            If the row is missing or marked ``smoke``, or one of its files is missing, altered or
            breaks the contract; one line per problem, file named.
        """
        folder = Path(model_dir)
        row = find_row(folder, model_id)
        if row.get("smoke", False):
            raise ArtefactError(
                say(
                    str(folder / REGISTRY),
                    f"{model_id} is marked smoke: its gate failed, or its rows were synthetic",
                    "a model that passed its gate",
                    "train on a corpus that passes (make book) and release that run",
                )
            )
        problems = row_problems(folder, row, codec_aware=True)
        if problems:
            raise ArtefactError("\n".join(problems))
        path = folder / row["onnx"]
        card = read_json(path.with_suffix(".json"), made_by="make release")
        return cls(card, open_session(path, threads))

    def is_trained(self, encoder: str) -> bool:
        """Say whether `encoder` had training rows; InputError if it is not in the vocabulary."""
        return self.card["trained_slots"][adapter(encoder).encoder] > 0

    def score(
        self, features: np.ndarray, encoder: str, quality: float, preset: str | None = None
    ) -> np.ndarray:
        """Score the frames of one encode.

        Parameters
        ----------
        features : (N, 6) array_like
            Raw libvmaf values, order ``CANONICAL_6``; N may be 0.
        encoder : str
            The FFmpeg encoder that made the encode, one of ``ENCODER_VOCAB_V3``.
        quality : float
            Its quality value (crf, qp, cq, ...), in the encoder's own range.
        preset : str, optional
            Default: the encoder's own default preset.

        Returns
        -------
        (N,) float32
            VMAF, 0..100. For an encoder without training rows the codec-blind network answers, and
            quality and preset have no influence: see :meth:`is_trained`.

        Raises
        ------
        InputError
            For an encoder outside the vocabulary, a preset or quality value that it does not have,
            or features of another shape or not finite.
        """
        x = _checked(features)
        codec = adapter(encoder)
        codec.check_quality(quality)
        ordinal = codec.preset_ordinal(codec.default_preset if preset is None else preset)
        norm = BlockNorm.from_sidecar(self.card)
        n = len(x)
        block = codec_block([encoder] * n, np.full(n, ordinal), np.full(n, quality), norm)
        # In float32 throughout, as in training, so that the graph sees the same digits.
        mean, std = (np.float32(self.card[key]) for key in ("feature_mean", "feature_std"))
        inputs = {"features": (x.astype(np.float32) - mean) / std, "codec_block": block}
        return self.session.run(["vmaf"], inputs)[0]


def _checked(features: np.ndarray) -> np.ndarray:
    """Return `features` as (N, 6) float64, or raise InputError."""
    x = np.asarray(features, dtype=np.float64)
    wanted = f"(N, {len(CANONICAL_6)}): {', '.join(CANONICAL_6)}"
    if x.ndim != 2 or x.shape[1] != len(CANONICAL_6):
        raise InputError(say("features", f"shape {x.shape}", wanted, "give one row per frame"))
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            say(
                f"features row {row}",
                f"{CANONICAL_6[column]} is {x[row, column]}",
                "finite numbers",
                "leave such frames out",
            )
        )
    return x


def _feature(frame: Any, name: str, where: str) -> float:
    """Return one feature of one frame of a log, under libvmaf's integer or float name."""
    metrics = frame.get("metrics") if isinstance(frame, dict) else None
    for key in (f"integer_{name}", name):
        value = metrics.get(key) if isinstance(metrics, dict) else None
        if isinstance(value, int | float) and np.isfinite(value):
            return float(value)
    raise InputError(
        say(
            where,
            f"no finite {name}",
            f"integer_{name} or {name} in each frame's metrics",
            "run libvmaf with a vmaf_v0.6.1 model, which logs all six features",
        )
    )


def read_libvmaf_log(path: str | Path) -> np.ndarray:
    """Read the six features of each frame from libvmaf's JSON log (``log_fmt=json``).

    Returns
    -------
    (N, 6) float64
        Raw values in the order of ``CANONICAL_6``, N at least 1. The fixed-point extractors'
        names (``integer_adm2``) come before the floating-point ones' (``adm2``).

    Raises
    ------
    ArtefactError
        If the file is missing or not JSON.
    InputError
        If it is not a libvmaf log, has no frames, or a frame lacks a feature; names both.
    """
    log = read_json(path, made_by="libvmaf with log_fmt=json")
    frames = log.get("frames") if isinstance(log, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(
            say(str(path), "no frames", "a JSON log of libvmaf", "run libvmaf with log_fmt=json")
        )
    return np.array(
        [
            [_feature(frame, name, f"{path} frame {number}") for name in CANONICAL_6]
            for number, frame in enumerate(frames)
        ]
    )


def predict_logs(
    predictor: Predictor,
    paths: Sequence[str | Path],
    encoder: str,
    quality: float,
    preset: str | None = None,
) -> list[dict[str, Any]]:
    """Score libvmaf logs of encodes made with the same settings.

    Returns
    -------
    list of dict
        Per log: file (str), frames (int), mean and min (float, VMAF 0..100) and answered_by (str),
        which says when the codec-blind network stood in for an encoder without training rows.

    Raises
    ------
    FrError
        As :func:`read_libvmaf_log` and :meth:`Predictor.score`, before any result is returned.
    """
    answered_by = CODEC_AWARE if predictor.is_trained(encoder) else CODEC_BLIND
    rows = []
    for path in paths:
        scores = predictor.score(read_libvmaf_log(path), encoder, quality, preset)
        rows.append(
            {
                "file": str(path),
                "frames": len(scores),
                "mean": float(scores.mean(dtype=np.float64)),
                "min": float(scores.min()),
                "answered_by": answered_by,
            }
        )
    return rows
