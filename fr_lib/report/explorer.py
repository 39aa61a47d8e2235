"""The data of the what-if explorer: a run's model, formula and a sample of its held-out frames.

The page works out every score itself, from what is written here, and asks nobody: it opens from a
folder. Numbers travel as base64 of little-endian arrays, in a script rather than in JSON, as a page
of ``file://`` may load the one and not the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.arms import BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import (
    FEATURE_NAMES,
    MOST,
    SAME_TEACHER,
    formula_applies,
    svr_parameters,
    teacher_of,
)
from fr_lib.errors import ArtefactError, say
from fr_lib.files import ROOT, read_json, sha256_of, write_bytes
from fr_lib.runs import RunDir, plain
from fr_lib.schema import (
    ADAPTERS,
    CANONICAL_6,
    DIV63,
    ENCODER_VOCAB_V2,
    MAX_PRESET_ORDINAL,
    MODEL_ID,
    VMAF_BIN,
    VMAF_RANGE,
    BlockNorm,
    vmaf_bins,
)

# What a page of one and a half megabytes has room for, beside the weights.
MAX_FRAMES, MAX_CELLS = 6_000, 3_000
# Fewer held-out frames in a range of VMAF say little of its tails; the bar is that of all then.
MIN_FRAMES = 50
RELEASED = "model/tiny"
_SIZES = ("width", "height", "enc_scale")
_CELL = ("src", "encoder", "preset", "quality")
_ARMS = {"aware": SHIPPED_ARM, "blind": BLIND_ARM}
_CHUNK = 500  # rows of the matrix of distances at once


def explorer_data(run: RunDir, frames: int = MAX_FRAMES) -> dict[str, Any]:
    """Return what the explorer of a run shows and works with.

    Parameters
    ----------
    run : RunDir
        With the files of 01 to 04.
    frames : int
        Held-out frames to keep, at most; all cells (clip, size, encoder, preset, quality) keep
        equally many, evenly spaced.

    Returns
    -------
    dict
        ``model`` and ``formula`` (None where the teacher is none) with their weights, ``encoders``
        with their scales, ``sample`` of the frames, ``residuals`` of all held-out frames and
        ``nearness`` of the sampled ones.

    Raises
    ------
    ArtefactError
        If a file is missing, belongs to another run, or the model is not that of its sidecar.
    """
    audit, loso = run.read("audit.json"), run.read("loso.json")
    card = read_json(run / "model" / f"{MODEL_ID}.json", made_by="04_export")
    teacher = teacher_of(audit["identity"]["teacher"])
    rows = _held_out(run)
    sample, kept = _sample(rows, frames)
    return {
        "run": run.run_id,
        "model": model_data(run / "model", card),
        "released": RELEASED,
        "folder": _folder_of(run, card),
        "synthetic": bool(card["run_provenance"]["synthetic"]),
        "gate_passed": bool(card["gate_passed"]),
        "ships": not run.read("export.json")["row"].get("smoke", False),
        "teacher": {"title": teacher.title, "top": teacher.range[1]},
        "formula": formula_data() if formula_applies(audit["teacher_check"]) else None,
        "no_formula": audit["teacher_check"]["reason"],
        "encoders": encoder_data(card),
        "refused": [n for n in ENCODER_VOCAB_V2 if n != "unknown" and n not in ADAPTERS],
        "logs": {"names": FEATURE_NAMES, "most": MOST, "same_teacher": SAME_TEACHER},
        "seed": loso["seeds"][0],
        "sample": sample,
        "residuals": {name: residuals(rows, arm) for name, arm in _ARMS.items()},
        "nearness": nearness(kept, audit["source_groups"], card),
    }


def write_explorer(data: Mapping[str, Any], folder: Path) -> Path:
    """Write the data as a script into a folder and return its path.

    No character of a name can end the script, nor the page that would hold it.
    """
    text = json.dumps(plain(data), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    path = folder / "data.js"
    write_bytes(path, f'"use strict";\nwindow.FR_EXPLORER = {text};\n'.encode())
    return path


def _folder_of(run: RunDir, card: Mapping[str, Any]) -> str:
    """Return the model folder to name in code: the released one where it holds this very model."""
    released = ROOT / RELEASED / f"{MODEL_ID}.json"
    if released.is_file() and read_json(released, made_by="release")["sha256"] == card["sha256"]:
        return RELEASED
    return f"runs/{run.run_id}/model"


# --- the networks and the formula -----------------------------------------------------------------


def _packed(values: Any, kind: str) -> str:
    """Return numbers as base64, little-endian: ``<f4``, ``<f8``, ``<i4`` or ``<u2``."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()


