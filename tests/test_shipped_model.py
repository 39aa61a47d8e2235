"""The model that ships, loaded with onnxruntime alone, as a host in another language would.

Standardisation and codec block are built here from the sidecar: what is tested is the pair of files
and nothing of this package, whose only part below is the teacher's formula that scores are held to.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from fr_lib.corpus import vmaf_from_features
from fr_lib.files import ROOT

MODEL = ROOT / "model" / "tiny" / "fr_regressor_v3.onnx"
CORPUS = ROOT / "data" / "corpus.jsonl.gz"
MAX_BYTES = 200_000
N_RANDOM = 10_000
# The features of a clip compared with itself, without motion.
IDENTICAL = np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])

# Every encode of an encoder had one preset: medium, 6, medium, faster, 8.
# As an ordinal 0 (fastest) .. 9 over 9; for libaom-av1 and libsvtav1 a lower preset is slower.
PRESET_NORM = {
    "libx264": 5 / 9,
    "libaom-av1": (8 - 6) / 8,
    "libx265": 5 / 9,
    "libvvenc": 1 / 9,
    "libsvtav1": (13 - 8) / 13,
}
FEATURES = ["adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3", "motion2"]

CARD = json.loads(MODEL.with_suffix(".json").read_text())
VOCAB = CARD["encoder_vocab"]
LAYOUT = CARD["codec_block_layout"]
TRAINED = [name for name in VOCAB if CARD["trained_slots"][name]]
UNTRAINED = [name for name in VOCAB if not CARD["trained_slots"][name]]


@cache
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def score(features: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Score standardised features and a codec block."""
    inputs = {"features": features.astype(np.float32), "codec_block": block.astype(np.float32)}
    return session().run(["vmaf"], inputs)[0]


def standardised(raw: np.ndarray) -> np.ndarray:
    return (raw - np.array(CARD["feature_mean"])) / np.array(CARD["feature_std"])


def block_of(slot: str, preset_norm, crf_norm, rows: int) -> np.ndarray:
    block = np.zeros((rows, len(LAYOUT)))
    block[:, LAYOUT.index(f"encoder_onehot[{slot}]")] = 1.0
    block[:, LAYOUT.index("preset_norm")] = preset_norm
    block[:, LAYOUT.index("crf_norm")] = crf_norm
    return block


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_json(CORPUS, lines=True)


# --- the file and its papers ----------------------------------------------------------------------


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_file_is_the_one_that_its_sidecar_describes():
    assert CARD["onnx"] == MODEL.name
    assert CARD["sha256"] == sha256(MODEL)
    assert MODEL.stat().st_size < MAX_BYTES
    assert [p.name for p in MODEL.parent.glob(f"{MODEL.name}*")] == [MODEL.name]


def test_it_passed_its_gate_on_the_corpus_that_ships():
    assert CARD["gate_passed"] is True
    assert CARD["training"]["gate_passed"] is True
    assert CARD["training"]["smoke"] is False
    assert CARD["corpus_sha256"] == sha256(CORPUS)


def test_its_slots_are_those_with_rows(rows):
    assert (len(TRAINED), len(UNTRAINED)) == (5, 11)
    counts = rows["encoder"].value_counts().to_dict()
    assert counts == {name: CARD["trained_slots"][name] for name in TRAINED}


def test_its_inputs_and_output_have_their_names_and_shapes():
    shapes = {node.name: node.shape[1:] for node in session().get_inputs()}
    assert shapes == {"features": [6], "codec_block": [len(LAYOUT)]}
    assert [(node.name, len(node.shape)) for node in session().get_outputs()] == [("vmaf", 1)]


