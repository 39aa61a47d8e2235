"""The command line: help, exit codes, and one real round trip of each command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pandas as pd
import pytest
from chain import ROOT, Done, python, tree
from modelkit import make_folder

from fr_lib.__main__ import main
from fr_lib.corpus import load_corpus
from fr_lib.encode import default_ffmpeg
from fr_lib.schema import CANONICAL_6

COMMANDS = ("run", "corpus", "release", "verify", "predict", "compare", "publish")


def called(*arguments: str) -> Done:
    return python("fr_lib", *arguments)


# --- help and usage


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(command in shown for command in COMMANDS)
    assert "Exit codes: 0" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m fr_lib {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["run", "--corpsu", "x"],
        ["release"],
        ["compare", "runs/one"],
        ["publish", "--run-dir", "runs/one"],
        ["predict", "log.json"],
        ["predict", "--encoder", "libx264", "--quality", "high", "log.json"],
        ["corpus", "--source", "clip.mkv"],
    ],
)
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "key=value"),
        ("epochs=many", "whole number"),
        ("corpsu=x", "did you mean 'corpus'"),
    ],
)
def test_a_setting_that_does_not_fit_ends_with_2(setting, message, capsys):
    assert main(["run", "--set", setting]) == 2
    assert message in capsys.readouterr().err


# --- verify and release


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with a model that passed; not to be changed."""
    return make_folder(tmp_path_factory.mktemp("models"))


def test_verify_accepts_what_is_whole(folder, capsys):
    assert main(["verify", "--model-dir", str(folder)]) == 0
    assert "verified" in capsys.readouterr().out


def test_verify_names_the_file_with_one_changed_byte(folder, tmp_path, capsys):
    copy = tmp_path / "tiny"
    shutil.copytree(folder, copy)
    model = copy / "fr_regressor_v3.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    assert main(["verify", "--model-dir", str(copy)]) == 1
    assert "fr_regressor_v3.onnx" in capsys.readouterr().err


def test_verify_of_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["verify", "--model-dir", str(tmp_path / "none")]) in (1, 2)
    assert "none" in capsys.readouterr().err


def test_the_shipped_model_verifies():
    ended = called("verify")
    assert ended.code == 0, ended.err


def test_release_puts_a_model_that_passed_into_a_folder(tmp_path, capsys):
    make_folder(tmp_path / "run" / "model")
    arguments = ["--run-dir", str(tmp_path / "run"), "--model-dir", str(tmp_path / "tiny")]
    assert main(["release", *arguments]) == 0
    said = capsys.readouterr().out
    assert "gate passed" in said
    assert "vmaf_v0_6_1_formula" in said
    assert {file.name for file in (tmp_path / "tiny").glob("*.onnx")} == {
        "fr_regressor_v3.onnx",
        "vmaf_v0_6_1_formula.onnx",
    }
    assert main(["verify", "--model-dir", str(tmp_path / "tiny")]) == 0


def test_release_of_a_run_that_failed_changes_no_byte(hopeless, folder, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(folder, copy)
    before = tree(copy)
    ended = called("release", "--run-dir", str(hopeless.path), "--model-dir", str(copy))
    assert ended.code == 1
    assert "gate failed" in ended.err
    assert "Traceback" not in ended.err
    assert tree(copy) == before


def test_release_of_a_run_that_is_not_there_ends_with_2(tmp_path, capsys):
    run_dir, target = str(tmp_path / "none"), str(tmp_path / "tiny")
    assert main(["release", "--run-dir", run_dir, "--model-dir", target]) == 2
    assert not (tmp_path / "tiny").exists()
    assert "none" in capsys.readouterr().err


# --- predict


@pytest.fixture
def log(tmp_path):
    """A small log as libvmaf writes it."""
    good = dict(zip(CANONICAL_6, (0.97, 0.7, 0.9, 0.95, 0.97, 4.0), strict=True))
    frames = [
        {"frameNum": i, "metrics": {f"integer_{k}": v - 0.01 * i for k, v in good.items()}}
        for i in range(3)
    ]
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"version": "3.0.0", "frames": frames}))
    return path


def predicted(folder, log, encoder: str, capsys) -> dict:
    settings = ["--encoder", encoder, "--quality", "30", "--model-dir", str(folder)]
    assert main(["predict", *settings, str(log)]) == 0
    return json.loads(capsys.readouterr().out)


def test_predict_scores_a_log(folder, log, capsys):
    row = predicted(folder, log, "libx264", capsys)
    assert row["file"] == str(log)
    assert row["frames"] == 3
    assert 0 <= row["min"] <= row["mean"] <= 100
    assert row["answered_by"] == "codec-aware network"


def test_predict_says_when_the_codec_blind_network_answers(folder, log, capsys):
    assert "codec-blind" in predicted(folder, log, "h264_qsv", capsys)["answered_by"]


