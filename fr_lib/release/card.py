"""The sidecar of a run's model, written."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from fr_lib.arms import SHIPPED_ARM
from fr_lib.errors import ArtefactError
from fr_lib.evaluate import RETRAIN_PENDING
from fr_lib.release.sense import FOLD_METRICS, card_problems
from fr_lib.schema import (
    CANONICAL_6,
    MODEL_ID,
    NEWEST_VOCAB,
    NEWEST_VOCAB_VERSION,
    BlockNorm,
    codec_block_layout,
)

LICENSE = "BSD-2-Clause-Patent"
MAX_NOTES = 512


def _metric(value: Any) -> float | None:
    """Return a finite float, or None (JSON null) for a metric that is undefined."""
    return None if value is None or not math.isfinite(value) else float(value)


def _notes(gate: Mapping[str, Any], slots: Mapping[str, int], synthetic: bool) -> str:
    from fr_lib.evaluate import failed_clauses  # brings pandas, which a consumer does not need

    parts = []
    if not gate["gate_passed"]:
        failed = [c["name"] for c in failed_clauses(gate)]
        parts.append(f"{RETRAIN_PENDING}: the ship gate failed ({', '.join(failed)}).")
    if synthetic:
        parts.append("Smoke run on synthetic rows, not for scoring.")
    trained = [name for name, rows in slots.items() if rows]
    parts.append(f"Slots with training rows: {', '.join(trained)}.")
    if len(trained) < len(slots):
        parts.append("Every other slot is scored by the codec-blind network of the same graph.")
    parts.append("The graph holds no scaler: standardise features with feature_mean, feature_std.")
    return textwrap.shorten(" ".join(parts), MAX_NOTES, placeholder=" ...")


def _training(
    loso: Mapping[str, Any], dataset: str, n_rows: int, passed: bool, smoke: bool
) -> dict[str, Any]:
    from fr_lib.evaluate import MEAN_PLCC  # brings pandas, which a consumer does not need

    arm = loso["arms"][SHIPPED_ARM]
    names = ("mean_plcc", "std_plcc", "min_plcc", "max_plcc", "mean_srocc", "mean_rmse")
    return {
        "dataset": dataset,
        "n_rows": int(n_rows),
        **{f"loso_{name}": _metric(arm["summary"][name]) for name in names},
        "loso_folds": [
            {
                "held_out": str(fold["held_out"]),
                "n_train": int(fold["n_train"]),
                "n_val": int(fold["n_val"]),
                **{name: _metric(fold[name]) for name in FOLD_METRICS},
            }
            for fold in arm["folds"]
        ],
        "ship_gate_mean_plcc": MEAN_PLCC,
        "gate_passed": passed,
        "smoke": smoke,
    }


def sidecar(
    *,
    facts: Mapping[str, Any],
    feature_mean: Sequence[float],
    feature_std: Sequence[float],
    loso: Mapping[str, Any],
    gate: Mapping[str, Any],
    corpus_name: str,
    corpus_sha256: str,
    n_rows: int,
    rows_per_slot: Mapping[str, int],
    domain: Mapping[str, Sequence[float]],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
    synthetic: bool = False,
) -> dict[str, Any]:
    """Build the sidecar of ``fr_regressor_v3.onnx`` (``sidecar.schema.json``).

    Parameters
    ----------
    facts : mapping
        What :func:`fr_lib.release.onnx.export_onnx` returned.
    feature_mean, feature_std : (6,) sequences of float
        Of the rows of the shipped fit, raw libvmaf units, order ``CANONICAL_6``.
    loso, gate : mapping
        Contents of ``loso.json`` (the arm that ships is used) and ``gate.json``.
    corpus_name, corpus_sha256 : str
        File name without folders, and the sha256 of its bytes.
    n_rows : int
        Rows of the shipped fit.
    rows_per_slot : mapping of str to int
        Training rows per encoder; a slot that is not named has none.
    domain : mapping
        Feature to its least and greatest value in the rows of the corpus, raw libvmaf units.
    recipe : mapping
        Every hyper-parameter, ``made_rows`` and ``seed``.
    provenance : mapping
        Versions, platform, git revision. ``synthetic`` is added to it.
    synthetic : bool
        True for a smoke run on made-up rows.

    Returns
    -------
    dict
        JSON without NaN: an undefined metric is None. ``training.smoke`` is true when the gate
        failed or the rows are synthetic; ``run_provenance.synthetic`` tells the two apart.

    Raises
    ------
    ArtefactError
        If the parts do not make a valid sidecar; one line per fault.
    """
    passed = bool(gate["gate_passed"])
    slots = {name: int(rows_per_slot.get(name, 0)) for name in NEWEST_VOCAB}
    training = _training(loso, corpus_name, n_rows, passed, synthetic or not passed)
    card = {
        "id": MODEL_ID,
        "kind": "fr",
        "onnx": f"{MODEL_ID}.onnx",
        "opset": facts["opset"],
        "sha256": facts["sha256"],
        "notes": _notes(gate, slots, synthetic),
        "input_names": list(facts["input_names"]),
        "output_names": list(facts["output_names"]),
        "feature_order": list(CANONICAL_6),
        "feature_mean": [float(v) for v in feature_mean],
        "feature_std": [float(v) for v in feature_std],
        "codec_aware": True,
        "encoder_vocab": list(NEWEST_VOCAB),
        "encoder_vocab_version": NEWEST_VOCAB_VERSION,
        "codec_block_layout": codec_block_layout(),
        **BlockNorm().sidecar_keys(),
        "training": training,
        "corpus": corpus_name,
        "corpus_sha256": corpus_sha256,
        "loso_mean_plcc": training["loso_mean_plcc"],
        "gate_passed": passed,
        "trained_slots": slots,
        "domain": {name: [float(v) for v in span] for name, span in domain.items()},
        "recipe": dict(recipe),
        "run_provenance": {**provenance, "synthetic": bool(synthetic)},
    }
    problems = card_problems(card, f"{MODEL_ID}.json")
    if problems:
        raise ArtefactError("\n".join(problems))
    return card


def _failed(card: Mapping[str, Any]) -> bool:
    return not card["gate_passed"]
