"""The exact score beside a prediction, on logs of libvmaf and on logs that are made to fit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from modelkit import DOMAIN, FEATURE_MEAN, FEATURE_STD, make_folder

from fr_lib.__main__ import main
from fr_lib.corpus import read_log, vmaf_from_features
from fr_lib.corpus.logs import SAME_TEACHER
from fr_lib.encode import default_ffmpeg
from fr_lib.release import Predictor, open_session, predict_logs
from fr_lib.release.formula import FORMULA_ATOL, export_formula
from fr_lib.schema import CANONICAL_6
from fr_lib.train import HIGHEST, draw_domain

FFMPEG = default_ffmpeg()
FRAMES = 8
# libvmaf's option for each score; "" is its default, which is VMAF v0.6.1.
MODELS = {
    "default": "",
    "phone": r"model=version=vmaf_v0.6.1\\:enable_transform=true:",
    "4k": "model=version=vmaf_4k_v0.6.1:",
    "neg": "model=version=vmaf_v0.6.1neg:",
    "two": r"model=version=vmaf_v0.6.1\\:name=vmaf|version=vmaf_4k_v0.6.1\\:name=vmaf_4k:",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def predictor(folder) -> Predictor:
    return Predictor.load(folder)


def ffmpeg(folder: Path, *arguments: str) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *arguments], cwd=folder, check=True)


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[str, Path]:
    """Return logs of one bad encode, scored by each model that libvmaf has built in."""
    folder = tmp_path_factory.mktemp("logs")
    card = "testsrc2=size=192x144:rate=25"
    ffmpeg(folder, *("-f", "lavfi", "-i", card, "-frames:v", str(FRAMES)), "reference.y4m")
    ffmpeg(folder, *("-i", "reference.y4m", "-c:v", "libx264", "-crf", "40"), "encode.mkv")
    for name, model in MODELS.items():
        graph = f"[0:v][1:v]libvmaf={model}log_fmt=json:log_path={name}.json"
        inputs = ("-i", "encode.mkv", "-i", "reference.y4m")
        ffmpeg(folder, *inputs, "-lavfi", graph, "-f", "null", "-")
    for form in ("xml", "csv"):
        graph = f"[0:v][1:v]libvmaf=n_subsample=5:log_fmt={form}:log_path=part.{form}"
        ffmpeg(folder, *inputs, "-lavfi", graph, "-f", "null", "-")
    return {name: folder / f"{name}.json" for name in MODELS} | {
        form: folder / f"part.{form}" for form in ("xml", "csv")
    }


def features(n: int = 20) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.array(FEATURE_MEAN) + rng.normal(size=(n, 6)) * np.array(FEATURE_STD)


def write_log(path: Path, rows: np.ndarray, vmaf=None) -> Path:
    frames = [
        {"metrics": {f"integer_{n}": v for n, v in zip(CANONICAL_6, row, strict=True)}}
        for row in rows.tolist()
    ]
    for frame, score in zip(frames, [] if vmaf is None else vmaf.tolist(), strict=vmaf is not None):
        frame["metrics"]["vmaf"] = score
    path.write_text(json.dumps({"frames": frames}))
    return path


def predict(predictor: Predictor, path: Path, encoder="libx264", quality=30, **more) -> dict:
    (row,) = predict_logs(predictor, [path], encoder, quality, **more)
    return row


def called(folder: Path, *arguments) -> int:
    settings = ["--encoder", "libx264", "--quality", "30", "--model-dir", str(folder)]
    return main(["predict", *settings, *map(str, arguments)])


# --- logs that libvmaf wrote ------------------------------------------------------------------


def test_the_formula_of_a_real_log_is_the_score_that_it_carries(predictor, logs):
    row = predict(predictor, logs["default"], frames=True)
    own = read_log(logs["default"]).vmaf
    assert np.ptp(own) > 1
    assert [f["formula"] for f in row["per_frame"]] == pytest.approx(own.tolist(), abs=2e-4)
    assert row["formula_mean"] == pytest.approx(own.mean(), abs=2e-4)
    assert row["formula_min"] == pytest.approx(own.min(), abs=2e-4)
    assert row["log_mean"] == pytest.approx(own.mean())
    assert row["log_difference"] < 2e-4
    assert row["log_is_v0_6_1"] is True


def test_other_formats_get_the_same_answer_and_their_own_frame_numbers(predictor, logs):
    whole, one, other = (
        predict(predictor, logs[n], frames=True) for n in ("default", "xml", "csv")
    )
    assert (whole["form"], one["form"], other["form"]) == tuple(
        f"libvmaf {form}" for form in ("JSON", "XML", "CSV")
    )
    assert one["per_frame"] == other["per_frame"]
    every_fifth = [f for f in whole["per_frame"] if f["frame"] % 5 == 0]
    assert [f["frame"] for f in one["per_frame"]] == [f["frame"] for f in every_fifth]
    for key in ("predicted", "formula"):
        assert [f[key] for f in one["per_frame"]] == pytest.approx([f[key] for f in every_fifth])
    assert one["log_teacher"] == "agrees with VMAF v0.6.1's formula"


@pytest.mark.parametrize("name", ["phone", "4k"])
def test_a_real_log_of_another_model_is_told_apart(predictor, logs, name):
    row, same = (predict(predictor, logs[n]) for n in (name, "default"))
    assert row["log_is_v0_6_1"] is False
    assert row["log_difference"] > 100 * SAME_TEACHER
    assert f"vmaf (mean {row['log_mean']:.3f}) is not of vmaf_v0.6.1" in row["note"]
    # The features are the same, and so is what is said of them.
    for key in ("mean", "formula_mean", "difference", "largest_difference"):
        assert row[key] == same[key]


def test_a_real_log_of_two_scores_has_each_judged(predictor, logs):
    row = predict(predictor, logs["two"])
    assert row["log_is_v0_6_1"] is True
    assert row["log_scores"]["vmaf_4k"]["is_v0_6_1"] is False
    assert "own vmaf_4k (mean" in row["note"]


def test_a_real_log_without_the_six_features_is_refused_by_frame(folder, logs, capsys):
    """The model without enhancement gain logs its features under other names."""
    assert called(folder, logs["neg"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "neg.json frame 0: no adm2; allowed: integer_adm2 or adm2" in said.err
    assert "vmaf_v0.6.1 model, which logs all six features" in said.err


# --- the formula and the difference -----------------------------------------------------------


def test_the_formula_knows_neither_encoder_nor_quality_nor_preset(predictor, tmp_path):
    path = write_log(tmp_path / "l.json", features())
    asked = [("libx264", 18), ("libx264", 45), ("libsvtav1", 45), ("av1_amf", 45)]
    rows = [predict(predictor, path, encoder, quality) for encoder, quality in asked]
    rows.append(predict(predictor, path, preset="ultrafast"))
    assert len({row["formula_mean"] for row in rows}) == 1
    assert len({row["formula_min"] for row in rows}) == 1
    # What is predicted does know them, or that would say nothing.
    assert len({row["mean"] for row in rows}) == len(rows)


def test_the_difference_is_prediction_minus_formula_and_the_largest_has_no_sign(
    predictor, tmp_path
):
    rows = features(40)
    path = write_log(tmp_path / "l.json", rows)
    frames = predict(predictor, path, frames=True)["per_frame"]
    above = np.array([f["difference"] > 0 for f in frames])
    assert 0 < above.sum() < 40
    for side in (above, ~above):
        row = predict(predictor, write_log(path, rows[side]), frames=True)
        own = np.array([f["difference"] for f in row["per_frame"]])
        assert row["difference"] == pytest.approx(own.mean())
        assert row["largest_difference"] == np.abs(own).max()
        assert (row["difference"] > 0) is bool(side is above)


def test_errors_of_a_logs_score_do_not_cancel_out(predictor, tmp_path):
    """A score a point above and a point below by turns has v0.6.1's mean, and is another."""
    exact = vmaf_from_features(features())
    scores = exact + np.resize([1.0, -1.0], len(exact))
    row = predict(predictor, write_log(tmp_path / "l.json", features(), scores))
    assert row["log_mean"] == pytest.approx(row["formula_mean"], abs=1e-9)
    assert row["log_difference"] == pytest.approx(1)
    assert row["log_is_v0_6_1"] is False


