"""Small models and model folders for the tests of export, registry and predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fr_lib.files import write_json
from fr_lib.release.card import sidecar
from fr_lib.release.onnx import export_onnx
from fr_lib.release.registry import registry_row, upsert_row
from fr_lib.schema import (
    CANONICAL_6,
    MODEL_ID,
    N_CODEC_BLOCK,
    NEWEST_VOCAB,
    codec_block,
    trained_mask,
)
from fr_lib.train import FRRegressor, ShippedRegressor

SLOTS = {"libx264": 700, "libsvtav1": 300}
FEATURE_MEAN = [0.9, 0.5, 0.8, 0.9, 0.9, 6.0]
FEATURE_STD = [0.05, 0.2, 0.1, 0.05, 0.05, 4.0]
# Wide enough for rows drawn with that mean and spread.
DOMAIN = {name: [-0.5, 1.5] for name in CANONICAL_6[:5]} | {"motion2": [-30.0, 30.0]}


def make_model(seed: int = 0) -> ShippedRegressor:
    """Return untrained networks, scaled so that most scores lie inside 0..100."""
    torch.manual_seed(seed)
    model = ShippedRegressor(
        FRRegressor(6, dropout=0.1),
        FRRegressor(6 + N_CODEC_BLOCK, dropout=0.1),
        torch.from_numpy(trained_mask(SLOTS)),
    )
    with torch.no_grad():
        for net in (model.blind, model.aware):
            net.layers[-1].weight.mul_(200.0)
            net.layers[-1].bias.fill_(60.0)
    return model.eval()


def random_rows(n: int, encoders: tuple[str, ...] = NEWEST_VOCAB) -> tuple:
    """Return standardised features (n, 6) and a codec block, all slots in turn."""
    rng = np.random.default_rng(1)
    names = [encoders[i % len(encoders)] for i in range(n)]
    block = codec_block(names, rng.uniform(0, 9, n), rng.uniform(0, 63, n))
    return rng.normal(size=(n, 6)).astype(np.float32), block


def loso_and_gate(passed: bool) -> tuple[dict, dict]:
    """Return the parts of loso.json and gate.json that a sidecar takes.

    Where the gate failed, a fold is undefined.
    """
    figures = [("a", 400, 0.99, 0.98, 0.5), ("b", 350, 0.97, 0.96, 0.75), ("c", 250, 0.98, 0.9, 1)]
    folds = [
        {"held_out": name, "n_train": 1000 - n, "n_val": n, "bias": 0.0}
        | {"plcc": plcc, "srocc": srocc, "rmse": float(rmse)}
        for name, n, plcc, srocc, rmse in figures
    ]
    if not passed:
        folds[1] |= {"plcc": None, "srocc": float("nan")}
    plcc, srocc, rmse = (
        np.array([fold[name] for fold in folds], dtype=float) for name in ("plcc", "srocc", "rmse")
    )
    summary = {
        f"{figure}_plcc": getattr(plcc, figure)() for figure in ("mean", "std", "min", "max")
    }
    summary |= {"mean_srocc": srocc.mean(), "mean_rmse": rmse.mean()}
    clauses = [
        {"name": "mean LOSO PLCC", "status": "pass" if passed else "fail", "blocks": True},
        {"name": "multi-codec lift", "status": "fail", "blocks": False},
    ]
    return (
        {"arms": {"v3": {"folds": folds, "summary": summary}}},
        {"gate_passed": passed, "clauses": clauses},
    )


def make_card(facts: dict, /, *, passed: bool = True, synthetic: bool = False, **changes) -> dict:
    loso, gate = loso_and_gate(passed)
    parts = {
        "facts": facts,
        "feature_mean": FEATURE_MEAN,
        "feature_std": FEATURE_STD,
        "loso": loso,
        "gate": gate,
        "corpus_name": "rows.jsonl",
        "corpus_sha256": "c" * 64,
        "n_rows": 1000,
        "rows_per_slot": SLOTS,
        "domain": DOMAIN,
        "recipe": {"epochs": 1, "seed": 0},
        "provenance": {"python": "3.11"},
        "synthetic": synthetic,
    }
    return sidecar(**parts | changes)


def make_folder(
    folder: Path, *, passed: bool = True, synthetic: bool = False, seed: int = 0
) -> Path:
    """Write what a run leaves in its ``model`` folder."""
    facts = export_onnx(make_model(seed), folder / f"{MODEL_ID}.onnx")
    card = make_card(facts, passed=passed, synthetic=synthetic)
    write_json(folder / f"{MODEL_ID}.json", card)
    upsert_row(folder / "registry.json", registry_row(card))
    return folder
