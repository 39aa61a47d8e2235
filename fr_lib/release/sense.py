"""What a sidecar says, held against itself: a schema knows types, not whether two keys agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fr_lib.corpus import MOST
from fr_lib.errors import say
from fr_lib.evaluate import RETRAIN_PENDING
from fr_lib.release.strict import SIDECAR_SCHEMA, schema_errors, schema_lines
from fr_lib.schema import CANONICAL_6, VOCABULARIES, BlockNorm, codec_block_layout

FOLD_METRICS = ("plcc", "srocc", "rmse")
# A standard deviation below this counts as 1 in training (fr_lib.train.batch), so none is stored.
MIN_STD = 1e-8
# Sums in another order, and float32 where the domain is float64.
SAME, FLOAT32 = 1e-9, 1e-5

OWN = ("trained_slots", "domain", "recipe", "run_provenance")

Finding = tuple[str, Any, Any]  # what, found, allowed


def vocab_of(card: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the vocabulary of the version that a sidecar names; None where there is none such."""
    named = card.get("encoder_vocab_version")
    return VOCABULARIES.get(named) if isinstance(named, int) else None


def written_here(card: Mapping[str, Any]) -> bool:
    """Say whether a sidecar has any of the keys that this project alone writes."""
    return any(key in card for key in OWN)


def card_problems(card: Mapping[str, Any], where: str | Path) -> list[str]:
    """Return what is wrong with the sidecar of a codec-aware model, one line each.

    ``sidecar.schema.json`` says which keys of which type; the rest is what a schema cannot say:
    the vocabulary of the version that is named, a scaler that fits its domain, folds that give the
    figures above them, and, where the gate is said to have passed, figures that pass it. Every rule
    whose keys are there is asked, so that an older sidecar is judged by its content too.
    """
    if not written_here(card):
        found = f"of another project (no {', '.join(OWN)})"
        allowed = "a sidecar that says which slots were trained, and from what"
        return [say(str(where), found, allowed, "score it with that project's tools")]
    errors = schema_errors(SIDECAR_SCHEMA, card)
    sound = card.keys() - {at[0] for at, _ in errors if at}
    found = [
        say(str(where), f"{what}: {found}", str(allowed), _remedy(what))
        for needed, rule in _RULES
        if sound.issuperset(needed.split())
        for what, found, allowed in rule(card)
    ]
    return found + schema_lines(SIDECAR_SCHEMA, errors, where)


def reach_of(card: Mapping[str, Any], where: str | Path) -> np.ndarray | None:
    """Return the largest absolute value of each standardised feature that a consumer lets in.

    Returns
    -------
    (6,) float64 array or None
        None where the sidecar is not sound.
    """
    if card_problems(card, where):
        return None
    mean, std = (np.array(card[key], dtype=np.float64) for key in ("feature_mean", "feature_std"))
    return (MOST + np.abs(mean)) / std


def _remedy(what: str) -> str:
    if what == "encoder_vocab_version":
        return "use a version of fr_lib that has this vocabulary"
    return "write the sidecar again"


def _unlike(*pairs: tuple[str, Any, Any]) -> Iterator[Finding]:
    yield from (pair for pair in pairs if pair[1] != pair[2])


def _version(card: Mapping[str, Any]) -> Iterator[Finding]:
    if vocab_of(card) is None:
        known = ", ".join(map(str, VOCABULARIES))
        yield "encoder_vocab_version", card["encoder_vocab_version"], known


def _slots(card: Mapping[str, Any]) -> Iterator[Finding]:
    vocab, slots = vocab_of(card), card["trained_slots"]
    if vocab is None:
        return
    rows = sum(slots.values())
    yield from _unlike(
        ("encoder_vocab", card["encoder_vocab"], list(vocab)),
        ("codec_block_layout", card["codec_block_layout"], codec_block_layout(vocab)),
        ("trained_slots", sorted(slots), sorted(vocab)),
        ("rows of trained_slots, together", rows, card["training"]["n_rows"]),
    )


def _features(card: Mapping[str, Any]) -> Iterator[Finding]:
    n, (mean, std) = len(CANONICAL_6), (card["feature_mean"], card["feature_std"])
    yield from _unlike(
        ("feature_order", card["feature_order"], list(CANONICAL_6)),
        ("length of feature_mean", len(mean), n),
        ("length of feature_std", len(std), n),
    )
    far = [value for value in mean if not abs(value) <= MOST]
    odd = [value for value in std if not MIN_STD * (1 - FLOAT32) <= value <= MOST]
    if far:
        yield "feature_mean", _some(far), f"within {MOST:g} of 0"
    if odd:
        yield "feature_std", _some(odd), f"{MIN_STD:g}..{MOST:g}"


def _domain(card: Mapping[str, Any]) -> Iterator[Finding]:
    spans = card["domain"]
    bad = [name for name, (lo, hi) in spans.items() if not (abs(lo) <= MOST and lo <= hi <= MOST)]
    yield from _unlike(
        ("domain", sorted(spans), sorted(CANONICAL_6)),
        ("domain, not from least to greatest or not finite", bad, []),
    )


