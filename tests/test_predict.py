"""The consumer: what it loads, what it refuses, and the scores it gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from modelkit import FEATURE_MEAN, FEATURE_STD, make_folder, make_model

from fr_lib.errors import ArtefactError, InputError
from fr_lib.files import json_text, read_json
from fr_lib.predict import Predictor, predict_logs, read_libvmaf_log
from fr_lib.schema import CANONICAL_6, codec_block


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def predictor(folder) -> Predictor:
    return Predictor.load(folder)


def features(n: int = 20) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.array(FEATURE_MEAN) + rng.normal(size=(n, 6)) * np.array(FEATURE_STD)


def write_log(path: Path, rows: np.ndarray, prefix: str = "integer_") -> Path:
    frames = [
        {
            "frameNum": i,
            "metrics": {"vmaf": 50.0}
            | {prefix + n: v for n, v in zip(CANONICAL_6, row.tolist(), strict=True)},
        }
        for i, row in enumerate(rows)
    ]
    path.write_text(json.dumps({"version": "3.0.0", "frames": frames}))
    return path


# --- loading ----------------------------------------------------------------------------------


def test_an_altered_model_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "tiny")
    path = copy / "fr_regressor_v3.onnx"
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(ArtefactError, match=r"fr_regressor_v3\.onnx: sha256"):
        Predictor.load(copy)


@pytest.mark.parametrize("name", ["fr_regressor_v3.onnx", "fr_regressor_v3.json", "registry.json"])
def test_a_missing_file_is_named(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "tiny")
    (copy / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name}: missing"):
        Predictor.load(copy)


def test_a_sidecar_of_another_model_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "tiny")
    card = read_json(copy / "fr_regressor_v3.json", made_by="the test")
    (copy / "fr_regressor_v3.json").write_text(json_text(card | {"sha256": "0" * 64}))
    with pytest.raises(ArtefactError, match=r"fr_regressor_v3\.json: sha256 0000"):
        Predictor.load(copy)


@pytest.mark.parametrize("kind", [{"passed": False}, {"synthetic": True}])
def test_a_model_that_is_not_for_scoring_is_refused(tmp_path, kind):
    with pytest.raises(ArtefactError, match=r"marked smoke.*make book"):
        Predictor.load(make_folder(tmp_path, **kind))


def test_an_unknown_id_is_refused(folder):
    with pytest.raises(ArtefactError, match="no row fr_regressor_v9; allowed: fr_regressor_v3"):
        Predictor.load(folder, "fr_regressor_v9")


# --- scores -----------------------------------------------------------------------------------


def test_scores_are_those_of_the_torch_module(predictor):
    x = features()
    got = predictor.score(x, "libsvtav1", 40, "4")
    standard = (x - np.array(FEATURE_MEAN)) / np.array(FEATURE_STD)
    block = codec_block(["libsvtav1"] * 20, np.full(20, 9 * 9 / 13), np.full(20, 40.0))
    with torch.no_grad():
        expected = make_model()(torch.from_numpy(standard).float(), torch.from_numpy(block))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-4)


def test_the_default_preset_is_the_encoders_own(predictor):
    x = features()
    assert np.array_equal(
        predictor.score(x, "libx264", 30), predictor.score(x, "libx264", 30, "medium")
    )
    assert not np.array_equal(
        predictor.score(x, "libx264", 30), predictor.score(x, "libx264", 30, "ultrafast")
    )


def test_an_untrained_encoder_gets_one_answer_whatever_its_settings(predictor):
    x = features()
    assert predictor.is_trained("libx264")
    assert not predictor.is_trained("h264_nvenc")
    first = predictor.score(x, "h264_nvenc", 19, "p1")
    assert np.array_equal(first, predictor.score(x, "h264_nvenc", 51, "p7"))
    assert np.array_equal(first, predictor.score(x, "hevc_videotoolbox", 100))
    assert not np.array_equal(first, predictor.score(x, "libx264", 30))


def test_no_frames_give_no_scores(predictor):
    assert predictor.score(np.empty((0, 6)), "libx264", 30).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "x264"}, "did you mean 'libx264'"),
        ({"quality": 52}, r"quality 52; allowed: 0\.\.51"),
        ({"quality": -1}, "quality -1"),
        ({"quality": float("nan")}, "quality nan"),
        ({"preset": "p4"}, "libx264 preset: 'p4'"),
        ({"features": np.zeros((3, 5))}, r"shape \(3, 5\)"),
        ({"features": np.zeros(6)}, r"shape \(6,\)"),
        ({"features": np.full((3, 6), np.nan)}, "features row 0: adm2 is nan"),
    ],
)
def test_input_that_cannot_be_scored_is_refused(predictor, change, message):
    arguments = {"features": features(), "encoder": "libx264", "quality": 51, "preset": "slow"}
    with pytest.raises(InputError, match=message):
        predictor.score(**arguments | change)


# --- logs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["integer_", ""])
def test_a_log_is_read_in_canonical_order(tmp_path, prefix):
    rows = features(4)
    got = read_libvmaf_log(write_log(tmp_path / "log.json", rows, prefix))
    assert got.shape == (4, 6)
    assert np.array_equal(got, rows)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda frames: frames[2]["metrics"].pop("integer_motion2"),
        lambda frames: frames[2]["metrics"].update(integer_motion2=None),
        lambda frames: frames[2]["metrics"].update(integer_motion2=float("nan")),
    ],
)
def test_a_feature_that_a_frame_lacks_is_named_with_the_frame(tmp_path, break_it):
    path = write_log(tmp_path / "log.json", features(4))
    log = json.loads(path.read_text())
    break_it(log["frames"])
    path.write_text(json.dumps(log))
    with pytest.raises(InputError, match=r"log\.json frame 2: no finite motion2"):
        read_libvmaf_log(path)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"frames": []}', '{"frames": {}}', '{"frames": [3]}', "<xml/>"]
)
def test_what_is_no_log_of_libvmaf_is_refused(tmp_path, text):
    (tmp_path / "log.json").write_text(text)
    with pytest.raises((InputError, ArtefactError), match=r"log\.json.*libvmaf"):
        read_libvmaf_log(tmp_path / "log.json")


def test_logs_are_summed_up_one_row_each(predictor, tmp_path):
    paths = [write_log(tmp_path / f"{n}.json", features(n)) for n in (1, 30)]
    rows = predict_logs(predictor, paths, "libx264", 30)
    scores = predictor.score(features(30), "libx264", 30)
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert [row["frames"] for row in rows] == [1, 30]
    assert rows[1]["mean"] == pytest.approx(scores.mean(), abs=1e-4)
    assert rows[1]["min"] == scores.min()
    assert rows[0]["answered_by"] == "codec-aware network"
    json.dumps(rows)


def test_an_untrained_encoder_is_said_to_be_answered_codec_blind(predictor, tmp_path):
    path = write_log(tmp_path / "log.json", features(2))
    (row,) = predict_logs(predictor, [path], "av1_amf", 30)
    assert row["answered_by"].startswith("codec-blind network")
