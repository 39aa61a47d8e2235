"""The consumer: from a verified model folder and libvmaf's features to scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.corpus import (
    MOST,
    Log,
    agrees,
    outside_domain,
    read_log,
    vmaf_from_features,
    who_scored,
)
from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.release.checks import Verdict, find_row, judge, state_of
from fr_lib.release.onnx import open_session
from fr_lib.release.registry import REGISTRY
from fr_lib.schema import CANONICAL_6, MODEL_ID, BlockNorm, adapter, codec_block, encoder_index

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
            Of onnxruntime; one is deterministic and fast enough for some two dozen numbers a row.

        Raises
        ------
        ArtefactError
            If the row is missing or marked ``smoke``, or one of its files is missing, altered or
            breaks a rule of :func:`judge`; one line per problem, file named.
        """
        folder, since = Path(model_dir), state_of(model_dir)
        verdict = judge(folder, find_row(folder, model_id), like=MODEL_ID, since=since)
        return cls(*_opened(folder, verdict, threads))

    def is_trained(self, encoder: str) -> bool:
        """Say whether `encoder` had training rows.

        Raises
        ------
        InputError
            If it is no slot of this model, even if a newer vocabulary has it: a graph has no column
            for an encoder that was appended after it was trained.
        """
        encoder_index(encoder, self.card["encoder_vocab"])
        return self.card["trained_slots"][encoder] > 0

    def score(
        self, features: np.ndarray, encoder: str, quality: float, preset: str | None = None
    ) -> np.ndarray:
        """Score the frames of one encode.

        Parameters
        ----------
        features : (N, 6) array_like
            Raw libvmaf values, order ``CANONICAL_6``; N may be 0.
        encoder : str
            The FFmpeg encoder that made the encode, one of the model's ``encoder_vocab``.
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
            For an encoder outside the model's vocabulary, a preset or quality value that it does
            not have, or features of another shape or beyond what a feature can be.
        ArtefactError
            If the model gives a score that is not finite.
        """
        x = _checked(features)
        vocab = self.card["encoder_vocab"]
        encoder_index(encoder, vocab)
        codec = adapter(encoder)
        codec.check_quality(quality)
        ordinal = codec.preset_ordinal(codec.default_preset if preset is None else preset)
        norm = BlockNorm.from_sidecar(self.card)
        n = len(x)
        block = codec_block([encoder] * n, np.full(n, ordinal), np.full(n, quality), norm, vocab)
        # In float32 throughout, as in training, so that the graph sees the same digits.
        mean, std = (np.float32(self.card[key]) for key in ("feature_mean", "feature_std"))
        inputs = {"features": (x.astype(np.float32) - mean) / std, "codec_block": block}
        scores = self.session.run(["vmaf"], inputs)[0]
        if not np.isfinite(scores).all():
            row = int(np.argmin(np.isfinite(scores)))
            raise ArtefactError(
                say(
                    f"{self.card['onnx']}, features row {row}",
                    f"score {scores[row]}",
                    "a finite score",
                    "release another model",
                )
            )
        return scores


def _opened(
    folder: Path, verdict: Verdict, threads: int
) -> tuple[dict[str, Any], onnxruntime.InferenceSession]:
    """Return sidecar and session of a model that was judged, or raise ArtefactError."""
    if verdict.row.get("smoke", False):
        raise ArtefactError(
            say(
                str(folder / REGISTRY),
                f"{verdict.name} is marked smoke: its gate failed, or its rows were synthetic",
                "a model that passed its gate",
                "train on a corpus that passes (make book) and release that run",
            )
        )
    if verdict.problems:
        raise ArtefactError("\n".join(verdict.problems))
    # The bytes that were judged: whatever lies in the folder by now.
    return verdict.card, open_session(verdict.model, threads)


def _checked(features: np.ndarray) -> np.ndarray:
    """Return `features` as (N, 6) float64, or raise InputError."""
    x = np.asarray(features, dtype=np.float64)
    wanted = f"(N, {len(CANONICAL_6)}): {', '.join(CANONICAL_6)}"
    if x.ndim != 2 or x.shape[1] != len(CANONICAL_6):
        raise InputError(say("features", f"shape {x.shape}", wanted, "give one row per frame"))
    bad = np.argwhere(~(np.abs(x) <= MOST))  # true for NaN too
    if len(bad):
        row, column = bad[0]
        raise InputError(
            say(
                f"features row {row}",
                f"{CANONICAL_6[column]} is {x[row, column]}",
                f"a number up to {MOST:g}",
                "leave such frames out",
            )
        )
    return x


