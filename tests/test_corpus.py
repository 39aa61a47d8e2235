"""The loader: both row shapes, three file types, every bad row and every bad file."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from fr_lib.corpus import SUFFIXES, V061, load_corpus, read_table, write_table
from fr_lib.corpus.teachers import TEACHERS
from fr_lib.errors import CorpusError, InputError
from fr_lib.schema import CANONICAL_6, ENCODER_VOCAB_V2, N_CODEC_BLOCK, NEWEST_VOCAB

FEATURES = dict(zip(CANONICAL_6, (0.97, 0.71, 0.92, 0.95, 0.96, 3.5), strict=True))


def frame_row(**changes):
    row = {
        "src": "Tennis", "encoder": "h264_nvenc", "preset": "p4", "cq": 25, "frame_index": 0,
        "vmaf": 88.5, **FEATURES, "teacher": V061.name,
    }  # fmt: skip
    return {k: v for k, v in (row | changes).items() if v is not ...}


def encode_row(**changes):
    row = {
        "schema_version": 3, "src": "Tennis", "encoder": "libx264", "preset": "medium", "crf": 23,
        "vmaf_score": 90.25, "exit_status": 0, "vmaf_model": V061.name,
        **{f"{n}_mean": v for n, v in FEATURES.items()},
        **{f"{n}_std": 0.01 for n in FEATURES},
    }  # fmt: skip
    return {k: v for k, v in (row | changes).items() if v is not ...}


@pytest.fixture
def save(tmp_path):
    """Write rows as they are, NaN included, and return the path."""

    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def faults_of(path):
    with pytest.raises(CorpusError) as caught:
        load_corpus(path)
    head, *faults = str(caught.value).split("\n- ")
    assert head.startswith(f"{path}: {len(faults)} structural fault")
    return faults


def good_then(*bad):
    """Two good rows, then rows of the same source that each change something."""
    rows = [frame_row(frame_index=i) for i in range(2)]
    return rows + [frame_row(**({"frame_index": 2 + i} | b)) for i, b in enumerate(bad)]


# --- what a good file becomes ---------------------------------------------------------------------


def test_per_frame_rows(save):
    rows = [frame_row(frame_index=i, vmaf=80 + i, enc_bytes=100) for i in range(3)]
    path = save(rows)
    corpus = load_corpus(path)
    assert (corpus.shape, corpus.name, corpus.teacher) == ("frame", "rows.jsonl", V061.name)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (corpus.n_rows_read, corpus.dropped, corpus.notes) == (3, [], [])
    assert list(corpus.table) == [
        "src", "encoder", "preset", "preset_ordinal", "quality", "frame_index", "vmaf",
        *CANONICAL_6, "teacher", "enc_bytes",
    ]  # fmt: skip
    assert corpus.table["vmaf"].tolist() == [80, 81, 82]
    assert corpus.table["preset_ordinal"].tolist() == [5.0] * 3
    assert corpus.table["frame_index"].dtype == np.int64


def test_per_encode_rows_use_the_means(save):
    corpus = load_corpus(save([encode_row(), encode_row(crf=30, vmaf_score=80.0)]))
    assert corpus.shape == "encode"
    assert corpus.teacher == V061.name
    assert corpus.table["frame_index"].tolist() == [-1, -1]
    assert corpus.table["quality"].tolist() == [23.0, 30.0]
    assert corpus.table["vmaf"].tolist() == [90.25, 80.0]
    np.testing.assert_array_equal(corpus.features()[0], np.float32(list(FEATURES.values())))


def test_arrays(save):
    rows = [
        frame_row(src="B", vmaf=50.0, cq=21),
        frame_row(src="A", encoder="libsvtav1", preset=13, cq=63),
    ]
    corpus = load_corpus(save(rows))
    features, target, block = corpus.features(), corpus.target(), corpus.codec_block()
    assert [a.dtype for a in (features, target, block)] == [np.float32] * 3
    assert (features.shape, target.shape, block.shape) == ((2, 6), (2,), (2, N_CODEC_BLOCK))
    assert corpus.codec_block(vocab=ENCODER_VOCAB_V2).shape == (2, len(ENCODER_VOCAB_V2) + 2)
    assert target.tolist() == [50.0, 88.5]
    assert np.flatnonzero(block[0]).tolist() == [3, N_CODEC_BLOCK - 2, N_CODEC_BLOCK - 1]
    assert block[1, [13, -2, -1]].tolist() == [1.0, 0.0, 1.0]
    assert corpus.groups().tolist() == ["B", "A"]
    assert corpus.sources() == ["A", "B"]


def test_counts_cover_all_slots(save):
    rows = [frame_row(frame_index=i) for i in range(3)] + [frame_row(src="Fox", encoder="av1_qsv",
                                                                     preset="slow")]  # fmt: skip
    corpus = load_corpus(save(rows))
    slots = corpus.rows_per_slot()
    assert list(slots) == list(NEWEST_VOCAB)
    assert (slots["h264_nvenc"], slots["av1_qsv"], sum(slots.values())) == (3, 1, 4)
    coverage = corpus.coverage()
    assert coverage.shape == (2, len(NEWEST_VOCAB))
    assert coverage.loc["Tennis", "h264_nvenc"] == 3
    assert coverage.loc["Fox", "h264_nvenc"] == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_rows_from_each_file_type(suffix, tmp_path, save):
    rows = [frame_row(frame_index=i, src=s) for s in ("b", "a") for i in range(4)]
    path = tmp_path / f"corpus{suffix}"
    write_table(pd.DataFrame(rows), path)
    corpus = load_corpus(path)
    pd.testing.assert_frame_equal(corpus.table, load_corpus(save(rows)).table)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_rows_give_the_same_bytes(suffix, tmp_path):
    paths = [tmp_path / f"{n}{suffix}" for n in "ab"]
    for path in paths:
        write_table(pd.DataFrame([frame_row()]), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_parquet_columns_of_other_types(tmp_path):
    """Dictionary text, narrow and nullable numbers, and columns that nobody asked for."""
    table = pd.DataFrame([frame_row(frame_index=i) for i in range(3)])
    table = table.astype({"src": "category", "encoder": "category", "cq": "int8",
                          "adm2": "float32", "frame_index": "Int32"})  # fmt: skip
    table["thumbnail"] = [b"\x00" * 100] * 3
    table.to_parquet(tmp_path / "c.parquet")
    corpus = load_corpus(tmp_path / "c.parquet")
    assert len(corpus.table) == 3
    assert corpus.table["src"].dtype == "str"
    assert corpus.table["adm2"].dtype == np.float64
    assert "thumbnail" not in corpus.table


@pytest.mark.parametrize(("names", "value"), [(("cq", "crf"), 30), (("vmaf", "vmaf_score"), 77.5)])
def test_either_name_or_both_when_equal(names, value, save):
    first, second = names
    rows = [
        frame_row(frame_index=0, **{first: value, second: ...}),
        frame_row(frame_index=1, **{first: ..., second: value}),
        frame_row(frame_index=2, **{first: value, second: value}),
    ]
    corpus = load_corpus(save(rows))
    assert corpus.table["quality" if first == "cq" else "vmaf"].tolist() == [value] * 3


def test_missing_preset_is_the_default_with_a_note(save):
    rows = [
        frame_row(frame_index=0, preset=...),
        frame_row(frame_index=1, preset=None),
        frame_row(frame_index=2, preset=""),
        frame_row(encoder="libsvtav1", preset=...),
    ]
    corpus = load_corpus(save(rows))
    assert corpus.table["preset"].tolist() == ["p4", "p4", "p4", "8"]
    assert corpus.notes == [
        "h264_nvenc: 3 rows without a preset; its default 'p4' was taken.",
        "libsvtav1: 1 row without a preset; its default '8' was taken.",
    ]


@pytest.mark.parametrize("preset", [4, 4.0, "4"])
def test_numeric_presets(preset, save, tmp_path):
    row = frame_row(encoder="libaom-av1", preset=preset)
    pd.DataFrame([row]).to_parquet(tmp_path / "p.parquet")
    for path in (save([row]), tmp_path / "p.parquet"):
        table = load_corpus(path).table
        assert table["preset"].tolist() == ["4"]
        assert table["preset_ordinal"].tolist() == [4.5]


def test_unstamped_rows_are_noted(save):
    corpus = load_corpus(save([frame_row(teacher=...)]))
    assert corpus.teacher is None
    assert "teacher" not in corpus.table
    assert corpus.notes == ["No row names its teacher; vmaf_v0.6.1 is assumed."]
    corpus = load_corpus(save(good_then({"teacher": None})))
    assert corpus.teacher == V061.name
    assert corpus.notes == ["Teacher not named on 1 row; vmaf_v0.6.1 is assumed."]


def test_a_row_is_stamped_by_either_of_the_two_columns(save):
    corpus = load_corpus(save(good_then({"teacher": ..., "vmaf_model": V061.name})))
    assert corpus.teacher == V061.name
    assert corpus.table["teacher"].tolist() == [V061.name] * 3
    assert corpus.notes == []


# --- rows that are dropped ------------------------------------------------------------------------

BAD_ROWS = [
    ({"exit_status": 1}, "exit_status is not 0"),
    ({"cq": None}, "quality is null"),
    ({"cq": 52}, "quality outside the encoder's range"),
    ({"cq": -1}, "quality outside the encoder's range"),
    ({"adm2": float("nan")}, "feature is not finite"),
    ({"motion2": float("inf")}, "feature is not finite"),
    ({"vif_scale3": None}, "feature is not finite"),
    ({"vif_scale0": ...}, "feature is not finite"),
    ({"vmaf": None}, "target is not finite"),
    ({"vmaf": float("-inf")}, "target is not finite"),
    ({"vmaf": 100.0001}, "target outside 0..100"),
    ({"vmaf": -0.0001}, "target outside 0..100"),
    ({"frame_index": None}, "frame_index is not a whole number from 0 to 2^53"),
    ({"frame_index": 1.5}, "frame_index is not a whole number from 0 to 2^53"),
    ({"frame_index": -1}, "frame_index is not a whole number from 0 to 2^53"),
    ({"frame_index": 1}, "duplicate key (the first row is kept)"),
    ({"frame_index": 1, "vmaf": 3.0}, "duplicate key (the first row is kept)"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_ROWS)
def test_bad_row_is_dropped_with_its_reason(change, reason, save):
    corpus = load_corpus(save(good_then(change)))
    assert corpus.dropped == [{"reason": reason, "count": 1, "examples": [3]}]
    assert (corpus.n_rows_read, len(corpus.table)) == (3, 2)
    assert corpus.table["vmaf"].tolist() == [88.5, 88.5]


@pytest.mark.parametrize(
    "change", [{"exit_status": 0}, {"cq": 0}, {"cq": 51}, {"vmaf": 0}, {"vmaf": 100}]
)
def test_rows_at_the_limits_stay(change, save):
    corpus = load_corpus(save(good_then(change)))
    assert corpus.dropped == []
    assert len(corpus.table) == 3


@pytest.mark.parametrize(
    ("encoder", "inside", "outside"),
    [("libvvenc", 63, 64), ("hevc_qsv", 1, 0), ("h264_videotoolbox", 100, 101)],
)
def test_quality_range_is_the_encoders_own(encoder, inside, outside, save):
    rows = [frame_row(encoder=encoder, preset=None, cq=q) for q in (inside, outside)]
    corpus = load_corpus(save(rows))
    assert corpus.table["quality"].tolist() == [inside]
    assert corpus.dropped[0]["examples"] == [2]


def test_every_reason_at_once_adds_up(save):
    rows = good_then(*(change for change, _ in BAD_ROWS), {"frame_index": 50})
    corpus = load_corpus(save(rows))
    counts = {d["reason"]: d["count"] for d in corpus.dropped}
    assert counts == pd.Series([reason for _, reason in BAD_ROWS]).value_counts().to_dict()
    assert corpus.n_rows_read - sum(counts.values()) == len(corpus.table) == 3


def test_row_with_many_faults_is_counted_once_and_examples_stop_at_five(save):
    wrecks = [{"exit_status": 1, "adm2": None, "vmaf": None, "cq": None}] * 7
    corpus = load_corpus(save(good_then(*wrecks)))
    assert corpus.dropped == [
        {"reason": "exit_status is not 0", "count": 7, "examples": [3, 4, 5, 6, 7]}
    ]


def test_failed_attempt_does_not_push_out_the_good_one(save):
    rows = [encode_row(exit_status=1, vmaf_score=None), encode_row()]
    corpus = load_corpus(save(rows))
    assert len(corpus.table) == 1
    assert corpus.dropped == [{"reason": "exit_status is not 0", "count": 1, "examples": [1]}]


def test_key_is_source_encoder_preset_quality_and_frame(save):
    changes = [{"src": "Fox"}, {"encoder": "av1_nvenc"}, {"preset": "p5"}, {"cq": 26}]
    rows = good_then(*({"frame_index": 0} | change for change in changes))
    assert load_corpus(save(rows)).dropped == []


def test_order_of_the_file_is_kept(save):
    rows = [frame_row(frame_index=i, vmaf=v) for i, v in ((5, 1), (1, 2), (3, 101), (0, 3))]
    assert load_corpus(save(rows)).table["frame_index"].tolist() == [5, 1, 0]


def test_huge_number_is_a_bad_row_and_no_crash(save):
    corpus = load_corpus(save(good_then({"motion2": 10**400})))
    assert corpus.dropped[0]["reason"] == "feature is not finite"


# --- files that are refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([frame_row(adm2=..., cq=...)], "columns: missing adm2, cq or crf; "),
        ([frame_row(src=..., vmaf=...)], "columns: missing src, vmaf or vmaf_score; "),
        ([encode_row(motion2_mean=...)], "columns: missing motion2_mean; "),
        ([{"a": 1}], "columns: missing src, encoder, frame_index, adm2"),
        ([encode_row(schema_version=2)], "schema_version: 2 on 1 row (row 1); allowed: 3; "),
        (good_then({"src": None}), "src: empty on 1 row (row 3)"),
        (good_then({"src": ["a"]}), "src: not text on 1 row (row 3)"),
        (good_then({"encoder": ""}), "encoder: empty on 1 row (row 3)"),
        (good_then({"encoder": 264}), "encoder: not text on 1 row (row 3)"),
        (good_then({"preset": "hq"}), "h264_nvenc preset: 'hq'; allowed: p1 p2"),
        (good_then({"preset": [1]}), "h264_nvenc preset: '[1]'; "),
        (good_then({"vmaf_score": 88.6}), "vmaf and vmaf_score: differ on 1 row (row 3)"),
        (good_then({"crf": 26}), "cq and crf: differ on 1 row (row 3)"),
        (good_then({"adm2": "0.97"}), "adm2: not a number on 1 row (row 3)"),
        (good_then({"adm2": True}), "adm2: not a number on 1 row (row 3)"),
        (good_then({"cq": "25"}), "cq: not a number on 1 row (row 3)"),
        (good_then({"vmaf": {}}), "vmaf: not a number on 1 row (row 3)"),
        (good_then({"exit_status": "0"}), "exit_status: not a number on 1 row (row 3)"),
        (
            [frame_row(), encode_row(), encode_row(crf=30)],
            "row shape: per frame on 1 row (row 1), per encode on 2 rows (row 2, 3); ",
        ),
        (
            good_then({"teacher": "vmaf_v1.0.16"}),
            "teacher: a mixture: vmaf_v0.6.1 on 2 rows (row 1, 2), vmaf_v1.0.16 on 1 row (row 3); ",
        ),
        (
            good_then({"vmaf_model": "vmaf_4k"}),
            "teacher: a mixture: vmaf_4k on 1 row (row 3), vmaf_v0.6.1 on 3 rows (row 1, 2, 3); ",
        ),
        (
            good_then({"teacher": ..., "vmaf_model": "vmaf_4k"}),
            "teacher: a mixture: vmaf_4k on 1 row (row 3), vmaf_v0.6.1 on 2 rows (row 1, 2); ",
        ),
        (
            [frame_row(teacher="vmaf_4k", vmaf_model=V061.name)],
            "teacher: a mixture: vmaf_4k on 1 row (row 1), vmaf_v0.6.1 on 1 row (row 1); ",
        ),
        ([frame_row(teacher=..., vmaf_model="vmaf_4k")], "teacher: vmaf_4k on 1 row (row 1); "),
        ([frame_row(teacher="vmaf_b_v0.6.3")], "teacher: vmaf_b_v0.6.3 on 1 row (row 1); "),
    ],
)  # fmt: skip
def test_structural_fault(rows, expected, save):
    faults = faults_of(save(rows))
    assert any(fault.startswith(expected) for fault in faults), faults


def test_unknown_encoder_once_with_count_and_nearest_slot(save):
    rows = [frame_row(frame_index=i) for i in range(3)]
    rows += [frame_row(encoder="h264_nvnc", frame_index=i) for i in range(7)]
    rows += [frame_row(encoder="libx264rgb"), frame_row(encoder="unknown")]
    faults = faults_of(save(rows))
    assert len(faults) == 3
    assert "'h264_nvnc' is not in the vocabulary" in faults[0]
    assert "did you mean 'h264_nvenc'" in faults[0]
    assert faults[0].endswith("[7 rows (row 4, 5, 6, 7, 8)]")
    assert "did you mean 'libx264'" in faults[1]


def test_all_structural_faults_in_one_error(save):
    rows = [
        frame_row(motion2=...),
        frame_row(motion2=..., encoder="libx266", frame_index=1),
        frame_row(motion2=..., preset="p9", frame_index=2),
        frame_row(motion2=..., vmaf_score=1.0, frame_index=3),
        frame_row(motion2=..., crf=1, frame_index=4),
        frame_row(motion2=..., teacher="other", frame_index=5),
        frame_row(motion2=..., adm2="high", frame_index=6),
        encode_row(),
    ]
    text = "\n".join(faults_of(save(rows)))
    for sign in (
        "row shape", "missing motion2", "libx266", "'p9'", "cq and crf", "vmaf and vmaf_score",
        "adm2: not a number", "teacher: a mixture",
    ):  # fmt: skip
        assert sign in text
    assert len(text.splitlines()) == 8


def test_numeric_text_column_of_a_parquet_file(tmp_path):
    table = pd.DataFrame([frame_row(frame_index=i) for i in range(2)])
    table["vif_scale1"] = table["vif_scale1"].astype(str)
    table.to_parquet(tmp_path / "t.parquet")
    assert faults_of(tmp_path / "t.parquet")[0].startswith("vif_scale1: not a number on 2 rows")


def test_parquet_without_any_known_column(tmp_path):
    pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    assert faults_of(tmp_path / "a.parquet")[0].startswith("columns: missing src, encoder")


def test_lists_in_a_parquet_file(tmp_path):
    table = pd.DataFrame([frame_row(frame_index=i) for i in range(2)])
    table["src"], table["adm2"] = [["a"], ["b"]], [[0.9], [0.8]]
    table.to_parquet(tmp_path / "l.parquet")
    assert [f.split(";")[0] for f in faults_of(tmp_path / "l.parquet")] == [
        "src: not text on 2 rows (row 1, 2)",
        "adm2: not a number on 2 rows (row 1, 2)",
    ]


@pytest.mark.parametrize("name", ["e.jsonl", "e.parquet"])
def test_empty_file(name, tmp_path):
    write_table(pd.DataFrame(columns=["src"]), tmp_path / name)
    assert faults_of(tmp_path / name)[0].startswith("rows: none in the file")


def test_no_rows_left_says_why(save):
    path = save([frame_row(vmaf=101), frame_row(adm2=None), frame_row(adm2=None)])
    assert faults_of(path)[0].startswith(
        "rows: none left (feature is not finite: 2, target outside 0..100: 1)"
    )


def test_missing_file_and_other_suffix(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_corpus(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no such file"):
        load_corpus(tmp_path / "none.parquet")
    (tmp_path / "rows.csv").write_text("src\n")
    with pytest.raises(InputError, match=r"unknown file type; allowed: \.jsonl"):
        load_corpus(tmp_path / "rows.csv")


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl.gz"])
def test_file_that_is_not_what_its_name_says(name, tmp_path):
    (tmp_path / name).write_bytes(b"neither gzip nor Parquet")
    with pytest.raises(CorpusError, match="write it again"):
        load_corpus(tmp_path / name)


def test_truncated_gzip(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    write_table(pd.DataFrame([frame_row(frame_index=i) for i in range(50)]), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="cannot be read"):
        load_corpus(path)


def test_lines_that_are_not_objects_are_named(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text(f"{json.dumps(frame_row())}\n\n[1]\nnot json\n")
    with pytest.raises(CorpusError, match=r"2 lines with no JSON object \(line 3, 4\)"):
        load_corpus(path)


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "u.jsonl").write_bytes(b'{"src": "\xff"}\n')
    with pytest.raises(CorpusError, match=r"1 line with bytes that are not UTF-8 \(line 1\)"):
        read_table(tmp_path / "u.jsonl")


def test_nan_is_never_written(tmp_path):
    path = tmp_path / "n.jsonl"
    path.write_text("kept")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_table(pd.DataFrame([frame_row(adm2=float("nan"))]), path)
    assert path.read_text() == "kept"


# --- more than one teacher ------------------------------------------------------------------------


def test_rows_of_another_known_teacher_are_read_and_never_mixed(save, other_teacher):
    stamped = {"teacher": other_teacher}
    corpus = load_corpus(save([frame_row(**stamped), frame_row(teacher=..., frame_index=1)]))
    assert corpus.taught_by.name == corpus.teacher == other_teacher
    assert corpus.table["teacher"].tolist()[0] == other_teacher
    assert f"Teacher not named on 1 row; {other_teacher} is assumed." in corpus.notes
    mixed = "teacher: a mixture: vmaf_4k_v0.6.1 on 1 row (row 3), vmaf_v0.6.1 on 2 rows (row 1, 2)"
    assert any(fault.startswith(mixed) for fault in faults_of(save(good_then(stamped))))


def test_rows_without_a_stamp_are_v061s(save):
    corpus = load_corpus(save([frame_row(teacher=...)]))
    assert (corpus.teacher, corpus.taught_by) == (None, V061)


def test_a_target_is_held_to_its_teachers_range(save, other_teacher, monkeypatch):
    low = dataclasses.replace(TEACHERS[other_teacher], range=(0.0, 50.0))
    monkeypatch.setitem(TEACHERS, other_teacher, low)
    rows = [frame_row(teacher=other_teacher, frame_index=i, vmaf=v) for i, v in enumerate((50, 51))]
    [dropped] = load_corpus(save(rows)).dropped
    assert (dropped["reason"], dropped["examples"]) == ("target outside 0..50", [2])
