"""The consumer of a translation: what another teacher would have said, and how far that may be off.

It reads the features of logs that VMAF v0.6.1 made, as the predictor does, and answers with an
interval that was measured on held-out sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.corpus import outside_domain, read_log, vmaf_from_features
from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.release.checks import find_row, judge, state_of
from fr_lib.release.predict import _checked, _counts, _opened
from fr_lib.release.registry import REGISTRY
from fr_lib.release.strict import read_object
from fr_lib.release.translation import TRANSLATED, translation_id
from fr_lib.schema import adapter, codec_block, encoder_index

if TYPE_CHECKING:
    import onnxruntime

# A source scaled up or down by more is none that anybody scores.
MOST_SCALE = 16.0
UNTRAINED = "what all trained codecs share (no training rows for this encoder)"


@dataclass(frozen=True)
class Translator:
    """A translation that was verified before it was loaded; make one with :meth:`load`.

    Attributes
    ----------
    card : dict
        The sidecar.
    session : onnxruntime.InferenceSession
    """

    card: dict[str, Any]
    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, model_dir: str | Path, teacher: str, *, threads: int = 1) -> Translator:
        """Load the translation into a teacher's scores through the registry of a folder.

        Raises
        ------
        InputError
            For an unknown teacher, or one that the folder has no translation for.
        ArtefactError
            If one of its files is missing, altered or breaks a rule of :func:`judge`.
        """
        model_id = translation_id(teacher)
        folder, since = Path(model_dir), state_of(model_dir)
        models = read_object(folder / REGISTRY).get("models")
        rows = models if isinstance(models, list) else []
        ids = [row.get("id") for row in rows if isinstance(row, dict)]
        if model_id not in ids:
            there = ", ".join(name for key, name in TRANSLATED.items() if key in ids) or "none"
            remedy = f"python -m fr_lib translate --teacher {teacher}"
            raise InputError(say("--teacher", f"no {model_id} in {folder}", there, remedy))
        verdict = judge(folder, find_row(folder, model_id), since=since)
        return cls(*_opened(folder, verdict, threads))

    def is_trained(self, encoder: str) -> bool:
        """Say whether `encoder` had training rows; InputError if it is no slot."""
        encoder_index(encoder, self.card["encoder_vocab"])
        return self.card["trained_slots"][encoder] > 0

    def score(self, features: np.ndarray, encoder: str, src_scale: float = 1.0) -> np.ndarray:
        """Return the teacher's score of each frame: (N,) float64.

        Parameters
        ----------
        features : (N, 6) array_like
            Raw libvmaf values, order ``CANONICAL_6``.
        encoder : str
            The FFmpeg encoder that made the encode.
        src_scale : float
            By how much the source had been scaled up before it was encoded; 1 if it had not.

        Raises
        ------
        InputError
            For an encoder outside the vocabulary, a scale that is none, or features of another
            shape or beyond what a feature can be.
        ArtefactError
            If the model gives a score that is not finite.
        """
        x = _checked(features).astype(np.float32)
        encoder_index(encoder, self.card["encoder_vocab"])
        if not 1 / MOST_SCALE <= src_scale <= MOST_SCALE:  # true for NaN too
            allowed = f"{1 / MOST_SCALE:g}..{MOST_SCALE:g}; 1 if it was not scaled"
            raise InputError(say("src_scale", str(src_scale), allowed, "name its scale"))
        n, middle = len(x), adapter(encoder).preset_ordinal(adapter(encoder).default_preset)
        # Preset and quality have no weight here: any would do.
        block = codec_block(
            [encoder] * n, np.full(n, middle), np.zeros(n), vocab=self.card["encoder_vocab"]
        )
        scale = np.full((n, 1), src_scale, dtype=np.float32)
        inputs = {"features": x, "codec_block": block, "src_scale": scale}
        scores = self.session.run(["vmaf"], inputs)[0].astype(np.float64)
        if not np.isfinite(scores).all():
            found = "a score that is not finite"
            raise ArtefactError(
                say(self.card["onnx"], found, "finite scores", "make the translation again")
            )
        return scores


def translate_logs(
    translator: Translator,
    paths: Sequence[str | Path],
    encoder: str,
    src_scale: float = 1.0,
    frames: bool = False,
) -> list[dict[str, Any]]:
    """Estimate another teacher's score of logs that VMAF v0.6.1 made.

    Returns
    -------
    list of dict
        Per log: file, form, frames (count), teacher, model, mean and min of the estimate, interval
        (of the mean: where 95 % of held-out encodes' means lay, within the teacher's range),
        interval_share, method, src_scale, formula_mean (VMAF v0.6.1), frames_outside and
        features_outside. Where the log has a score of that teacher: log_mean and log_difference
        (mean of the estimate minus it). note where something is off; per_frame where asked for.

    Raises
    ------
    FrError
        As :func:`fr_lib.corpus.logs.read_log` and :meth:`Translator.score`, before any result is
        returned.
    """
    card, rows = translator.card, []
    trained = translator.is_trained(encoder)
    within = card["interval"]["encode" if trained else "untrained"]
    for path in paths:
        log = read_log(path)
        scores = translator.score(log.features, encoder, src_scale)
        old = vmaf_from_features(log.features)
        out = outside_domain(log.features, card["domain"])
        row = {
            "file": log.path,
            "form": log.form,
            "frames": len(scores),
            "teacher": card["teacher"],
            "model": card["id"],
            "mean": float(scores.mean()),
            "min": float(scores.min()),
            "interval": _interval(float(scores.mean()), within, card["score_range"]),
            "interval_share": card["interval"]["share"],
            "method": card["method"] if trained else f"{card['method']}, {UNTRAINED}",
            "src_scale": float(src_scale),
            "formula_mean": float(old.mean()),
            **_counts(out),
        }
        row |= _own_score(log.scores, card["teacher"], scores)
        if row["frames_outside"]:
            row["note"] = (
                f"{row['frames_outside']} of {row['frames']} frames lie outside what the training "
                "rows showed: the interval was not measured there"
            )
        if frames:
            columns = zip(log.frames, scores, old, strict=True)
            row["per_frame"] = [
                {"frame": int(n), "estimated": float(new), "formula": float(exact)}
                for n, new, exact in columns
            ]
        rows.append(row)
    return rows


def _interval(mean: float, within: float | None, limits: Sequence[float]) -> list[float] | None:
    """Return mean -+ within, inside the teacher's range; None where it was not measured."""
    if within is None:
        return None
    return [max(mean - within, limits[0]), min(mean + within, limits[1])]


def _own_score(
    given: Mapping[str, np.ndarray], teacher: str, scores: np.ndarray
) -> dict[str, float]:
    """Return the mean of the log's own score of that teacher, and the difference to it."""
    if teacher not in given:
        return {}
    own = float(np.nanmean(given[teacher]))
    difference = float(np.nanmean(scores - given[teacher]))
    return {"log_mean": own, "log_difference": difference} if math.isfinite(own) else {}
