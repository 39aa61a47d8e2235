"""Logs from elsewhere become a corpus: whose scores, which rows, every fault at once."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.logs import log_text, write_logs
from fr_lib.__main__ import main
from fr_lib.corpus import find_provenance, load_corpus, read_log, read_table
from fr_lib.corpus.kept import kept_file
from fr_lib.corpus.listing import match_files, read_list
from fr_lib.errors import InputError
from fr_lib.files import sha256_of
from fr_lib.report.values import clip_figures

FRAMES = 4


def put(folder: Path, *lines: dict, name: str = "table.jsonl") -> Path:
    """Write a table; a line without a path gets a log of its own."""
    folder.mkdir(exist_ok=True)
    for i, line in enumerate(lines):
        if "path" not in line:
            line["path"] = f"{i}.json"
            (folder / line["path"]).write_text(log_text("json", i, FRAMES))
    path = folder / name
    if name.endswith(".csv"):
        header = list(dict.fromkeys(key for line in lines for key in line))
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, header)
            writer.writeheader()
            writer.writerows(lines)
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(quality: object = 30, **more: object) -> dict:
    row = {"src": "clip", "encoder": "h264_nvenc", "preset": "p4", "quality": quality}
    return {key: value for key, value in (row | more).items() if value is not ...}


def rescored(path: Path, **scores: float | None) -> None:
    """Give the frames of a log other scores, by name; one frame has None where a number is odd."""
    log = json.loads(path.read_text())
    for frame in log["frames"]:
        frame["metrics"] |= scores
    path.write_text(json.dumps(log))


def collected(table: Path, name: str = "mine.jsonl", *more: str) -> Path:
    out = table.parent / name
    assert main(["collect", "--table", str(table), "--out", str(out), *more]) == 0
    return out


def faults(table: Path, capsys, name: str = "mine.jsonl") -> list[str]:
    """Return the faults that one report tells; neither corpus nor provenance is there."""
    assert main(["collect", "--table", str(table), "--out", str(table.parent / name)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    told = said.err[said.err.index(f"{table}: ") :].rstrip("\n").split("\n- ")
    assert told[0].startswith(f"{table}: {len(told) - 1} fault")
    assert not list(table.parent.glob("mine.*json*")) or (table.parent / f"{name}.logs").is_dir()
    assert not (table.parent / name).exists()
    return told[1:]


# --- rows -----------------------------------------------------------------------------------------


def test_rows_are_sorted_and_whole_and_the_same_in_every_file(tmp_path):
    table = write_logs(tmp_path / "box", 6, FRAMES, ("json", "xml", "csv"))
    tables = [read_table(collected(table, name)) for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")]
    for other in tables[1:]:
        assert other.to_dict("list") == tables[0].to_dict("list")
    assert len(tables[0]) == 6 * FRAMES
    assert tables[0]["cq"].tolist() == sorted(tables[0]["cq"])
    log = read_log(table.parent / "logs" / "00003.json")
    mine = tables[0].query("cq == 3")
    assert np.array_equal(mine[["adm2", "motion2"]], log.features[:, [0, 5]])
    assert mine["vmaf"].tolist() == log.vmaf.tolist()
    assert mine["enc_bytes"].tolist() == [9003] * FRAMES


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    table = write_logs(tmp_path / "box", 70, 2)
    one, two = (collected(table, f"{n}.jsonl.gz", "--workers", str(n)).read_bytes() for n in (1, 2))
    assert one == two


def test_a_csv_and_json_lines_say_the_same(tmp_path):
    more = {"enc_bytes": 7, "enc_time_ms": 2.5, "src_sha256": "00", "width": 64, "height": 32}
    lines = [line(28, **more), line(29.5, preset=...), line(20, encoder="libaom-av1", preset=4)]
    one = collected(put(tmp_path / "a", *map(dict, lines)))
    two = collected(put(tmp_path / "b", *map(dict, lines), name="table.csv"))
    assert one.read_bytes() == two.read_bytes()
    rows = read_table(one)
    assert rows["preset"].drop_duplicates().tolist() == ["p4", "4"]
    assert rows["cq"].drop_duplicates().tolist() == [28.0, 29.5, 20.0]
    assert rows["width"].isna().sum() == 2 * FRAMES


def test_columns_of_a_row_stand_as_the_makers(tmp_path):
    more = {"src_sha256": "00", "enc_time_ms": 9, "ffmpeg_version": "7", "enc_bytes": 5}
    rows = read_table(collected(put(tmp_path, line(**more, height=32, width=64))))
    features = "adm2 vif_scale0 vif_scale1 vif_scale2 vif_scale3 motion2"
    before, after = "src encoder preset cq frame_index vmaf", "enc_bytes enc_time_ms teacher"
    versions = "ffmpeg_version libvmaf_version src_sha256 width height"
    assert list(rows) == f"{before} {features} {after} {versions}".split()
    assert rows["libvmaf_version"].tolist() == ["3.0.0"] * FRAMES


def test_words_of_vmaf_tune_are_the_presets_that_ran(tmp_path):
    table = put(tmp_path, line(30, preset="medium"), line(31, preset="slow"))
    assert read_table(collected(table))["preset"].drop_duplicates().tolist() == ["p4", "p5"]


def test_two_sizes_of_one_encode_are_two(tmp_path):
    sizes = [line(width=w, height=w // 2) for w in (128, 64)]
    rows = read_table(collected(put(tmp_path, *sizes)))
    assert rows["width"].tolist() == [64] * FRAMES + [128] * FRAMES


def test_frames_without_a_score_are_left_out_and_counted(tmp_path, capsys):
    table = put(tmp_path, line())
    text = (tmp_path / "0.json").read_text()
    head, mark, tail = text.rpartition('"vmaf": ')
    (tmp_path / "0.json").write_text(f"{head}{mark}nan{tail[tail.index(chr(10)) :]}")
    out = collected(table)
    assert read_table(out)["frame_index"].tolist() == [0, 1, 2]
    assert "3 rows, 1 frame without a score left out" in capsys.readouterr().out
    assert find_provenance(out)["logs"][0]["frames_without_score"] == 1


# --- whose scores ---------------------------------------------------------------------------------


def test_each_other_teachers_score_stands_in_a_column_of_its_name(tmp_path):
    table = put(tmp_path, line(30), line(31))
    rescored(tmp_path / "1.json", **{"vmaf_v0.6.1neg": 12.5, "vmaf_4k": 3.0})
    for name in ("mine.jsonl", "mine.parquet"):
        rows = read_table(collected(table, name))
        assert list(rows)[-1] == "vmaf_v0.6.1neg"
        assert rows["vmaf_v0.6.1neg"].isna().tolist() == [True] * FRAMES + [False] * FRAMES
        assert set(rows["teacher"]) == {"vmaf_v0.6.1"}


def test_a_table_may_name_another_target(tmp_path, other_teacher):
    table = put(tmp_path, line(30, teacher=other_teacher), line(31, teacher=other_teacher))
    rescored(tmp_path / "0.json", **{other_teacher: 12.5})
    rescored(tmp_path / "1.json", vmaf=99.0)
    out = collected(table)
    rows = read_table(out)
    assert rows["vmaf"].tolist() == [12.5] * FRAMES + [99.0] * FRAMES
    assert set(rows["teacher"]) == {other_teacher}
    formula = read_log(tmp_path / "0.json").vmaf.tolist()
    assert rows["vmaf_v0.6.1"].tolist()[:FRAMES] == formula
    assert rows["vmaf_v0.6.1"].isna().tolist()[FRAMES:] == [True] * FRAMES
    assert [log["teacher_by"] for log in find_provenance(out)["logs"]] == ["table", "table"]


def test_scores_whose_teacher_is_not_known_are_faults(tmp_path, capsys, other_teacher):
    named = line(32, teacher=other_teacher)
    table = put(tmp_path, line(30), line(31), named, line(33, teacher="vmaf_v0.6.1"), line(34))
    rescored(tmp_path / "0.json", vmaf=101.0)
    rescored(tmp_path / "3.json", vmaf=101.0)
    log = json.loads((tmp_path / "4.json").read_text())
    for frame in log["frames"]:
        frame["metrics"]["vmaf_hd"] = frame["metrics"].pop("vmaf") + 9
    (tmp_path / "4.json").write_text(json.dumps(log))
    first, second, third, fourth = faults(table, capsys)
    assert first.startswith("line 1: 0.json: score vmaf is ")
    assert "off the formula of vmaf_v0.6.1" in first
    assert second.startswith(f"line 3: 2.json: no score of {other_teacher} (it has vmaf); ")
    assert third.startswith("line 4: 3.json: score vmaf is ")
    assert fourth.startswith("line 5: 4.json: no score of vmaf_v0.6.1 (it has vmaf_hd); ")


def test_one_corpus_has_one_teacher(tmp_path, capsys, other_teacher):
    table = put(tmp_path, line(30), line(31, teacher=other_teacher))
    rescored(tmp_path / "1.json", vmaf=99.0)
    (fault,) = faults(table, capsys)
    assert fault.startswith(f"line 2: its teacher is {other_teacher}, the first line's vmaf_v0.6.1")


# --- faults ---------------------------------------------------------------------------------------

BAD = [
    (line(src=...), "no src; allowed: "),
    (line(src=7), "src is 7; allowed: text"),
    (line(encoder="h264_nvnc"), "encoder: 'h264_nvnc' is not in the vocabulary; "),
    (line(quality=...), "no quality; allowed: a number"),
    (line("good"), "quality is good; allowed: a number"),
    (line(52), "h264_nvenc -cq: quality 52; allowed: 0..51"),
    (line(True), "quality is True; "),
    (line(preset="p8"), "h264_nvenc preset: 'p8'; allowed: p1 p2"),
    (
        line(encoder="hevc_videotoolbox", preset="fast"),
        "hevc_videotoolbox preset: 'fast', in vmaf-tune -realtime 1",
    ),
    (line(teacher="vmaf_v9"), "teacher: vmaf_v9; allowed: vmaf_v0.6.1"),
    (line(enc_bytes=1.5), "enc_bytes is 1.5; allowed: a whole number from 0"),
    (line(enc_time_ms=-1), "enc_time_ms is -1; allowed: a number"),
    (line(width=64), "width or height alone; "),
    (line(path="gone.json"), "gone.json: no such file; "),
    (line(path="."), ".: a folder; "),
    (line(path="no.json"), "no log; allowed: a log of libvmaf"),
]  # fmt: skip


def test_every_fault_is_told_at_once_with_its_line(tmp_path, capsys):
    (tmp_path / "no.json").write_text("VMAF score: 97.4\n")
    rows = [row for bad, _ in BAD for row in (line(len(str(bad)) % 50), bad)]
    good = [dict(row) | {"src": f"clip{i}"} for i, row in enumerate(rows)][::2]
    rows[::2] = good
    told = faults(put(tmp_path, *map(dict, rows)), capsys)
    expected = [(f"line {2 * i + 2}: ", said) for i, (_, said) in enumerate(BAD)]
    assert len(told) == len(expected)
    for fault, (where, said) in zip(told, expected, strict=True):
        assert fault.startswith(where)
        assert said in fault


def test_what_two_lines_cannot_both_say_is_a_fault(tmp_path, capsys):
    table = put(
        tmp_path,
        line(30, src_sha256="aa"), line(30), line(31, path="0.json"), line(32, src_sha256="bb"),
    )  # fmt: skip
    assert [fault.split("; ")[0] for fault in faults(table, capsys)] == [
        "line 2: clip h264_nvenc p4 30 stands on line 1 too",
        "line 3: 0.json stands on line 1 too",
        "line 4: another src_sha256 of clip than above",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "path,src,encoder\n", "no column quality; allowed: path, src"),
        ("t.csv", "path,src,encoder,quality,presset\n", "unknown column presset; "),
        ("t.csv", "path,src,src,encoder,quality\n", "a column twice"),
        ("t.csv", "path,src,encoder,quality\n", "no lines; allowed: a log in each"),
        ("t.jsonl", '{"path": "a"}\n', "no column src, encoder, quality; allowed: "),
        ("t.jsonl", "", "no lines; "),
        ("t.txt", "", "unknown file type; allowed: .csv, .jsonl"),
        ("none.csv", None, "no such file; allowed: a table of logs"),
    ],
)
def test_a_file_that_is_no_table(tmp_path, capsys, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    ended = main(["collect", "--table", str(tmp_path / name), "--out", str(tmp_path / "o.jsonl")])
    assert ended == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("o.*"))


def test_lines_of_another_shape_are_told_by_number(tmp_path):
    (tmp_path / "t.csv").write_text("path,src,encoder,quality\na.json,clip\n\nb,clip,libx264,3,4\n")
    _, short = read_list(tmp_path / "t.csv")
    assert [fault.split(";")[0] for fault in short] == [
        "line 2: 2 fields, the header 4",
        "line 4: 5 fields, the header 4",
    ]
    good = json.dumps(line(path="t.csv"))
    (tmp_path / "t.jsonl").write_text(f'{good}\n[1]\n\n{{"path": 1, "path": 2}}\n')
    entries, odd = read_list(tmp_path / "t.jsonl")
    assert len(entries) == 1
    assert [fault.split(";")[0] for fault in odd] == [
        "line 2: no JSON object",
        "line 4: the key path twice",
    ]


def test_neither_table_nor_log_is_written_over(tmp_path, capsys):
    table = put(tmp_path, line())
    for out in (table, table.with_suffix("")):
        assert main(["collect", "--table", str(table), "--out", str(out)]) == 2
    assert "which this command writes anew" in capsys.readouterr().err
    assert read_list(table)[1] == []


# --- patterns -------------------------------------------------------------------------------------


def test_a_pattern_reads_names_that_hold_what_stands_between(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a_b_h264_nvenc_p4_30", "a_h264_amf_balanced_1.5", "a_libx264_slow_7"):
        (tmp_path / f"{name}.csv").touch()
    entries, faults = match_files("{src}_{encoder}_{preset}_{quality}.*")
    assert faults == []
    assert [(e.src, e.encoder, e.preset, e.quality) for e in entries] == [
        ("a_b", "h264_nvenc", "p4", 30),
        ("a", "h264_amf", "balanced", 1.5),
        ("a", "libx264", "slow", 7),
    ]


def test_what_fits_no_pattern_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a-libx264-7.csv", "a-librav1e-7.csv", "a-libx264-99.csv", "a-libx264-x.csv"):
        (tmp_path / name).touch()
    entries, faults = match_files("{src}-{encoder}-{quality}.csv")
    assert [e.listed for e in entries] == ["a-libx264-7.csv"]
    assert [fault.split("; ")[0] for fault in faults] == [
        "a-librav1e-7.csv: does not fit the pattern",
        "a-libx264-x.csv: does not fit the pattern",
        "a-libx264-99.csv: libx264 -crf: quality 99",
    ]
    for pattern, said in (
        ("{src}-{encoder}", "no column quality"),
        ("{src}-{encoder}-{quality}-{crf}", "unknown column crf"),
        ("{src}-{src}-{encoder}-{quality}", "a column twice"),
        ("x{src}-{encoder}-{quality}", "no such file"),
    ):
        with pytest.raises(InputError, match=said):
            match_files(pattern)


# --- going on, and provenance ---------------------------------------------------------------------


def test_logs_that_were_read_are_kept_under_their_hash_and_not_read_again(tmp_path, capsys):
    table = put(tmp_path, line(30), line(31), line(32))
    good = (tmp_path / "1.json").read_text()
    (tmp_path / "1.json").write_text(good[:-20])
    (fault,) = faults(table, capsys)
    assert "1.json: broken JSON" in fault
    folder = tmp_path / "mine.jsonl.logs"
    first, third = (kept_file(folder, sha256_of(tmp_path / f"{i}.json")) for i in (0, 2))
    assert {*folder.iterdir()} == {first, third}
    # What is kept is what is used.
    first.write_bytes(third.read_bytes())
    (tmp_path / "1.json").write_text(good)
    rows = read_table(collected(table))
    assert rows.query("cq == 30")["adm2"].tolist() == rows.query("cq == 32")["adm2"].tolist()
    assert not folder.exists()


def test_provenance_names_every_log_and_the_table(tmp_path):
    table = put(tmp_path, line(31, ffmpeg_version="7.1"), line(30, src_sha256="00"))
    out = collected(table)
    made = find_provenance(out)
    assert made["corpus"] == {"file": out.name, "sha256": sha256_of(out), "rows": 2 * FRAMES}
    assert made["table"] == {"file": table.name, "sha256": sha256_of(table)}
    assert made["command"].startswith("python -m fr_lib")
    assert (made["teacher"], made["libvmaf_version"]) == ("vmaf_v0.6.1", ["3.0.0"])
    assert [(log["file"], log["quality"], log["teacher_by"]) for log in made["logs"]] == [
        ("1.json", 30, "formula"),
        ("0.json", 31, "formula"),
    ]
    text = (tmp_path / "1.json").read_bytes()
    assert made["logs"][0]["sha256"] == hashlib.sha256(text).hexdigest()
    assert made["encoders"][0]["quality"] == [30, 31]
    # The card shows ranges of clips only where they are known.
    assert clip_figures(made) is None
    assert load_corpus(out).teacher == "vmaf_v0.6.1"