# --- frames outside the domain ----------------------------------------------------------------


def test_a_frame_beyond_in_all_features_counts_once_and_names_all(predictor, tmp_path):
    rows = features(4)
    rows[1] = [high + 1 for _, high in DOMAIN.values()]
    row = predict(predictor, write_log(tmp_path / "l.json", rows), frames=True)
    assert row["frames_outside"] == 1
    assert row["features_outside"] == dict.fromkeys(CANONICAL_6, 1)
    assert [f["outside"] for f in row["per_frame"]] == [[], list(CANONICAL_6), [], []]
    assert "1 of 4 frames lie outside" in row["note"]
    assert row["note"].endswith("read the formula there")


def test_another_teacher_and_frames_outside_share_the_note(predictor, tmp_path):
    rows = features(3)
    rows[0, 5] = DOMAIN["motion2"][1] + 1
    scores = vmaf_from_features(rows) - 5
    note = predict(predictor, write_log(tmp_path / "l.json", rows, scores))["note"]
    foreign, beyond = note.split("; ")
    assert "is not of vmaf_v0.6.1" in foreign
    assert beyond.startswith("1 of 3 frames lie outside")


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def beyond(tmp_path) -> Path:
    """Return a log of three frames, the last of them with more motion than was trained on."""
    rows = features(3)
    rows[2, 5] = DOMAIN["motion2"][1] + 1
    return write_log(tmp_path / "beyond.json", rows, vmaf_from_features(rows))