def test_predict_shows_the_exact_score_and_every_frame(folder, log, capsys):
    settings = ["--encoder", "libx264", "--quality", "30", "--model-dir", str(folder)]
    assert main(["predict", "--frames", *settings, str(log), str(log)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("frame") for row in rows] == [None, 0, 1, 2] * 2
    assert {row["file"] for row in rows} == {str(log)}
    whole, *frames = rows[:4]
    exact = [frame["formula"] for frame in frames]
    assert whole["formula_mean"] == pytest.approx(sum(exact) / 3)
    assert whole["difference"] == pytest.approx(whole["mean"] - whole["formula_mean"])
    assert all(frame["outside"] == [] for frame in frames)


@pytest.mark.parametrize("number", ["1e39", "9" * 30, "nan"])
def test_predict_of_a_number_that_no_feature_can_be(folder, log, number, capsys):
    log.write_text(log.read_text().replace("0.97", number, 1))
    settings = ["--encoder", "libx264", "--quality", "30", "--model-dir", str(folder)]
    assert main(["predict", *settings, str(log)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "log.json frame 0: adm2 is" in said.err


def test_predict_with_an_encoder_outside_the_vocabulary(folder, log, capsys):
    settings = ["--encoder", "libx256", "--quality", "30", "--model-dir", str(folder)]
    assert main(["predict", *settings, str(log)]) == 2
    assert "libx265" in capsys.readouterr().err


def test_predict_refuses_the_model_of_a_run_that_failed(hopeless, log, capsys):
    model_dir = str(hopeless.path / "model")
    settings = ["--encoder", "libx264", "--quality", "30", "--model-dir", model_dir]
    assert main(["predict", *settings, str(log)]) == 2
    assert "smoke" in capsys.readouterr().err


# --- corpus


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    made = [default_ffmpeg(), "-v", "error", "-f", "lavfi"]
    made += ["-i", "testsrc2=size=192x144:rate=25", "-frames:v", "6"]
    subprocess.run([*made, "-pix_fmt", "yuv420p", "-c:v", "ffv1", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory):
    """A corpus of two encoders, and what the command said.

    Its scratch folder has a name with every character that means something to FFmpeg's filters.
    """
    out = tmp_path_factory.mktemp("made") / "c.jsonl"
    odd = out.parent / "it's a \\ [b]: c,d;e"
    odd.mkdir()
    return corpus(clip, out, TMPDIR=str(odd)), out


def corpus(clip, out, *encoders: str, **environment: str) -> Done:
    names = [x for e in encoders or ("libx264", "libvvenc") for x in ("--encoder", e)]
    return python(
        *("fr_lib", "corpus", "--source", clip, *names, "--quality", "30", "--out", out),
        environment=environment,
    )


def test_corpus_makes_rows_of_both_encoders(made):
    ended, out = made
    assert ended.code == 0, ended.err
    rows = load_corpus(out)
    assert rows.table.groupby("encoder").size().to_dict() == {"libvvenc": 6, "libx264": 6}
    assert set(rows.table["src"]) == {"clip"}
    assert rows.teacher == "vmaf_v0.6.1"
    raw = pd.read_json(out, lines=True)
    assert raw[["enc_bytes", "enc_time_ms", "src_sha256", "ffmpeg_version"]].notna().all(axis=None)
    assert out.with_name("c.provenance.json").is_file()
    assert [path for path in out.parent.glob("it*/*")] == []


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a named pipe"), (os.mkdir, "a folder")])
def test_what_is_no_file_is_not_replaced_by_a_corpus(make, kind, clip, tmp_path, capsys):
    """It is refused before the first encode."""
    out = tmp_path / "c.jsonl"
    make(out)
    words = ["--source", str(clip), "--encoder", "libx264", "--quality", "30", "--out", str(out)]
    assert main(["corpus", *words]) == 2
    assert capsys.readouterr().err == (
        f"--out: {out} is {kind}; allowed: a file, or none yet; name another\n"
    )
    assert [*tmp_path.iterdir()] == [out]


def test_a_second_call_encodes_nothing(made, clip):
    _, out = made
    before = out.read_bytes()
    again = corpus(clip, out)
    assert again.code == 0
    assert "0 cells encoded" in again.out
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("encoder", "environment"),
    # NVENC finds no device where CUDA may see none; VideoToolbox is on no system but Apple's.
    [("h264_nvenc", {"CUDA_VISIBLE_DEVICES": ""}), ("h264_videotoolbox", {})],
)
def test_an_encoder_that_cannot_run_here_is_one_clear_line(clip, tmp_path, encoder, environment):
    out = tmp_path / "c.jsonl"
    ended = corpus(clip, out, encoder, **environment)
    assert ended.code == 2
    said = (ended.out + ended.err).strip().splitlines()
    assert len([line for line in said if encoder in line]) == 1, said
    assert "Traceback" not in ended.err
    assert not out.exists()


def test_a_clip_that_is_not_there_ends_with_2(tmp_path):
    ended = corpus(tmp_path / "none.mkv", tmp_path / "c.jsonl")
    assert ended.code == 2
    assert "none.mkv" in ended.err
    assert "Traceback" not in ended.err


def test_the_model_folder_of_the_project_was_not_touched(shipped_before, hopeless, smoke, nvenc):
    assert tree(ROOT / "model") == shipped_before
