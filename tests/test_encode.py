"""Real encodes of generated clips by real encoders, scored by real libvmaf."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fr_lib.corpus import TEACHERS, V061, load_corpus, read_table, vmaf_from_features, write_table
from fr_lib.encode import (
    Cell,
    CellStore,
    at_scales,
    build_grid,
    default_ffmpeg,
    ffmpeg_version,
    find_sources,
    make_corpus,
    usable_encoders,
    write_provenance,
)
from fr_lib.encode.cell import run_cell
from fr_lib.encode.clips import Raster, Source, check_alignment, decode_y4m
from fr_lib.encode.ffmpeg import probe_encoder
from fr_lib.encode.store import per_name
from fr_lib.errors import ArtefactError, EncodeError, InputError
from fr_lib.files import sha256_of, write_json
from fr_lib.schema import CANONICAL_6

FFMPEG = default_ffmpeg()
FRAMES = 14
# Never both on one machine: the frameworks of one vendor's system.
NOT_HERE = "h264_amf" if sys.platform == "darwin" else "h264_videotoolbox"


def ffmpeg(*args: object) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, args)], check=True)


def make_clip(path: Path, pattern="testsrc2", frames=FRAMES, size="176x144", *options) -> Path:
    options = options or ("-pix_fmt", "yuv420p")
    codec = () if path.suffix in (".yuv", ".avi") else ("-c:v", "ffv1")
    source = f"{pattern}=size={size}:rate=25"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", frames, *codec, *options, path)
    return path


def quiet(_: str) -> None:
    """Take a report and say nothing."""


def corpus_of(clip: Path, out: Path, encoders=("libx264",), quality=("30",), **grid):
    """Encode and score one clip; return cells encoded, failures and the file's rows."""
    cells = build_grid(find_sources([str(clip)]), encoders, quality, **grid)
    encoded, failures = make_corpus(cells, out, FFMPEG, quiet)
    return encoded, failures, read_table(out) if out.is_file() else None


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        make_clip(folder / "Pattern.mkv"),
        make_clip(folder / "Fractal.mkv", "mandelbrot", 12),
    ]


@pytest.fixture(scope="module")
def cells(clips):
    sources = find_sources([str(c) for c in clips])
    return build_grid(sources, ["libx264", "libvvenc"], ["24", "libx264=30,43"], every=3)


@pytest.fixture(scope="module")
def made(cells, tmp_path_factory):
    """Return the corpus file, what was reported, and what the call returned."""
    out = tmp_path_factory.mktemp("made") / "made.jsonl.gz"
    said: list[str] = []
    return out, said, make_corpus(cells, out, FFMPEG, said.append)


# --- a corpus of two clips and two encoders -------------------------------------------------------


def test_every_cell_is_encoded(made):
    out, said, returned = made
    assert returned == (6, [])
    assert said == [f"6 cells, 0 already in {out}, 6 to encode"]
    assert [p.name for p in out.parent.iterdir()] == ["made.jsonl.gz"]


def test_rows_and_their_columns(made, clips):
    rows = read_table(made[0])
    assert list(rows) == [
        *("src", "encoder", "preset", "cq", "frame_index", "vmaf", *CANONICAL_6),
        *("width", "height", "src_scale", "enc_scale"),
        *("enc_bytes", "enc_time_ms", "teacher", "ffmpeg_version", "libvmaf_version"),
        "src_sha256",
    ]
    kept = rows.groupby(["src", "encoder", "preset", "cq"])["frame_index"].apply(list).to_dict()
    assert kept == {
        ("Fractal", "libvvenc", "faster", 24): [0, 3, 6, 9],
        ("Fractal", "libx264", "medium", 30): [0, 3, 6, 9],
        ("Fractal", "libx264", "medium", 43): [0, 3, 6, 9],
        ("Pattern", "libvvenc", "faster", 24): [0, 3, 6, 9, 12],
        ("Pattern", "libx264", "medium", 30): [0, 3, 6, 9, 12],
        ("Pattern", "libx264", "medium", 43): [0, 3, 6, 9, 12],
    }
    assert set(rows["teacher"]) == {"vmaf_v0.6.1"}
    assert set(rows["ffmpeg_version"]) == {ffmpeg_version(FFMPEG)}
    assert rows["libvmaf_version"].str.len().min() > 0
    assert dict(zip(rows["src"], rows["src_sha256"], strict=True)) == {
        clip.stem: sha256_of(clip) for clip in clips
    }
    assert (rows["enc_time_ms"] > 0).all()