def _scaler(card: Mapping[str, Any]) -> Iterator[Finding]:
    """No mean lies outside its range, and no standard deviation is beyond what N rows there give.

    It is half of the range at most, and least with one row at either end and all others between.
    """
    n_rows = card["training"]["n_rows"]
    scaler = zip(CANONICAL_6, card["feature_mean"], card["feature_std"], strict=False)
    for name, mean, std in scaler:
        lo, hi = card["domain"].get(name, (math.nan, math.nan))
        slack = FLOAT32 * max(1.0, abs(lo), abs(hi))
        if not lo - slack <= mean <= hi + slack and lo <= hi:
            yield f"feature_mean of {name}", mean, f"{lo}..{hi}, its domain"
        constant = std == 1 and hi - lo < slack
        if std > (hi - lo) / 2 + slack and not constant:
            yield f"feature_std of {name}", std, f"at most {(hi - lo) / 2:g}, half of its domain"
        least = (hi - lo) / math.sqrt(2 * n_rows)
        if std < least - slack:
            yield f"feature_std of {name}", std, f"at least {least:g}, of {n_rows} rows there"


def _norms(card: Mapping[str, Any]) -> Iterator[Finding]:
    """Networks are trained with one normalisation; another would feed them another block."""
    for key, norm in BlockNorm().sidecar_keys().items():
        if card[key] != norm:
            yield key, card[key], f"{norm}, which the networks are trained with"
    low, high = card.get("codec_crf_min"), card.get("codec_crf_max")
    if isinstance(low, int | float) and isinstance(high, int | float) and not low < high:
        yield "codec_crf_min, codec_crf_max", f"{low}, {high}", "the first below the second"


def _words(card: Mapping[str, Any]) -> Iterator[Finding]:
    training, failed = card["training"], not card["gate_passed"]
    yield from _unlike(
        ("training.gate_passed", training["gate_passed"], card["gate_passed"]),
        ("training.loso_mean_plcc", training["loso_mean_plcc"], card["loso_mean_plcc"]),
        ("training.dataset", training["dataset"], card["corpus"]),
        (f"notes say {RETRAIN_PENDING!r}", RETRAIN_PENDING in card["notes"], failed),
    )


def _smoke(card: Mapping[str, Any]) -> Iterator[Finding]:
    smoke = card["run_provenance"]["synthetic"] or not card["gate_passed"]
    yield from _unlike(("training.smoke", card["training"]["smoke"], smoke))


def _folds(card: Mapping[str, Any]) -> Iterator[Finding]:
    """Each row is held out once, and the figures are those of the folds."""
    training = card["training"]
    folds, n_rows = training["loso_folds"], training["n_rows"]
    names = Counter(fold["held_out"] for fold in folds)
    off = [fold["held_out"] for fold in folds if fold["n_train"] + fold["n_val"] != n_rows]
    yield from _unlike(
        ("sources held out twice", sorted(name for name, n in names.items() if n > 1), []),
        (f"folds whose n_train and n_val are not the {n_rows} rows", off, []),
        ("rows held out, together", sum(fold["n_val"] for fold in folds), n_rows),
    )
    for metric in FOLD_METRICS if folds else ():
        values = [fold[metric] for fold in folds]
        for figure, right in _figures(values).items():
            stated = training.get(f"loso_{figure}_{metric}", right)
            known = None not in (stated, right)
            if stated != right and not (known and math.isclose(stated, right, abs_tol=SAME)):
                yield f"training.loso_{figure}_{metric}", stated, f"{right}, that of the folds"


def _figures(values: list[float | None]) -> dict[str, float | None]:
    """Return the figures of a metric over folds; one that is undefined leaves all undefined."""
    if None in values:
        return dict.fromkeys(("mean", "std", "min", "max"))
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return {"mean": mean, "std": std, "min": min(values), "max": max(values)}


def _passed(card: Mapping[str, Any]) -> Iterator[Finding]:
    """A gate that passed left figures that pass it."""
    if not card["gate_passed"]:
        return
    from fr_lib.evaluate import MEAN_PLCC, MIN_ROWS, MIN_SOURCES, WORST_PLCC

    said, training = "gate_passed is true, and ", card["training"]
    folds = training["loso_folds"]
    if len(folds) < MIN_SOURCES:
        yield f"{said}loso_folds has", len(folds), f"at least {MIN_SOURCES} folds"
    undefined = [f["held_out"] for f in folds if any(f[m] is None for m in FOLD_METRICS)]
    short = [f["held_out"] for f in folds if f["n_val"] < MIN_ROWS]
    low = [f["plcc"] for f in folds if f["plcc"] is not None and f["plcc"] < WORST_PLCC - SAME]
    yield from _unlike(
        (f"{said}ship_gate_mean_plcc is", training["ship_gate_mean_plcc"], MEAN_PLCC),
        (f"{said}folds are not finite", undefined, []),
        (f"{said}folds have fewer than {MIN_ROWS} rows", short, []),
    )
    if low:
        yield f"{said}a fold has PLCC", _some(low), f"at least {WORST_PLCC}"
    mean = training["loso_mean_plcc"]
    if mean is None or mean < MEAN_PLCC - SAME:
        yield f"{said}loso_mean_plcc is", mean, f"at least {MEAN_PLCC}"


def _some(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values[:3])


# Which keys a rule looks at: it is asked where all of them are of their type.
_RULES: tuple[tuple[str, Callable[[Mapping[str, Any]], Iterator[Finding]]], ...] = (
    ("encoder_vocab_version", _version),
    ("encoder_vocab codec_block_layout trained_slots training", _slots),
    ("feature_order feature_mean feature_std", _features),
    ("domain", _domain),
    ("domain feature_mean feature_std training", _scaler),
    ("codec_preset_norm codec_crf_norm", _norms),
    ("training gate_passed", _passed),
    ("training", _folds),
    ("training gate_passed loso_mean_plcc corpus notes", _words),
    ("training gate_passed run_provenance", _smoke),
)
