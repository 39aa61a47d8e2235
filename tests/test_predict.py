"""The consumer: what it loads, what it refuses, and the scores it gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from modelkit import DOMAIN, FEATURE_MEAN, FEATURE_STD, make_folder, make_model

from fr_lib.corpus import MOST, outside_domain, read_log, vmaf_from_features
from fr_lib.corpus.logs import SAME_TEACHER
from fr_lib.errors import ArtefactError, InputError
from fr_lib.files import ROOT, json_text, read_json
from fr_lib.release import Predictor, open_session, predict_logs
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


def write_log(path: Path, rows: np.ndarray, prefix: str = "integer_", **scores) -> Path:
    """Write a log of these features, and of scores by name: (N,) each, None for a frame without."""
    frames = [
        {
            "frameNum": i,
            "metrics": {prefix + n: v for n, v in zip(CANONICAL_6, row.tolist(), strict=True)}
            | {name: values[i] for name, values in scores.items() if values[i] is not None},
        }
        for i, row in enumerate(rows)
    ]
    path.write_text(json.dumps({"version": "3.0.0", "fps": 25.0, "frames": frames}))
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
        ({"features": np.full((3, 6), np.inf)}, "features row 0: adm2 is inf"),
        ({"features": np.full((3, 6), -1e39)}, r"adm2 is -1e\+39; allowed: a number up to 10000"),
    ],
)
def test_input_that_cannot_be_scored_is_refused(predictor, change, message):
    arguments = {"features": features(), "encoder": "libx264", "quality": 51, "preset": "slow"}
    with pytest.raises(InputError, match=message):
        predictor.score(**arguments | change)


@pytest.mark.parametrize("value", [MOST, -MOST])
def test_the_largest_number_that_is_taken_has_a_score(predictor, value):
    assert np.isfinite(predictor.score(np.full((2, 6), value), "libx264", 30)).all()
    with pytest.raises(InputError, match="allowed: a number up to 10000"):
        predictor.score(np.full((2, 6), value * 1.0001), "libx264", 30)


def test_a_score_that_is_not_finite_is_refused(predictor, folder):
    model = onnx.load(folder / "fr_regressor_v3.onnx")
    bias = next(t for t in model.graph.initializer if t.name == "aware.6.bias")
    bias.raw_data = np.float32("nan").tobytes()
    broken = Predictor(predictor.card, open_session(model.SerializeToString()))
    with pytest.raises(ArtefactError, match=r"fr_regressor_v3\.onnx, features row 0: score nan"):
        broken.score(features(2), "libx264", 30)


# --- reading logs -----------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["integer_", ""])
def test_a_log_is_read_in_canonical_order(tmp_path, prefix):
    rows = features(4)
    got = read_log(write_log(tmp_path / "log.json", rows, prefix))
    assert got.features.shape == (4, 6)
    assert np.array_equal(got.features, rows)
    assert got.scores == {}
    assert got.vmaf is None


def test_the_fixed_point_features_come_before_the_floating_point_ones(tmp_path):
    path = write_log(tmp_path / "log.json", features(2), adm2=[0.1, 0.2])
    assert np.array_equal(read_log(path).features, features(2))


def test_scores_are_read_by_name_and_a_frame_without_one_is_nan(tmp_path):
    scores = {"vmaf": [50.0, 60.0, 70.0], "vmaf_4k": [1.0, None, 3.0], "vmaf_text": ["a"] * 3}
    log = read_log(write_log(tmp_path / "log.json", features(3), psnr_y=[40.0] * 3, **scores))
    assert list(log.scores) == ["vmaf", "vmaf_4k"]
    assert log.vmaf.tolist() == [50.0, 60.0, 70.0]
    np.testing.assert_array_equal(log.scores["vmaf_4k"], [1.0, np.nan, 3.0])


def test_a_score_that_a_frame_lacks_is_not_the_logs_vmaf(tmp_path):
    log = read_log(write_log(tmp_path / "log.json", features(2), vmaf=[50.0, None]))
    assert list(log.scores) == ["vmaf"]
    assert log.vmaf is None


@pytest.mark.parametrize("word", ["nan", "-nan", "inf", "-inf", "NaN", "Infinity"])
def test_nan_and_inf_outside_the_features_do_not_matter(tmp_path, word):
    path = write_log(tmp_path / "log.json", features(2), psnr_y=[40.0] * 2, vmaf=[50.0] * 2)
    words = json.dumps('a nan, or "inf"')  # between quotes it is no number
    text = path.read_text().replace('"fps": 25.0', f'"fps": {word}, "of": {words}')
    path.write_text(text.replace('"psnr_y": 40.0', f'"psnr_y": {word}'))
    log = read_log(path)
    assert np.array_equal(log.features, features(2))
    assert list(log.scores) == ["vmaf"]


def test_a_byte_order_mark_does_not_matter(tmp_path):
    path = write_log(tmp_path / "log.json", features(2))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert np.array_equal(read_log(path).features, features(2))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("null", "None"),
        ('"1.0"', "1.0"),
        ("true", "True"),
        ("nan", "nan"),
        ("-inf", "-inf"),
        ("1e39", "1e+39"),
        ("1e400", "inf"),
        ("9" * 30, "9" * 30),
        ("9" * 400, "9" * 57 + "..."),
        ("-10000.01", "-10000.01"),
    ],
)
def test_what_no_feature_can_be_is_named_with_its_frame(tmp_path, value, found):
    path = write_log(tmp_path / "log.json", features(4))
    head, mark, tail = path.read_text().partition('"frameNum": 2')
    number = json.dumps(features(4)[2, 5])
    path.write_text(head + mark + tail.replace(number, value, 1))
    with pytest.raises(InputError) as refused:
        read_log(path)
    assert f"log.json frame 2: motion2 is {found}; allowed: " in str(refused.value)
    assert "number up to 10000" in str(refused.value)


def test_a_feature_that_a_frame_lacks_is_named_with_the_frame(tmp_path):
    path = write_log(tmp_path / "log.json", features(4))
    head, mark, tail = path.read_text().partition('"frameNum": 2')
    path.write_text(head + mark + tail.replace("motion2", "motion3", 1))
    with pytest.raises(InputError, match=r"log\.json frame 2: no motion2; .*all six features"):
        read_log(path)


@pytest.mark.parametrize(
    "text",
    [
        *("{}", "[]", '{"frames": []}', '{"frames": {}}', '{"frames": [3]}', "<xml/>", "nan"),
        *('{"frames": [{"metrics": []}]}', "[" * 100_000, ""),
    ],
)
def test_what_is_no_log_of_libvmaf_is_refused(tmp_path, text):
    (tmp_path / "log.json").write_text(text)
    with pytest.raises((InputError, ArtefactError), match=r"log\.json.*libvmaf"):
        read_log(tmp_path / "log.json")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "log.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ArtefactError, match=r"log\.json: UTF-16 text, no log"):
        read_log(tmp_path / "log.json")


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"gone\.json: missing"):
        read_log(tmp_path / "gone.json")


# --- predicting logs --------------------------------------------------------------------------


def predict(predictor: Predictor, path: Path, encoder: str = "libx264", **more) -> dict:
    (row,) = predict_logs(predictor, [path], encoder, 30, **more)
    # What no JSON can say would be an error here.
    return json.loads(json.dumps(row, allow_nan=False))


def test_logs_are_summed_up_one_row_each(predictor, tmp_path):
    paths = [write_log(tmp_path / f"{n}.json", features(n)) for n in (1, 30)]
    rows = predict_logs(predictor, paths, "libx264", 30)
    scores = predictor.score(features(30), "libx264", 30)
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert [row["frames"] for row in rows] == [1, 30]
    assert rows[1]["mean"] == pytest.approx(scores.mean(), abs=1e-4)
    assert rows[1]["min"] == scores.min()
    assert rows[0]["answered_by"] == "codec-aware network"


def test_an_untrained_encoder_is_said_to_be_answered_codec_blind(predictor, tmp_path):
    row = predict(predictor, write_log(tmp_path / "log.json", features(2)), "av1_amf")
    assert row["answered_by"].startswith("codec-blind network")


def test_the_exact_score_and_the_difference_stand_beside_the_prediction(predictor, tmp_path):
    row = predict(predictor, write_log(tmp_path / "log.json", features()))
    scores = predictor.score(features(), "libx264", 30).astype(np.float64)
    truth = vmaf_from_features(features())
    assert row["formula_mean"] == pytest.approx(truth.mean(), abs=1e-9)
    assert row["formula_min"] == pytest.approx(truth.min(), abs=1e-9)
    assert row["difference"] == pytest.approx(scores.mean() - truth.mean(), abs=1e-9)
    assert row["largest_difference"] == pytest.approx(np.abs(scores - truth).max(), abs=1e-9)
    # An untrained network: a difference of zero would show nothing.
    assert row["largest_difference"] > 1
    assert not any(key.startswith("log_") or key == "note" for key in row)


def test_every_frame_is_shown_where_asked_for(predictor, tmp_path):
    rows = features(5)
    rows[3, 5] = DOMAIN["motion2"][1] + 1
    path = write_log(tmp_path / "log.json", rows)
    assert "per_frame" not in predict(predictor, path)
    frames = predict(predictor, path, frames=True)["per_frame"]
    assert [f["frame"] for f in frames] == [0, 1, 2, 3, 4]
    assert [f["predicted"] for f in frames] == predictor.score(rows, "libx264", 30).tolist()
    assert [f["formula"] for f in frames] == pytest.approx(vmaf_from_features(rows), abs=1e-9)
    assert [f["difference"] for f in frames] == [f["predicted"] - f["formula"] for f in frames]
    assert [f["outside"] for f in frames] == [[], [], [], ["motion2"], []]


def test_the_domain_includes_both_its_ends():
    low, high = np.array([DOMAIN[name] for name in CANONICAL_6]).T
    assert not outside_domain(np.array([low, high]), DOMAIN).any()
    beyond = np.array([np.nextafter(low, -np.inf), np.nextafter(high, np.inf)])
    assert outside_domain(beyond, DOMAIN).all()


def test_frames_outside_the_domain_are_counted_by_feature_and_named(predictor, tmp_path):
    rows = features(10)
    rows[2, 0] = DOMAIN["adm2"][1] + 0.01
    rows[2, 5] = rows[7, 5] = DOMAIN["motion2"][0] - 0.01
    row = predict(predictor, write_log(tmp_path / "log.json", rows))
    assert row["frames_outside"] == 2
    assert row["features_outside"] == {"adm2": 1, "motion2": 2}
    assert "2 of 10 frames lie outside" in row["note"]
    assert "(adm2 1, motion2 2)" in row["note"]
    inside = predict(predictor, write_log(tmp_path / "in.json", features(10)))
    assert (inside["frames_outside"], inside["features_outside"]) == (0, {})


@pytest.mark.parametrize("decimals", [6, 5, 3])
def test_a_log_of_v0_6_1_is_recognised_whatever_its_decimals(predictor, tmp_path, decimals):
    rows, exact = features(200).round(decimals), vmaf_from_features(features(200))
    row = predict(predictor, write_log(tmp_path / "log.json", rows, vmaf=exact.tolist()))
    assert row["log_mean"] == pytest.approx(exact.mean())
    assert row["log_is_v0_6_1"] is True
    assert "note" not in row


@pytest.mark.parametrize(("off", "same"), [(0.99, True), (1.01, False)])
def test_another_teacher_is_recognised_by_its_scores(predictor, tmp_path, off, same):
    scores = vmaf_from_features(features()) - off * SAME_TEACHER
    row = predict(predictor, write_log(tmp_path / "log.json", features(), vmaf=scores.tolist()))
    assert row["log_difference"] == pytest.approx(off * SAME_TEACHER)
    assert row["log_is_v0_6_1"] is same
    assert ("note" in row) is not same
    if not same:
        assert f"vmaf (mean {scores.mean():.3f}) is not of vmaf_v0.6.1" in row["note"]
        assert f"{row['formula_mean']:.3f}" in row["note"]


def test_scores_of_other_names_are_told_apart(predictor, tmp_path):
    exact = vmaf_from_features(features())
    scores = {"vmaf_hd": exact.tolist(), "vmaf_phone": (exact + 5).tolist()}
    row = predict(predictor, write_log(tmp_path / "log.json", features(), **scores))
    assert "log_mean" not in row
    same = {name: score["is_v0_6_1"] for name, score in row["log_scores"].items()}
    assert same == {"vmaf_hd": True, "vmaf_phone": False}
    assert row["log_scores"]["vmaf_phone"]["difference"] == pytest.approx(5)
    assert "own vmaf_phone (mean" in row["note"]
    assert "vmaf_hd" not in row["note"]


def test_frames_without_a_score_of_their_own_are_left_out_of_its_mean(predictor, tmp_path):
    exact = vmaf_from_features(features(3)).tolist()
    row = predict(predictor, write_log(tmp_path / "l.json", features(3), vmaf=[*exact[:2], None]))
    assert row["log_mean"] == pytest.approx(np.mean(exact[:2]))
    assert row["log_is_v0_6_1"] is True


def test_no_result_is_returned_where_one_of_the_logs_is_refused(predictor, tmp_path):
    good = write_log(tmp_path / "good.json", features(2))
    with pytest.raises(ArtefactError, match=r"gone\.json: missing"):
        predict_logs(predictor, [good, tmp_path / "gone.json"], "libx264", 30)


def test_predicting_loads_neither_pandas_nor_torch_nor_sklearn(folder, tmp_path):
    path = write_log(tmp_path / "log.json", features(2))
    code = (
        "import sys\n"
        "from fr_lib.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(*{'pandas', 'torch', 'sklearn', 'scipy'} & {*sys.modules}, file=sys.stderr)\n"
    )
    settings = ["--encoder", "libx264", "--quality", "30", "--model-dir", str(folder)]
    command = [sys.executable, "-c", code, "predict", *settings, str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["frames"] == 2
    assert ended.stderr.split() == []