def test_rows_agree_with_the_closed_formula_of_the_teacher(made):
    corpus = load_corpus(made[0])
    assert corpus.dropped == []
    formula = vmaf_from_features(corpus.table[list(CANONICAL_6)].to_numpy())
    assert np.abs(formula - corpus.table["vmaf"]).max() < 2e-4


def test_a_worse_quality_value_gives_a_lower_score_and_fewer_bytes(made):
    rows = read_table(made[0])
    by_cell = rows.groupby(["src", "encoder", "cq"])[["vmaf", "enc_bytes"]].mean()
    for src in ("Pattern", "Fractal"):
        assert (by_cell.loc[(src, "libx264", 43)] < by_cell.loc[(src, "libx264", 30)]).all()
        assert by_cell.loc[(src, "libvvenc", 24), "vmaf"] > 90


def test_a_second_call_encodes_nothing(made, cells):
    out = made[0]
    before, when = out.read_bytes(), out.stat().st_mtime_ns
    said: list[str] = []
    assert make_corpus(cells, out, FFMPEG, said.append) == (0, [])
    assert said == [f"6 cells, 6 already in {out}, 0 to encode"]
    assert (out.read_bytes(), out.stat().st_mtime_ns) == (before, when)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_larger_grid_adds_to_a_smaller_one(clips, tmp_path, suffix):
    out = tmp_path / f"c{suffix}"
    first = corpus_of(clips[0], out, quality=["40"], every=5)
    assert first[:2] == (1, [])
    second = corpus_of(clips[0], out, quality=["38.5,40"], every=5)
    assert second[:2] == (1, [])
    old = second[2].query("cq == 40").reset_index(drop=True)
    pd.testing.assert_frame_equal(old, first[2], check_dtype=False)
    assert sorted(set(second[2]["cq"])) == [38.5, 40]
    assert corpus_of(clips[0], out, quality=["40,38.5"], every=5)[0] == 0


# --- interruption ---------------------------------------------------------------------------------