def model_data(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's two networks, mask, scaler and norms, float32 as the graph has them.

    Parameters
    ----------
    folder : Path
        A model folder.
    card : mapping
        Its sidecar.

    Raises
    ------
    ArtefactError
        If the file is another one than the sidecar describes.
    """
    import onnx
    from onnx import numpy_helper

    path = folder / card["onnx"]
    found = sha256_of(path)
    if found != card["sha256"]:
        raise ArtefactError(
            say(str(path), f"sha256 {found}", card["sha256"], "run 04_export again")
        )
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    norm = BlockNorm.from_sidecar(card)
    return {
        "id": card["id"],
        "sha256": card["sha256"],
        "features": list(CANONICAL_6),
        "mean": _packed(card["feature_mean"], "<f4"),
        "std": _packed(card["feature_std"], "<f4"),
        "domain": [card["domain"][name] for name in CANONICAL_6],
        "range": VMAF_RANGE,
        "mask": _packed(weights["trained"][:, 0], "<f4"),
        "networks": {name: _layers(weights, name) for name in _ARMS},
        "norm": {
            "preset_constant": norm.preset_value if norm.preset_norm == "constant" else None,
            "preset_span": MAX_PRESET_ORDINAL,
            "crf": [norm.crf_min, norm.crf_max] if norm.crf_norm == "minmax" else [0.0, DIV63],
        },
    }


def _layers(weights: Mapping[str, np.ndarray], network: str) -> list[dict[str, Any]]:
    """Return the layers of a network in their order; between them stands a GELU."""
    at = sorted(int(n.split(".")[1]) for n in weights if n.startswith(f"{network}.") and "wei" in n)
    layers = [(weights[f"{network}.{i}.weight"], weights[f"{network}.{i}.bias"]) for i in at]
    return [
        {
            "outputs": weight.shape[0],
            "inputs": weight.shape[1],
            "weight": _packed(weight, "<f4"),
            "bias": _packed(bias, "<f4"),
        }
        for weight, bias in layers
    ]


def formula_data() -> dict[str, Any]:
    """Return the parameters of VMAF v0.6.1, float64: in float32 its large weights lose 5e-3."""
    svr = svr_parameters()
    return {
        "slopes": svr.slopes,
        "intercepts": svr.intercepts,
        "score_slope": svr.score_slope,
        "score_intercept": svr.score_intercept,
        "clip": svr.clip,
        "gamma": svr.gamma,
        "rho": svr.rho,
        "weights": _packed(svr.weights, "<f8"),
        "vectors": _packed(svr.vectors, "<f8"),
    }


def encoder_data(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, per slot of a model in its order, its rows and the encoder's own scales."""
    return [
        {
            "name": name,
            "standard": known.standard,
            "hardware": known.hardware,
            "rows": card["trained_slots"][name],
            "option": known.quality_flags[0],
            "lo": known.lo,
            "hi": known.hi,
            "higher_is_better": known.higher_is_better,
            "presets": list(known.presets.items()),
            "default_preset": known.default_preset,
        }
        for name, known in ((name, ADAPTERS[name]) for name in card["encoder_vocab"])
    ]


# --- held-out frames ------------------------------------------------------------------------------


def _held_out(run: RunDir) -> pd.DataFrame:
    """Return the corpus with each arm's held-out prediction beside it, and a label of the size."""
    table, oof = run.corpus().table, run.read_table("oof.parquet")
    key = [*_CELL, "frame_index"]
    if not table[key].reset_index(drop=True).equals(oof[key].reset_index(drop=True)):
        raise ArtefactError(
            say(str(run / "oof.parquet"), "other rows than the corpus", "the same", "run 02 again")
        )
    predicted = {f"pred_{arm}": oof[f"pred_{arm}"].to_numpy() for arm in _ARMS.values()}
    return table.assign(**predicted, size=_sizes(table))


def _sizes(table: pd.DataFrame) -> pd.Series:
    """Return what each row says of its picture's size; empty where it says nothing."""
    label = pd.Series("", index=table.index)
    if {"width", "height"} <= {*table}:
        whole = table[["width", "height"]].astype("Int64").astype("string")
        label = (whole["width"] + " x " + whole["height"]).fillna("")
    if "enc_scale" in table:
        scale = table["enc_scale"].fillna(1.0)
        label = label.where(scale == 1, label + ", encoded at " + scale.map("{:g}".format))
    return label.astype(str)


def _sample(rows: pd.DataFrame, frames: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return evenly spaced frames of each cell, and them as rows of the table."""
    key = [*_CELL, "size"]
    clips = _spaced(sorted(rows["src"].unique()), _clips_kept(rows, key))
    shown = rows[rows["src"].isin(clips)].sort_values([*key, "frame_index"], kind="stable")
    cells = shown.groupby(key, sort=True)
    means = {name: (f"pred_{arm}", "mean") for name, arm in _ARMS.items()}
    facts = cells.agg(n=("vmaf", "size"), vmaf=("vmaf", "mean"), **means).reset_index()
    each = max(1, frames // len(facts))
    # Place i of n stays where it is the first of its share of the n places.
    place, n = cells.cumcount(), cells["vmaf"].transform("size")
    share = np.minimum(each, n)
    kept = shown[(place * share // n) != ((place - 1) * share // n)]
    columns = [*CANONICAL_6, "vmaf", *(f"pred_{arm}" for arm in _ARMS.values())]
    units = [_unit(kept[name]) for name in columns]
    return {
        "cells": {
            **{name: facts[name].tolist() for name in ("quality", "n")},
            **{name: facts[name].round(4).tolist() for name in ("vmaf", *_ARMS)},
            # Names stand once each; a cell has their places.
            **{name: _places(facts[name]) for name in key if name != "quality"},
        },
        "of_cell": _packed(cells.ngroup()[kept.index], "<u2"),
        "frame": _packed(kept["frame_index"].clip(upper=2**31 - 1), "<i4"),
        "units": units,
        "columns": [
            _packed(np.round(kept[name].to_numpy() * unit), "<i4")
            for name, unit in zip(columns, units, strict=True)
        ],
        "each": each,
        "n_kept": len(kept),
        "n_rows": len(rows),
        "n_clips": [len(clips), rows["src"].nunique()],
    }, kept


def _places(names: pd.Series) -> dict[str, list]:
    codes, found = pd.factorize(names, sort=True)
    return {"names": found.tolist(), "at": codes.tolist()}


def _clips_kept(rows: pd.DataFrame, key: list[str]) -> int:
    """Return how many clips can stay with all their cells, so that no ladder has a gap."""
    per_clip = rows.drop_duplicates(key).groupby("src").size()
    return max(1, int(min(len(per_clip), MAX_CELLS // per_clip.max())))


def _spaced(values: list[str], count: int) -> list[str]:
    return [values[i * len(values) // count] for i in range(count)]


def _unit(values: pd.Series) -> float:
    """Return what makes numbers whole and lets them fit: the six decimals that libvmaf writes."""
    top = float(values.abs().max())
    return 10.0 ** min(6, int(np.floor(np.log10(2**31 / top)))) if top else 1e6


def residuals(rows: pd.DataFrame, arm: str) -> dict[str, Any]:
    """Return how far held-out predictions lay from the teacher, in all and by predicted score.

    Parameters
    ----------
    rows : DataFrame
        With ``vmaf`` and ``pred_<arm>``.
    arm : str

    Returns
    -------
    dict
        ``all`` and ``bins``: each with low (start of its 10 points), n, and the 5th and the 95th
        percentile and the largest size of prediction minus teacher, VMAF points.
    """
    predicted = rows[f"pred_{arm}"].to_numpy()
    off = predicted - rows["vmaf"].to_numpy()
    lows = vmaf_bins(predicted)
    bins = [
        {"low": int(low), **_spread(off[lows == low])}
        for low in range(0, int(VMAF_RANGE[1]), VMAF_BIN)
        if (lows == low).sum() >= MIN_FRAMES
    ]
    return {"all": _spread(off), "bins": bins, "width": VMAF_BIN}


def _spread(off: np.ndarray) -> dict[str, Any]:
    p05, p95 = np.quantile(off, [0.05, 0.95])
    return {"n": len(off), "p05": p05, "p95": p95, "most": np.abs(off).max()}


def nearness(
    kept: pd.DataFrame, groups: Mapping[str, str], card: Mapping[str, Any]
) -> dict[str, float] | None:
    """Return how far held-out frames are from the nearest frame of another clip.

    It is what a clip that training never saw looks like: a what-if that is farther off than 99 % of
    these is on its own. Distances are Euclidean in the model's standard deviations.

    Returns
    -------
    dict or None
        Percentiles ``p50``, ``p95`` and ``p99``; None where all frames are of one title.
    """
    from scipy.spatial.distance import cdist

    x = kept[list(CANONICAL_6)].to_numpy() / np.asarray(card["feature_std"])
    title = kept["src"].map(lambda name: groups.get(name, name)).to_numpy()
    if len(set(title)) < 2:
        return None
    nearest = []
    for start in range(0, len(x), _CHUNK):
        some = slice(start, start + _CHUNK)
        apart = cdist(x[some], x)
        apart[title[some, None] == title[None, :]] = np.inf
        nearest.append(apart.min(axis=1))
    levels = (50, 95, 99)
    found = np.percentile(np.concatenate(nearest), levels)
    return {f"p{level}": float(value) for level, value in zip(levels, found, strict=True)}