def test_the_command_counts_and_names_frames_outside(folder, beyond, capsys):
    assert called(folder, beyond) == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert (row["frames_outside"], row["features_outside"]) == (1, {"motion2": 1})
    assert "(motion2 1)" in row["note"]
    assert row["log_is_v0_6_1"] is True


def test_with_frames_a_line_each_follows_and_says_where_it_lies(folder, beyond, logs, capsys):
    assert called(folder, "--frames", beyond, logs["default"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("frame") for row in rows] == [None, 0, 1, 2, None, *range(FRAMES)]
    assert [row["outside"] for row in rows[1:4]] == [[], [], ["motion2"]]
    for row in rows[1:4]:
        assert set(row) == {"file", "frame", "predicted", "formula", "difference", "outside"}
        assert row["difference"] == pytest.approx(row["predicted"] - row["formula"])
    assert rows[0]["formula_min"] == min(row["formula"] for row in rows[1:4])
    assert "per_frame" not in rows[0]
    assert {row["file"] for row in rows[4:]} == {str(logs["default"])}


@pytest.mark.parametrize("missing", CANONICAL_6)
def test_a_log_of_five_features_has_no_line_nor_have_those_before_it(
    folder, beyond, tmp_path, missing, capsys
):
    log = json.loads(beyond.read_text())
    for frame in log["frames"]:
        del frame["metrics"][f"integer_{missing}"]
    (tmp_path / "five.json").write_text(json.dumps(log))
    assert called(folder, "--frames", beyond, tmp_path / "five.json") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"five.json frame 0: no {missing}" in said.err


# --- the formula as a file --------------------------------------------------------------------


@pytest.fixture(scope="module")
def formula_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("formula") / "f.onnx"
    export_formula(path)
    return open_session(path)


def run(session, rows: np.ndarray) -> np.ndarray:
    return session.run(["vmaf"], {"features": rows.astype(np.float32)})[0]


def test_the_file_is_the_formula_all_over_the_domain(formula_file):
    """Corners and edges included, where uniform rows hardly come."""
    rows = draw_domain(np.random.default_rng(11), 10_000, HIGHEST)
    expected = vmaf_from_features(rows)
    assert (rows[:, 5] == 0).sum() > 1000
    assert (rows[:, :5].max(axis=1) > 1).sum() > 500
    assert ((expected > 0) & (expected < 100)).sum() > 1000
    assert np.abs(run(formula_file, rows) - expected).max() <= FORMULA_ATOL


def test_the_file_gives_what_predict_shows(formula_file, predictor, logs):
    frames = predict(predictor, logs["default"], frames=True)["per_frame"]
    found = run(formula_file, read_log(logs["default"]).features)
    assert [f["formula"] for f in frames] == pytest.approx(found.tolist(), abs=FORMULA_ATOL)