def predict_logs(
    predictor: Predictor,
    paths: Sequence[str | Path],
    encoder: str,
    quality: float,
    preset: str | None = None,
    frames: bool = False,
) -> list[dict[str, Any]]:
    """Score logs of encodes made with the same settings, and show the error beside it.

    All six features are there, so VMAF v0.6.1 itself can be worked out: it is the truth that the
    network repeats.

    Parameters
    ----------
    predictor : Predictor
    paths : sequence of path-like
    encoder, quality, preset
        As in :meth:`Predictor.score`.
    frames : bool
        Give each log a list of its frames too.

    Returns
    -------
    list of dict
        Per log: file, form (who wrote it and how), frames (count), mean and min of the prediction
        (VMAF 0..100), answered_by (which says when the codec-blind network stood in for an encoder
        without training rows), formula_mean and formula_min (VMAF v0.6.1), difference (of the
        means, prediction minus formula), largest_difference (of a frame), frames_outside and
        features_outside (frames beyond what training rows showed, in all and by feature). Where the
        log carries a score: log_mean, log_difference (mean absolute difference to the formula, per
        frame), log_is_v0_6_1 and log_teacher (who scored it, as far as the log lets that be known);
        where it carries scores of other names than ``vmaf``, log_scores has the same four of each.
        note (str) where something is off; per_frame where asked for.

    Raises
    ------
    FrError
        As :func:`fr_lib.corpus.logs.read_log` and :meth:`Predictor.score`, before any result is
        returned.
    """
    answered_by = CODEC_AWARE if predictor.is_trained(encoder) else CODEC_BLIND
    rows = []
    for path in paths:
        log = read_log(path)
        scores = predictor.score(log.features, encoder, quality, preset).astype(np.float64)
        truth = vmaf_from_features(log.features)
        out = outside_domain(log.features, predictor.card["domain"])
        row = {
            "file": log.path,
            "form": log.form,
            "frames": len(scores),
            "mean": float(scores.mean()),
            "min": float(scores.min()),
            "answered_by": answered_by,
            "formula_mean": float(truth.mean()),
            "formula_min": float(truth.min()),
            "difference": float(scores.mean() - truth.mean()),
            "largest_difference": float(np.abs(scores - truth).max()),
            **_counts(out),
        }
        own = _own_scores(log, truth)
        row |= {f"log_{key}": value for key, value in own.get("vmaf", {}).items()}
        if others := {name: score for name, score in own.items() if name != "vmaf"}:
            row["log_scores"] = others
        if note := "; ".join([*_foreign_scores(own, row["formula_mean"]), *_beyond(row)]):
            row["note"] = note
        rows.append(row | ({"per_frame": _per_frame(log, scores, truth, out)} if frames else {}))
    return rows


def _counts(out: np.ndarray) -> dict[str, Any]:
    """Return how many frames lie outside the domain, in all and by feature, of (N, 6) bool."""
    by_feature = zip(CANONICAL_6, out.sum(axis=0), strict=True)
    return {
        "frames_outside": int(out.any(axis=1).sum()),
        "features_outside": {name: int(n) for name, n in by_feature if n},
    }


def _own_scores(log: Log, truth: np.ndarray) -> dict[str, dict[str, Any]]:
    """Compare the scores that a log carries with the formula, over the frames that have one."""
    own = {}
    for name, scores in log.scores.items():
        own[name] = {
            "mean": float(np.nanmean(scores)),
            "difference": float(np.nanmean(np.abs(scores - truth))),
            "is_v0_6_1": agrees(scores, truth),
            "teacher": who_scored(log, name, truth),
        }
    return own


def _foreign_scores(own: Mapping[str, Mapping[str, Any]], formula: float) -> Iterator[str]:
    foreign = [
        f"{name} (mean {score['mean']:.3f})"
        for name, score in own.items()
        if not score["is_v0_6_1"]
    ]
    if foreign:
        yield (
            f"the log's own {', '.join(foreign)} is not of vmaf_v0.6.1, whose formula gives "
            f"{formula:.3f}: prediction and formula are of v0.6.1"
        )


def _beyond(row: Mapping[str, Any]) -> Iterator[str]:
    if row["frames_outside"]:
        named = ", ".join(f"{name} {n}" for name, n in row["features_outside"].items())
        yield (
            f"{row['frames_outside']} of {row['frames']} frames lie outside what the training rows "
            f"showed ({named}): read the formula there"
        )


def _per_frame(
    log: Log, scores: np.ndarray, truth: np.ndarray, out: np.ndarray
) -> list[dict[str, Any]]:
    return [
        {
            "frame": int(number),
            "predicted": float(score),
            "formula": float(exact),
            "difference": float(score - exact),
            "outside": [name for name, beyond in zip(CANONICAL_6, marks, strict=True) if beyond],
        }
        for number, score, exact, marks in zip(log.frames, scores, truth, out, strict=True)
    ]