WORK = """
import sys
from fr_lib.encode import build_grid, default_ffmpeg, find_sources, make_corpus

clip, out, quality = sys.argv[1:]
make_corpus(build_grid(find_sources([clip]), ["libx264"], [quality]), out, default_ffmpeg())
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_whole_cells_and_goes_on(clips, tmp_path, stop):
    out, scratch = tmp_path / "c.jsonl", tmp_path / "scratch"
    scratch.mkdir()
    quality = [str(q) for q in range(20, 50, 3)]
    command = [sys.executable, "-c", WORK, str(clips[0]), str(out), ",".join(quality)]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(scratch)},
        # A shell's background job ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            while process.poll() is None and not list(tmp_path.glob("c.jsonl.cells/[!.]*")):
                time.sleep(0.02)
            process.send_signal(stop)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    if stop == signal.SIGINT:
        assert list(scratch.iterdir()) == []
        rows = load_corpus(out).table
        assert 1 <= rows["quality"].nunique() < len(quality)
        assert set(rows.groupby("quality").size()) == {FRAMES}
    else:
        # What a writer that was killed half-way leaves.
        (tmp_path / "c.jsonl.cells" / ".half.json.x.json").write_text('[{"src": "Pat')
    done = len(CellStore(out).done(build_grid(find_sources([str(clips[0])]), ["libx264"], quality)))
    assert 1 <= done < len(quality)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jsonl", "scratch"]
    encoded, failures, rows = corpus_of(clips[0], out, quality=quality)
    assert (encoded, failures) == (len(quality) - done, [])
    assert len(rows) == len(quality) * FRAMES
    assert not rows.duplicated(["cq", "frame_index"]).any()


def test_cells_that_a_killed_run_left_are_checked_like_the_file(clips, tmp_path):
    out = tmp_path / "c.jsonl"
    corpus_of(clips[0], out)
    [cell] = build_grid(find_sources([str(clips[0])]), ["libx264"], ["30"])
    left = CellStore(tmp_path / "d.jsonl")
    left.put(cell.key, read_table(out).to_dict(orient="records"))
    with pytest.raises(InputError, match="it keeps every frame; allowed: --every 1"):
        corpus_of(clips[0], tmp_path / "d.jsonl", every=2)


# --- what a corpus file refuses -------------------------------------------------------------------


def test_another_clip_of_the_same_name_is_refused(made, tmp_path):
    other = make_clip(tmp_path / "Pattern.mkv", "smptebars", 3)
    before = made[0].read_bytes()
    with pytest.raises(InputError, match="it holds another clip named Pattern"):
        corpus_of(other, made[0], every=3)
    assert made[0].read_bytes() == before


@pytest.mark.parametrize("every", [1, 2, 4])
def test_another_choice_of_frames_is_refused(made, clips, every):
    with pytest.raises(InputError, match="it keeps one frame in 3; allowed: --every 3"):
        corpus_of(clips[0], made[0], every=every)


def test_a_corpus_of_other_origin_is_refused(clips, tmp_path):
    out = tmp_path / "c.jsonl"
    write_table(pd.DataFrame({"src": ["a"], "encoder": ["libx264"], "cq": [3]}), out)
    before = out.read_bytes()
    with pytest.raises(InputError, match="no frame_index, preset, src_sha256"):
        corpus_of(clips[0], out)
    assert out.read_bytes() == before


def test_a_file_type_that_cannot_be_written_is_refused_before_any_work(clips, tmp_path):
    with pytest.raises(InputError, match=r"--out: .*c\.csv; allowed: \*\.jsonl"):
        corpus_of(clips[0], tmp_path / "c.csv")
    assert list(tmp_path.iterdir()) == []


# --- alignment ------------------------------------------------------------------------------------


def test_an_encode_of_other_frames_than_the_reference_is_never_scored(clips, tmp_path):
    short = make_clip(tmp_path / "Short.mkv", frames=FRAMES - 1)
    [source] = find_sources([str(clips[0])])
    [cell] = build_grid([source], ["libx264"], ["30"])
    reference = tmp_path / "short.y4m"
    decode_y4m(FFMPEG, short, reference)
    whole = decode_y4m(FFMPEG, source, tmp_path / "whole.y4m")
    with pytest.raises(EncodeError) as caught:
        run_cell(cell, FFMPEG, tmp_path, reference, whole)
    assert str(caught.value) == (
        "Pattern libx264 medium 30: decoded to 13 frames 176x144 yuv420p; "
        "allowed: 14 frames 176x144 yuv420p; "
        "the encode does not match its reference frame for frame; it is not scored"
    )


def test_dropped_frames_are_seen_by_decoding(clips, tmp_path):
    short = tmp_path / "short.mp4"
    ffmpeg("-i", clips[0], "-vf", "select=not(eq(n\\,5))", "-fps_mode", "passthrough", short)
    [source] = find_sources([str(clips[0])])
    reference = decode_y4m(FFMPEG, source, tmp_path / "r.y4m")
    found = decode_y4m(FFMPEG, short, tmp_path / "d.y4m", reference.pix_fmt)
    assert (reference.frames, found.frames) == (FRAMES, FRAMES - 1)
    with pytest.raises(EncodeError, match=r"cell: decoded to 13 frames 176x144 yuv420p"):
        check_alignment("cell", reference, found)


RASTER = Raster(176, 144, "yuv420p", 14)


@pytest.mark.parametrize(
    "other",
    [
        Raster(176, 144, "yuv420p", 15),
        Raster(178, 144, "yuv420p", 14),
        Raster(176, 142, "yuv420p", 14),
        Raster(176, 144, "yuv420p10le", 14),
    ],
)
def test_each_difference_is_refused(other):
    check_alignment("cell", RASTER, Raster(176, 144, "yuv420p", 14))
    with pytest.raises(EncodeError, match="not scored"):
        check_alignment("cell", RASTER, other)


# --- kinds of input -------------------------------------------------------------------------------

RAW = {"width": 176, "height": 144, "pix_fmt": "yuv420p", "fps": "30000/1001"}


def test_raw_video_with_a_description_is_the_clip_it_was_made_of(clips, tmp_path):
    raw = tmp_path / "Pattern.yuv"
    ffmpeg("-i", clips[0], "-f", "rawvideo", raw)
    grid = build_grid(find_sources([str(raw)], raw=RAW), ["libx264"], ["30"])
    assert make_corpus(grid, tmp_path / "raw.jsonl", FFMPEG, quiet) == (1, [])
    plain = corpus_of(clips[0], tmp_path / "mkv.jsonl")[2]
    columns = ["src", "frame_index", "vmaf", *CANONICAL_6]
    found = read_table(tmp_path / "raw.jsonl")
    # Another frame rate makes another rate control; the features of the reference do not move.
    assert found["motion2"].tolist() == plain["motion2"].tolist()
    assert len(found[columns]) == FRAMES


@pytest.mark.parametrize("lacking", RAW)
def test_raw_video_without_a_description_is_refused(tmp_path, lacking):
    raw = tmp_path / "a.yuv"
    raw.write_bytes(bytes(100))
    with pytest.raises(InputError, match=f"give --{lacking.replace('_', '-')}$"):
        find_sources([str(raw)], raw=RAW | {lacking: None})
    with pytest.raises(InputError, match="give --width --height --pix-fmt --fps"):
        find_sources([str(raw)])


def test_raw_video_that_does_not_fit_its_description_fails(tmp_path):
    raw = make_clip(tmp_path / "a.yuv", "testsrc2", 5, "176x144", "-pix_fmt", "yuv420p")
    grid = build_grid(find_sources([str(raw)], raw=RAW | {"width": 170}), ["libx264"], ["30"])
    encoded, failures = make_corpus(grid, tmp_path / "c.jsonl", FFMPEG, quiet)
    assert encoded == 0
    assert "a.yuv: " in failures[0]
    assert not (tmp_path / "c.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "size", "options", "decoded"),
    [
        ("ten_bit.mkv", "128x96", ("-pix_fmt", "yuv422p10le"), "yuv422p10le"),
        ("twelve_bit.mkv", "128x96", ("-pix_fmt", "yuv444p12le"), "yuv444p12le"),
        ("gray.mkv", "128x96", ("-pix_fmt", "gray"), "yuv444p"),
        ("rgb.mkv", "128x96", ("-pix_fmt", "bgr0"), "yuv444p"),
        ("semi_planar.nut", "128x96", ("-c:v", "rawvideo", "-pix_fmt", "nv12"), "yuv420p"),
        (
            "motion_jpeg.avi",
            "128x96",
            ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"),
            "yuv420p",
        ),
    ],
)
def test_what_ffmpeg_reads_can_be_encoded_and_scored(tmp_path, name, size, options, decoded):
    clip = make_clip(tmp_path / name, "mandelbrot", 4, size, *options)
    [source] = find_sources([str(clip)])
    raster = decode_y4m(FFMPEG, source, tmp_path / "r.y4m")
    assert raster == Raster(*map(int, size.split("x")), decoded, 4)
    out = tmp_path / "c.jsonl"
    encoded, failures, rows = corpus_of(clip, out, ["libx264", "libvvenc"], ["20"])
    assert (encoded, failures) == (2, [])
    assert len(rows) == 8
    assert rows["vmaf"].min() > 85
    assert rows[list(CANONICAL_6[:5])].max(axis=None) <= 1.001
    formula = vmaf_from_features(rows[list(CANONICAL_6)].to_numpy())
    assert np.abs(formula - rows["vmaf"]).max() < 2e-4


def test_odd_sizes_work_where_the_encoder_takes_them(tmp_path):
    clip = make_clip(tmp_path / "Odd.mkv", "mandelbrot", 4, "127x95")
    [source] = find_sources([str(clip)])
    raster = decode_y4m(FFMPEG, source, tmp_path / "r.y4m")
    assert raster == Raster(127, 95, "yuv420p", 4)
    encoded, failures, rows = corpus_of(
        clip, tmp_path / "c.jsonl", ["libsvtav1", "libx264"], every=3
    )
    assert (encoded, rows["frame_index"].tolist()) == (1, [0, 3])
    assert rows["vmaf"].min() > 80
    [failure] = failures
    assert failure.startswith("Odd libx264 medium 30: ")
    assert "not divisible by 2 (127x95)" in failure


def test_a_full_range_label_does_not_change_the_score(tmp_path):
    # libvvenc drops the label: FFmpeg then stretched the decode, and every frame scored 100.
    raw = make_clip(tmp_path / "Pattern.yuv", "testsrc2", 4)
    found = []
    for label in ("pc", "tv"):
        clip = tmp_path / f"{label}.mkv"
        ffmpeg(
            *("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", "176x144", "-i", raw),
            *("-vf", f"setparams=range={label}", "-c:v", "ffv1", "-color_range", label, clip),
        )
        found.append(corpus_of(clip, tmp_path / f"{label}.jsonl", ["libvvenc", "libx264"])[2])
    columns = ["encoder", "vmaf", "enc_bytes", *CANONICAL_6]
    pd.testing.assert_frame_equal(found[0][columns], found[1][columns])
    assert found[0]["vmaf"].max() < 99.5


# --- failures of single cells ---------------------------------------------------------------------


def test_a_broken_clip_costs_its_own_cells_only(clips, tmp_path):
    broken = tmp_path / "Broken.mkv"
    broken.write_text("no clip at all")
    sources = find_sources([str(broken), str(clips[0])])
    grid = build_grid(sources, ["libx264"], ["30,40"])
    encoded, failures = make_corpus(grid, tmp_path / "c.jsonl", FFMPEG, quiet)
    assert encoded == 2
    assert len(failures) == 2
    assert all("Broken.mkv: " in failure for failure in failures)
    assert set(read_table(tmp_path / "c.jsonl")["src"]) == {"Pattern"}


def test_a_clip_too_small_for_libvmaf_is_a_failure_by_name(clips, tmp_path):
    tiny = make_clip(tmp_path / "Tiny.mkv", "testsrc2", 3, "16x16")
    encoded, failures, rows = corpus_of(tiny, tmp_path / "c.jsonl")
    assert (encoded, rows) == (0, None)
    assert failures[0].startswith(
        "Tiny libx264 medium 30: 16x16 pixels; allowed: at least 18 a side, which vmaf_v0.6.1 needs"
    )


@pytest.mark.parametrize("teacher", TEACHERS.values(), ids=[*TEACHERS])
def test_a_teacher_scores_the_least_picture_that_it_is_said_to_need(teacher, tmp_path):
    side = teacher.least_side
    clip = make_clip(tmp_path / "Least.mkv", "testsrc2", 3, f"{side}x{side}")
    source = Source("Least", str(clip), "0" * 64)
    raster = decode_y4m(FFMPEG, source, tmp_path / "reference.y4m")
    cell = Cell(source, "libx264", "ultrafast", 40, teachers=(teacher,))
    (tmp_path / "cell").mkdir()
    rows = run_cell(cell, FFMPEG, tmp_path / "cell", tmp_path / "reference.y4m", raster)
    low, high = teacher.range
    assert all(low <= row["vmaf"] <= high for row in rows)
    assert {row["teacher"] for row in rows} == {teacher.name}


# --- several teachers, several sizes --------------------------------------------------------------

NEG, NEAR = TEACHERS["vmaf_v0.6.1neg"], TEACHERS["vmaf_v1.0.16_3d0h"]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """Rows of one clip at two sizes, one encode at half the size, scored by three teachers."""
    folder = tmp_path_factory.mktemp("sizes")
    clip = make_clip(folder / "Pattern.mkv", frames=5, size="512x384")
    sources = at_scales(find_sources([str(clip)]), ["1,1.25"])
    todo = build_grid(sources, ["libx264"], ["35,35/2"], teachers=(V061, NEG, NEAR))
    assert make_corpus(todo, folder / "c.parquet", FFMPEG, quiet) == (4, [])
    return folder / "c.parquet", todo


def test_a_row_says_its_sizes_and_holds_a_score_of_each_teacher(sizes):
    rows = read_table(sizes[0])
    found = rows.groupby(["src_scale", "enc_scale"])[["width", "height"]].first()
    assert {k: tuple(v) for k, *v in found.itertuples()} == {
        (1.0, 0.5): (512, 384),
        (1.0, 1.0): (512, 384),
        (1.25, 0.5): (640, 480),
        (1.25, 1.0): (640, 480),
    }
    assert set(rows["teacher"]) == {V061.name}
    scores = rows[["vmaf", NEG.name, NEAR.name]]
    assert scores.nunique().min() == len(rows)
    whole = rows.groupby("enc_scale")["vmaf"].mean()
    assert whole[0.5] < whole[1.0] - 5


def test_the_first_teachers_scores_are_what_it_gives_alone(sizes, tmp_path):
    todo = [replace(cell, teachers=(V061,)) for cell in sizes[1]]
    make_corpus(todo, tmp_path / "alone.parquet", FFMPEG, quiet)
    together, alone = read_table(sizes[0]), read_table(tmp_path / "alone.parquet")
    columns = ["src_scale", "frame_index", "vmaf", *CANONICAL_6]
    # What was shrunk is brought back in 10 bits where a teacher asks for them, and so with finer
    # steps.
    whole = "enc_scale == 1"
    pd.testing.assert_frame_equal(together.query(whole)[columns], alone.query(whole)[columns])


def test_a_corpus_is_read_with_the_scores_of_the_teacher_that_is_named(sizes):
    near, first = load_corpus(sizes[0], NEAR.name), load_corpus(sizes[0])
    assert (near.teacher, first.teacher) == (NEAR.name, V061.name)
    assert near.dropped == first.dropped == []
    assert len(near.table) == 4 * 5
    assert near.table["vmaf"].tolist() == first.table[NEAR.name].tolist()
    assert near.table[V061.name].tolist() == first.table["vmaf"].tolist()
    with pytest.raises(InputError, match=r"no scores of vmaf_v1\.0\.16_5d0h; allowed: vmaf_"):
        load_corpus(sizes[0], "vmaf_v1.0.16_5d0h")


def test_a_size_that_libvmaf_refuses_to_be_told_is_a_failure_by_name(tmp_path):
    clip = make_clip(tmp_path / "Pattern.mkv", frames=3, size="320x240")
    todo = build_grid(find_sources([str(clip)]), ["libx264"], ["35/2"], teachers=(V061, NEAR))
    made = make_corpus(todo, tmp_path / "c.jsonl", FFMPEG, quiet)
    assert made[0] == 0
    assert re.match(r"Pattern libx264 medium 35 /2: .*libvmaf", made[1][0])


def test_finished_cells_are_known_by_their_sizes_and_teachers(sizes):
    out, todo = sizes
    assert make_corpus(todo, out, FFMPEG, quiet) == (0, [])
    for other in ((V061, TEACHERS["vmaf_v1.0.16_5d0h"]), (NEG, V061)):
        with pytest.raises(InputError, match=r"it holds scores of vmaf_.*name the same --teacher"):
            make_corpus([replace(todo[0], teachers=other)], out, FFMPEG, quiet)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (["0.2"], r"--scale: '0\.2'; allowed: 0\.25\.\.4"),
        (["4.1"], r"--scale: '4\.1'; allowed"),
        (["nan"], r"--scale: 'nan'; allowed"),
        (["C=1"], r"--scale: 'C=1', but C is not asked for; allowed: A, B; add --source C"),
    ],
)
def test_a_size_that_is_none_is_refused(scales, message):
    with pytest.raises(InputError, match=message):
        at_scales([A, B], scales)


def test_sizes_for_all_or_for_one():
    assert [(s.name, s.scale) for s in at_scales([A, B], ["0.25,4", "B=1.5"])] == [
        ("A", 0.25),
        ("A", 4.0),
        ("B", 1.5),
    ]


@pytest.mark.parametrize("quality", ["30/1", "30/5", "30/x", "/2", "30/2/2"])
def test_a_picture_is_shrunk_two_to_four_times(quality):
    with pytest.raises(InputError, match=r"or such a number followed by /2, /3 or /4"):
        build_grid([A], ["libx264"], [quality])


# --- encoders and FFmpeg of this machine ----------------------------------------------------------


def test_an_encoder_that_cannot_run_says_why_in_one_line():
    with pytest.raises(EncodeError, match=rf"^{NOT_HERE}: cannot run here \(.+\)") as caught:
        probe_encoder(FFMPEG, NOT_HERE)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    if NOT_HERE == "h264_videotoolbox":
        assert "Unknown encoder 'h264_videotoolbox'" in str(caught.value)
        assert "a machine with Apple support for it" in str(caught.value)


def test_encoders_that_can_run_go_on():
    said: list[str] = []
    versions = usable_encoders(FFMPEG, ["libx264", NOT_HERE, "libvvenc"], said.append)
    assert list(versions) == ["libx264", "libvvenc"]
    assert versions["libx264"].startswith("core ")
    [line] = said
    assert line.startswith(f"left out: {NOT_HERE}: cannot run here")


def test_without_any_encoder_all_reasons_are_given():
    said: list[str] = []
    with pytest.raises(EncodeError, match=f"^{NOT_HERE}: cannot run here"):
        usable_encoders(FFMPEG, [NOT_HERE], said.append)
    other = NOT_HERE.replace("h264", "hevc")
    with pytest.raises(EncodeError) as caught:
        usable_encoders(FFMPEG, [NOT_HERE, other], said.append)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [NOT_HERE, other]
    assert said == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho hello\n", "not FFmpeg"),
        ("#!/bin/sh\necho ffmpeg version 7.1 --disable-libvmaf\n", "built without libvmaf"),
    ],
)
def test_a_program_that_is_not_ffmpeg_with_libvmaf_is_refused(tmp_path, script, reason):
    program = tmp_path / "ffmpeg"
    program.write_text(script)
    program.chmod(0o755)
    with pytest.raises(EncodeError, match=reason):
        ffmpeg_version(str(program))


def test_a_path_without_a_program_is_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(EncodeError, match=r"cannot be run .*check --ffmpeg"):
            ffmpeg_version(str(path))


# --- sources --------------------------------------------------------------------------------------


def test_clips_are_named_by_the_manifest_or_by_their_file(clips, tmp_path):
    listed = [{"name": "Famous", "sha256": sha256_of(clips[0]), "licence": "CC0"}]
    write_json(tmp_path / "m.json", listed)
    named = find_sources([str(c) for c in clips], str(tmp_path / "m.json"))
    assert [s.name for s in named] == ["Famous", "Fractal"]
    assert named[0] == Source("Famous", str(clips[0]), sha256_of(clips[0]))


def test_two_clips_of_one_name_are_refused(clips, tmp_path):
    twin = make_clip(tmp_path / "Pattern.nut", frames=2)
    with pytest.raises(InputError, match="two clips named Pattern"):
        find_sources([str(clips[0]), str(twin)])


def test_a_missing_clip_and_a_bad_manifest_are_refused(clips, tmp_path):
    with pytest.raises(InputError, match=r"none\.mkv: no such file"):
        find_sources([str(tmp_path / "none.mkv")])
    with pytest.raises(ArtefactError, match=r"none\.json: missing"):
        find_sources([str(clips[0])], str(tmp_path / "none.json"))
    for content in ({"name": "a"}, [{"name": "a"}], [{"sha256": "a"}], ["a"], 3):
        write_json(tmp_path / "m.json", content)
        with pytest.raises(InputError, match="not a manifest"):
            find_sources([str(clips[0])], str(tmp_path / "m.json"))


# --- grid -----------------------------------------------------------------------------------------


def test_values_per_encoder():
    both = ["libx264", "libvvenc"]
    assert per_name(["30,35", "40"], both, "--quality", "--encoder") == {
        "libx264": ["30", "35", "40"],
        "libvvenc": ["30", "35", "40"],
    }
    assert per_name(["30", "libvvenc=1", "libvvenc=2"], both, "--quality", "--encoder") == {
        "libx264": ["30"],
        "libvvenc": ["1", "2"],
    }
    assert per_name([], both, "--preset", "--encoder") == {"libx264": [], "libvvenc": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("libx265=30", r"--quality: 'libx265=30', but libx265 is not asked for.*--encoder libx265"),
        ("libx256=30", r"'libx256' is not in the vocabulary"),
        ("=30", r"'' is not in the vocabulary"),
    ],
)
def test_values_for_encoders_that_are_not_asked_for_are_refused(value, message):
    with pytest.raises(InputError, match=message):
        per_name([value], ["libx264"], "--quality", "--encoder")


A, B = Source("A", "a.mkv", "0" * 64), Source("B", "b.mkv", "1" * 64)


def test_grid_goes_source_by_source_and_holds_each_cell_once():
    grid = build_grid(
        [B, A], ["libsvtav1", "libx264"], ["30", "libx264=20,20.0,21.5"], ["libx264=slow"]
    )
    assert [c.key for c in grid] == [
        ("B", "libsvtav1", "8", 30.0, 1.0, 1.0),
        ("B", "libx264", "slow", 20.0, 1.0, 1.0),
        ("B", "libx264", "slow", 21.5, 1.0, 1.0),
        ("A", "libsvtav1", "8", 30.0, 1.0, 1.0),
        ("A", "libx264", "slow", 20.0, 1.0, 1.0),
        ("A", "libx264", "slow", 21.5, 1.0, 1.0),
    ]
    # Whole numbers stay whole in the corpus.
    assert [type(c.quality) for c in grid[:3]] == [int, int, float]


@pytest.mark.parametrize(
    ("encoders", "quality", "preset", "every", "message"),
    [
        (["libx246"], ["30"], [], 1, "not in the vocabulary"),
        (["libx264"], [], [], 1, r"libx264: no quality value; allowed: 0\.\.51"),
        (["libx264", "libvvenc"], ["libx264=30"], [], 1, "libvvenc: no quality value"),
        (["libx264"], ["52"], [], 1, r"quality 52; allowed: 0\.\.51"),
        (["libx264"], ["-1"], [], 1, "quality -1"),
        (["libx264"], ["high"], [], 1, r"libx264 --quality: 'high'; allowed: 0\.\.51"),
        (["libx264"], ["30,"], [], 1, "libx264 --quality: ''"),
        (["libx264"], ["nan"], [], 1, "quality nan"),
        (["libx264"], ["inf"], [], 1, "quality inf"),
        (["h264_qsv"], ["0"], [], 1, r"quality 0; allowed: 1\.\.51"),
        (["libvvenc"], ["30"], ["medium,quick"], 1, "libvvenc preset: 'quick'"),
        (["libx264"], ["30"], [], 0, "--every: 0; allowed: 1 or more"),
    ],
)
def test_a_grid_that_cannot_be_encoded_is_refused_without_any_source(
    encoders, quality, preset, every, message
):
    with pytest.raises(InputError, match=message):
        build_grid([], encoders, quality, preset, every)


# --- provenance -----------------------------------------------------------------------------------


def test_provenance(made, cells, clips, tmp_path):
    out = made[0]
    origin = {"repo": "owner/name", "path": "a/b.y4m", "commit": "c" * 40, "licence": "CC0-1.0"}
    write_json(tmp_path / "m.json", [{"name": "Pattern", "sha256": sha256_of(clips[0]), **origin}])
    versions = {"libx264": "core 165", "libvvenc": "1.15.0"}
    command = ["python", "-m", "fr_lib", "corpus", "--out", "a b.jsonl.gz"]
    path = write_provenance(out, cells, versions, FFMPEG, command, str(tmp_path / "m.json"))
    assert path == out.with_name("made.provenance.json")
    facts = json.loads(path.read_text())
    assert facts["corpus"] == {"file": out.name, "sha256": sha256_of(out), "rows": 27}
    assert facts["command"] == "python -m fr_lib corpus --out 'a b.jsonl.gz'"
    assert (facts["teacher"], facts["scored_by"]) == ("vmaf_v0.6.1", ["vmaf_v0.6.1"])
    assert facts["scales"] == {"Pattern": [1.0], "Fractal": [1.0]}
    assert facts["ffmpeg_version"] == ffmpeg_version(FFMPEG)
    assert facts["libvmaf_version"] == sorted(set(read_table(out)["libvmaf_version"]))
    assert facts["frames_kept"] == "0, 3, 6, ... of every clip"
    pattern, fractal = facts["sources"]
    assert pattern == pattern | {"name": "Pattern", "sha256": sha256_of(clips[0])} | origin
    assert (fractal["name"], fractal["repo"]) == ("Fractal", None)
    assert facts["encoders"] == [
        {
            "encoder": "libx264",
            "version": "core 165",
            "presets": ["medium"],
            "quality_option": "-crf",
            "quality": [30, 43],
            "shrunk": [],
            "options": ["-c:v", "libx264", "-preset", "medium", "-crf", "30"],
        },
        {
            "encoder": "libvvenc",
            "version": "1.15.0",
            "presets": ["faster"],
            "quality_option": "-qp",
            "quality": [24],
            "shrunk": [],
            "options": "-c:v libvvenc -pix_fmt yuv420p10le -preset faster -qp 24".split(),
        },
    ]
    path.unlink()
