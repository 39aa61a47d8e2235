"""Logs as tools write them: every format and age gives the same digits, and says whose they are."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from ffmpeg_quality_metrics import FfmpegQualityMetrics

from fr_lib.corpus import read_log, vmaf_from_features, who_scored
from fr_lib.corpus.logs import FEATURE_NAMES, SAME_TEACHER, Log
from fr_lib.errors import ArtefactError, InputError
from fr_lib.schema import CANONICAL_6

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FRAMES = 7
ALL = {
    "": "version=vmaf_v0.6.1",
    "several": r"version=vmaf_v0.6.1|version=vmaf_v0.6.1neg\\:name=vmaf_v0.6.1neg",
}


def ffmpeg(folder: Path, *arguments: str) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *arguments], cwd=folder, check=True)


def score(folder: Path, log: str, models: str = "", more: str = "") -> Path:
    form = log.rpartition(".")[2]
    graph = f"[0:v][1:v]libvmaf=log_fmt={form}:log_path={log}:model={ALL[models]}{more}"
    inputs = ("-i", "encode.mkv", "-i", "reference.y4m")
    ffmpeg(folder, *inputs, "-lavfi", graph, "-f", "null", "-")
    return folder / log


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    card = ("-f", "lavfi", "-i", "testsrc2=size=176x144:rate=25", "-frames:v", str(FRAMES))
    ffmpeg(folder, *card, "reference.y4m")
    ffmpeg(folder, *("-i", "reference.y4m", "-c:v", "libx264", "-crf", "40"), "encode.mkv")
    return folder


@pytest.fixture(scope="module")
def written(clips) -> dict[str, Path]:
    """One run in each format of libvmaf, and the two of ffmpeg-quality-metrics."""
    logs = {form: score(clips, f"log.{form}") for form in ("json", "xml", "csv")}
    run = FfmpegQualityMetrics(
        str(clips / "reference.y4m"), str(clips / "encode.mkv"), ffmpeg_path=FFMPEG, framerate=25.0
    )
    run.calculate(["vmaf", "psnr"], {"model_path": "vmaf_v0.6.1.json"})
    logs |= {"tool json": clips / "tool.json", "tool csv": clips / "tool.csv"}
    logs["tool json"].write_text(run.get_results_json())
    logs["tool csv"].write_text(run.get_results_csv())
    return logs


def rows(n: int = 3) -> np.ndarray:
    rng = np.random.default_rng(1)
    around = np.array([0.9, 0.5, 0.7, 0.8, 0.9, 3.0])
    return np.round(around + rng.uniform(-0.1, 0.1, (n, 6)), 6)


def metrics(row: np.ndarray, age: int = 0) -> dict[str, float]:
    return {FEATURE_NAMES[n][age]: v for n, v in zip(CANONICAL_6, row.tolist(), strict=True)}


def write(path: Path, frames: list[dict], **more) -> Path:
    listed = [{"frameNum": i, "metrics": frame} for i, frame in enumerate(frames)]
    path.write_text(json.dumps({"version": "3.0.0", "frames": listed} | more))
    return path


def xml(path: Path, frames: list[dict], root: str = "VMAF", params: str = "") -> Path:
    lines = [
        f'<frame frameNum="{i}" {" ".join(f"""{k}="{v}" """ for k, v in frame.items())}/>'
        for i, frame in enumerate(frames)
    ]
    path.write_text(f"<{root}>{params}<frames>{''.join(lines)}</frames></{root}>")
    return path


def same(one: Log, other: Log) -> None:
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.frames, other.frames)
    assert list(one.scores) == list(other.scores)
    for name in one.scores:
        np.testing.assert_array_equal(one.scores[name], other.scores[name])


# --- formats --------------------------------------------------------------------------------------


def test_every_format_of_one_run_is_the_same_to_the_last_digit(written):
    logs = {name: read_log(path) for name, path in written.items()}
    for log in logs.values():
        same(log, logs["json"])
    assert [log.form for log in logs.values()] == [
        "libvmaf JSON", "libvmaf XML", "libvmaf CSV",
        "ffmpeg-quality-metrics JSON", "ffmpeg-quality-metrics CSV",
    ]  # fmt: skip
    assert logs["json"].frames.tolist() == list(range(FRAMES))
    assert logs["json"].version == logs["xml"].version != logs["csv"].version is None


@pytest.mark.parametrize("form", ["json", "xml", "csv"])
def test_several_models_and_a_part_of_the_frames(clips, form):
    path = score(clips, f"part.{form}", "several", ":n_subsample=3")
    log = read_log(path)
    assert log.frames.tolist() == [0, 3, 6]
    assert list(log.scores) == ["vmaf", "vmaf_v0.6.1neg"]
    formula = vmaf_from_features(log.features)
    np.testing.assert_allclose(log.vmaf, formula, atol=2e-4)
    said = {name: who_scored(log, name, formula) for name in log.scores}
    assert said == {
        "vmaf": "agrees with VMAF v0.6.1's formula",
        "vmaf_v0.6.1neg": "vmaf_v0.6.1neg (named in the log)",
    }


@pytest.mark.parametrize("name", ["json", "xml", "csv", "tool json", "tool csv"])
def test_packed_marked_or_of_another_name_it_is_the_same(written, name, tmp_path):
    plain = written[name].read_bytes()
    for data in (gzip.compress(plain), b"\xef\xbb\xbf" + plain, plain.replace(b"\n", b"\r\n")):
        (tmp_path / "log").write_bytes(data)
        same(read_log(tmp_path / "log"), read_log(written[name]))


@pytest.mark.parametrize("word", ["nan", "-nan", "inf", "-inf", "NaN"])
def test_words_for_numbers_mean_nothing_outside_the_features(tmp_path, word):
    frames = [metrics(row) | {"psnr_y": word, "vmaf": 50.0} for row in rows()]
    frames[1]["vmaf"] = word
    lines = [["Frame", *frames[0]], *([i, *f.values()] for i, f in enumerate(frames))]
    (tmp_path / "log.csv").write_text("".join(",".join(map(str, x)) + ",\n" for x in lines))
    log = read_log(xml(tmp_path / "log.xml", frames))
    same(log, read_log(tmp_path / "log.csv"))
    assert list(log.scores) == ["vmaf"]
    assert np.isnan(log.scores["vmaf"]).tolist() == [False, True, False]


# --- ages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", range(4))
def test_features_of_every_age(tmp_path, age):
    frames = [metrics(row, age) for row in rows()]
    for path in (write(tmp_path / "log.json", frames), xml(tmp_path / "log.xml", frames)):
        np.testing.assert_array_equal(read_log(path).features, rows())


def test_the_newest_name_is_taken_for_all_frames(tmp_path):
    """One feature of two extractors is two columns, and no frame takes what the other lacks."""
    frames = [metrics(row, 1) | metrics(row + 0.01, 0) for row in rows()]
    np.testing.assert_array_equal(
        read_log(write(tmp_path / "log.json", frames)).features, rows() + 0.01
    )
    del frames[2]["integer_motion2"]
    with pytest.raises(InputError, match="frame 2: no motion2"):
        read_log(write(tmp_path / "log.json", frames))


def test_what_the_first_versions_wrote(tmp_path):
    frames = [metrics(row, 1) | {"vmaf": 70.0} for row in rows()]
    params = {"model": "C:\\models\\vmaf_4k_v0.6.1.pkl", "subsample": 1}
    old = write(tmp_path / "log.json", frames, params=params, **{"VMAF score": 70.0})
    element = '<params model="/share/model/vmaf_4k_v0.6.1.pkl" subsample="1"/>'
    for path in (old, xml(tmp_path / "log.xml", frames, params=element)):
        log = read_log(path)
        assert log.model == "vmaf_4k_v0.6.1"
        said = who_scored(log, "vmaf", vmaf_from_features(log.features))
        assert said == "vmaf_4k_v0.6.1 (named in the log)"


def test_what_the_python_library_wrote(tmp_path):
    frames = [metrics(row, 3) | {"VMAF_score": 70.0} for row in rows()]
    whole = {"executorId": "VMAF_V0.6.1", "aggregate": {"VMAF_score": 70.0, "method": "mean"}}
    listed = [frame | {"frameNum": i} for i, frame in enumerate(frames)]
    (tmp_path / "log.json").write_text(json.dumps(whole | {"frames": listed}))
    log = read_log(tmp_path / "log.json")
    same(log, read_log(xml(tmp_path / "log.xml", frames, root="result")))
    assert list(log.scores) == ["vmaf"]
    np.testing.assert_array_equal(log.features, rows())


def test_frames_without_numbers_are_counted(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"frames": [{"metrics": metrics(row)} for row in rows()]}))
    assert read_log(path).frames.tolist() == [0, 1, 2]


# --- whose score it is ----------------------------------------------------------------------------


@pytest.mark.parametrize(("off", "same"), [(0.99, True), (1.01, False)])
def test_a_score_that_nobody_names_agrees_with_the_formula_or_not(tmp_path, off, same):
    formula = vmaf_from_features(rows())
    scores = (formula + off * SAME_TEACHER).tolist()
    frames = [metrics(r) | {"vmaf": s} for r, s in zip(rows(), scores, strict=True)]
    log = read_log(write(tmp_path / "log.json", frames))
    said = who_scored(log, "vmaf", formula)
    assert said == ("agrees with VMAF v0.6.1's formula" if same else "not named")


# --- what is no log -------------------------------------------------------------------------------


def test_the_format_for_players_is_called_what_it_is(clips):
    with pytest.raises(ArtefactError, match=r"log\.sub: subtitles \(log_fmt=sub\), no log"):
        read_log(score(clips, "log.sub"))


def test_a_tools_log_without_vmaf_is_called_what_it_is(tmp_path):
    (tmp_path / "t.json").write_text('{"psnr": [{"n": 1}], "input_file_dist": "a", "global": {}}')
    with pytest.raises(ArtefactError, match="ffmpeg-quality-metrics JSON without vmaf"):
        read_log(tmp_path / "t.json")


def test_a_log_of_other_features_lists_what_it_has(tmp_path):
    path = write(tmp_path / "log.json", [{"psnr_y": 40.0, "vmaf": 90.0}])
    with pytest.raises(ArtefactError, match=r"libvmaf JSON without any of .*\(it has psnr_y, vmaf"):
        read_log(path)


def test_no_entity_of_an_xml_is_opened(tmp_path):
    """Neither the files that it names nor what grows without end is looked at."""
    (tmp_path / "secret").write_text("0.5")
    outside = f'<!DOCTYPE VMAF [<!ENTITY a SYSTEM "file://{tmp_path}/secret">]><VMAF>&a;</VMAF>'
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 40))
    for text in (outside, f'<!DOCTYPE V [<!ENTITY l0 "ha">{laughs}]><VMAF>&l39;</VMAF>'):
        (tmp_path / "log.xml").write_text(text)
        with pytest.raises(ArtefactError, match=r"XML with a document type \(DOCTYPE\)"):
            read_log(tmp_path / "log.xml")
