"""JSON read strictly; the sidecar, written and checked."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fr_lib.arms import SHIPPED_ARM
from fr_lib.errors import ArtefactError, say
from fr_lib.evaluate import RETRAIN_PENDING
from fr_lib.files import ROOT
from fr_lib.schema import (
    CANONICAL_6,
    MODEL_ID,
    NEWEST_VOCAB,
    NEWEST_VOCAB_VERSION,
    VOCABULARIES,
    BlockNorm,
    codec_block_layout,
)

SCHEMA = "registry.schema.json"
SIDECAR_SCHEMA = "sidecar.schema.json"
FORMULA_SCHEMA = "formula.schema.json"
LICENSE = "BSD-2-Clause-Patent"
MAX_NOTES = 512
FOLD_METRICS = ("plcc", "srocc", "rmse")
_DATA = ROOT / "fr_lib" / "data"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse(text: str, where: str | Path) -> dict[str, Any]:
    """Parse a JSON object; NaN and Infinity, which Python would take, are refused."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as broken:
        raise ArtefactError(
            say(str(where), f"not JSON ({broken})", "a JSON object", "restore it or write it again")
        ) from None
    if not isinstance(value, dict):
        raise ArtefactError(
            say(str(where), f"a JSON {type(value).__name__}", "a JSON object", "write it again")
        )
    return value


def _read_text(path: Path) -> str:
    """Read UTF-8 text and keep its line ends."""
    if not path.is_file():
        raise ArtefactError(
            say(str(path), "missing", "a file of a model folder", "release a model first")
        )
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as broken:
        raise ArtefactError(
            say(str(path), f"not UTF-8 ({broken.reason})", "UTF-8", "write it again")
        ) from None


def _read_object(path: Path) -> dict[str, Any]:
    return _parse(_read_text(path), path)


def _schema_problems(schema: str, value: Any, where: str | Path) -> list[str]:
    """Return one line for each place where `value` breaks the schema of that file name."""
    # Not the jsonschema package: its import builds a grammar of URLs for more than a second.
    import jsonschema_rs

    rules = json.loads((_DATA / schema).read_text(encoding="utf-8"))
    # A number that is not finite is none of JSON's: it counts as null.
    found = [
        (_place(error.instance_path), error.message)
        for error in jsonschema_rs.Draft202012Validator(rules).iter_errors(value)
    ]
    return [
        say(str(where), f"{place}: {message}".replace("\n", " "), schema, "correct it")
        for place, message in sorted(found)
    ]


def _place(path: Sequence[str | int]) -> str:
    return "$" + "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in path)


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
    norm: BlockNorm | None = None,
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
    norm : BlockNorm, optional
        How preset and quality were normalised in training.
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
        **(norm or BlockNorm()).sidecar_keys(),
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


def vocab_of(card: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the vocabulary of the version that a sidecar names; None where there is none such."""
    named = card.get("encoder_vocab_version")
    return VOCABULARIES.get(named) if isinstance(named, int) else None


def card_problems(card: Mapping[str, Any], where: str | Path) -> list[str]:
    """Return what is wrong with the sidecar of a codec-aware model, one line each.

    ``sidecar.schema.json`` says which keys of which type; the rest is what a schema cannot say
    without repeating the vocabularies, and what two keys say about each other. Slots and block
    are held to the vocabulary of the version that the sidecar names, not to the newest.
    """
    problems = _schema_problems(SIDECAR_SCHEMA, card, where)
    if problems:
        return problems
    vocab = vocab_of(card)
    if vocab is None:
        return [
            say(
                str(where),
                f"encoder_vocab_version: {card['encoder_vocab_version']}",
                ", ".join(map(str, VOCABULARIES)),
                "use a version of fr_lib that has this vocabulary",
            )
        ]
    smoke = card["run_provenance"]["synthetic"] or not card["gate_passed"]
    spans = card["domain"]
    bad_spans = [
        name for name, (lo, hi) in spans.items() if not (math.isfinite(hi - lo) and lo <= hi)
    ]
    rules = [
        ("feature_order", card["feature_order"], list(CANONICAL_6)),
        ("length of feature_mean", len(card["feature_mean"]), len(CANONICAL_6)),
        ("length of feature_std", len(card["feature_std"]), len(CANONICAL_6)),
        ("encoder_vocab", card["encoder_vocab"], list(vocab)),
        ("codec_block_layout", card["codec_block_layout"], codec_block_layout(vocab)),
        ("trained_slots", sorted(card["trained_slots"]), sorted(vocab)),
        ("domain", sorted(spans), sorted(CANONICAL_6)),
        ("domain, not from least to greatest or not finite", bad_spans, []),
        ("training.gate_passed", card["training"]["gate_passed"], card["gate_passed"]),
        ("training.loso_mean_plcc", card["training"]["loso_mean_plcc"], card["loso_mean_plcc"]),
        ("training.smoke", card["training"]["smoke"], smoke),
        ("training.dataset", card["training"]["dataset"], card["corpus"]),
        (f"notes say {RETRAIN_PENDING!r}", RETRAIN_PENDING in card["notes"], _failed(card)),
    ]
    return [
        say(str(where), f"{what}: {found}", str(allowed), "write the sidecar again")
        for what, found, allowed in rules
        if found != allowed
    ]


def _formula_problems(card: Mapping[str, Any], where: str | Path) -> list[str]:
    return _schema_problems(FORMULA_SCHEMA, card, where)


def _failed(card: Mapping[str, Any]) -> bool:
    return not card["gate_passed"]