def test_the_formula_lies_beside_it_and_is_the_teacher(rows):
    formula = MODEL.with_name("vmaf_v0_6_1_formula.onnx")
    card = json.loads(formula.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(formula)
    assert card["feature_order"] == FEATURES
    run = onnxruntime.InferenceSession(formula, providers=["CPUExecutionProvider"]).run
    found = run(["vmaf"], {"features": rows[FEATURES].to_numpy(dtype=np.float32)})[0]
    assert np.abs(found - vmaf_from_features(rows[FEATURES])).max() <= 1e-3
    assert np.abs(found - rows["vmaf"]).max() <= 1e-3


# --- slots without training rows ------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1.0, 10.0])
@pytest.mark.parametrize("outside", [False, True])
def test_an_untrained_slot_answers_as_the_zero_block(reach, outside):
    """Whatever preset and crf say; `reach` 10 is far outside what training saw."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, reach, (N_RANDOM, 6))
    low, high = (-100.0, 100.0) if outside else (0.0, 1.0)
    zero = score(features, np.zeros((N_RANDOM, len(LAYOUT))))
    assert np.isfinite(zero).all()
    # Were all clipped, equality would say nothing.
    assert ((zero > 0) & (zero < 100)).mean() > 0.2
    for slot in UNTRAINED:
        preset, crf = rng.uniform(low, high, (2, N_RANDOM))
        found = score(features, block_of(slot, preset, crf, N_RANDOM))
        assert np.abs(found - zero).max() <= 1e-5, slot


@pytest.mark.parametrize("slot", TRAINED)
def test_a_trained_slot_answers_for_itself(slot):
    features = np.random.default_rng(0).normal(size=(1000, 6))
    zero = score(features, np.zeros((1000, len(LAYOUT))))
    assert np.abs(score(features, block_of(slot, 0.5, 0.5, 1000)) - zero).max() > 0.1


# --- an identical pair ----------------------------------------------------------------------------


@pytest.mark.parametrize("slot", VOCAB)
def test_an_identical_pair_scores_as_the_teacher_says(slot, rows):
    [teacher] = vmaf_from_features(IDENTICAL)
    assert teacher == pytest.approx(97.43, abs=0.01)
    lo, hi = 0, 63
    if slot in TRAINED:
        own = rows.loc[rows["encoder"] == slot, "cq"]
        lo, hi = own.min(), own.max()
    crf_norm = np.linspace(lo, hi, 22) / 63
    features = np.repeat(standardised(IDENTICAL), 22, axis=0)
    found = score(features, block_of(slot, PRESET_NORM.get(slot, 0.5), crf_norm, 22))
    assert np.abs(found - teacher).max() <= 1.0


# --- real encodes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def features(rows) -> np.ndarray:
    assert CARD["feature_order"] == FEATURES
    return standardised(rows[FEATURES].to_numpy())


def blocks(rows: pd.DataFrame, encoders, preset_norm=None) -> np.ndarray:
    """Build the codec blocks of rows, as if made by these encoders."""
    block = np.zeros((len(rows), len(LAYOUT)))
    block[np.arange(len(rows)), [VOCAB.index(name) for name in encoders]] = 1.0
    block[:, -2] = rows["encoder"].map(PRESET_NORM) if preset_norm is None else preset_norm
    block[:, -1] = rows["cq"] / 63
    return block


def test_the_sidecar_says_how_a_block_is_built():
    assert [
        *(f"encoder_onehot[{name}]" for name in VOCAB),
        "preset_norm",
        "crf_norm",
    ] == LAYOUT
    assert (CARD["codec_preset_norm"], CARD["codec_crf_norm"]) == ("ordinal", "div63")


def test_scores_of_its_own_corpus_are_close(rows, features):
    for encoders in (rows["encoder"], [UNTRAINED[0]] * len(rows)):
        residual = score(features, blocks(rows, encoders)) - rows["vmaf"]
        assert np.sqrt(np.mean(residual**2)) < 0.3
        assert abs(residual.mean()) < 0.1


def largest_rise(rows: pd.DataFrame, scores: np.ndarray) -> float:
    """Return by how much a mean score rises anywhere while the quality value, worse upwards, does.

    Per source, its size and encoder, over all frames of an encode at the reference's size.
    """
    whole = rows.assign(score=scores).query("enc_scale == 1")
    steps = whole.groupby(["src", "src_scale", "encoder", "cq"])["score"].mean()
    # Two AV1 encoders have their sixth step at half the size.
    assert len(steps) == 24 * 2 * (3 * 6 + 2 * 5)
    return steps.groupby(level=["src", "src_scale", "encoder"]).diff().max()


def test_true_vmaf_falls_along_every_ladder(rows):
    assert largest_rise(rows, rows["vmaf"].to_numpy()) < 0


def test_scores_fall_along_every_ladder_of_a_trained_slot(rows, features):
    assert largest_rise(rows, score(features, blocks(rows, rows["encoder"]))) <= 0.5


@pytest.mark.parametrize("slot", UNTRAINED)
def test_scores_fall_along_every_ladder_of_an_untrained_slot(rows, features, slot):
    assert largest_rise(rows, score(features, blocks(rows, [slot] * len(rows)))) <= 0.5


@pytest.mark.parametrize("preset_norm", [0.0, 0.5, 1.0])
def test_a_preset_that_never_varied_moves_no_prediction(rows, features, preset_norm):
    """Each encoder had one preset in training, so nothing is known of what another one does."""
    own = score(features, blocks(rows, rows["encoder"]))
    other = score(features, blocks(rows, rows["encoder"], preset_norm))
    assert np.abs(other - own).max() <= 1e-3
