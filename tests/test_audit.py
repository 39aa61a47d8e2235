"""The audit: counts, coverage in words, the teacher's check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import rows_of

from fr_lib.corpus import audit_corpus, load_corpus, write_table
from fr_lib.corpus.audit import coverage_statement, teacher_check
from fr_lib.files import ROOT, json_text
from fr_lib.schema import ADAPTERS, CANONICAL_6, N_CODEC_BLOCK, NEWEST_VOCAB

DATA = Path(__file__).parent / "data"
SHIPPED = ROOT / "data" / "corpus.jsonl.gz"
SOFTWARE = [e for e in NEWEST_VOCAB if not ADAPTERS[e].hardware]
HARDWARE = [e for e in NEWEST_VOCAB if ADAPTERS[e].hardware]


# --- counts ---------------------------------------------------------------------------------------


def test_report_of_the_nvenc_fixture():
    corpus = load_corpus(DATA / "nvenc_only.jsonl")
    report = audit_corpus(corpus)
    json_text(report)
    assert set(report) == {
        "identity", "sources", "cells", "rows_per_slot", "trained_slots", "empty_slots", "families",
        "lift_measurable", "coverage", "coverage_statement", "saturation", "constant_columns",
        "teacher_check", "duplicates", "titles", "source_groups",
    }  # fmt: skip
    identity = report["identity"]
    assert identity["sha256"] == corpus.sha256
    assert (identity["n_rows_read"], identity["n_rows_kept"]) == (480, 480)
    assert (identity["name"], identity["shape"]) == ("nvenc_only.jsonl", "frame")
    assert report["trained_slots"] == ["h264_nvenc", "hevc_nvenc"]
    assert len(report["empty_slots"]) == len(NEWEST_VOCAB) - 2
    assert report["families"] == ["h264", "hevc"]
    assert report["lift_measurable"] is False
    assert report["teacher_check"]["n_disagree"] == 0
    assert report["duplicates"] == report["titles"] == []


def test_cells_and_sources_hold_the_ranges_of_their_rows(load):
    table = rows_of(["libx264", "libvvenc"], [20, 30, 40])
    corpus = load(table)
    report = audit_corpus(corpus)
    assert len(report["sources"]) == 3
    assert len(report["cells"]) == 6
    cell = report["cells"][0]
    mine = table[(table["src"] == cell["src"]) & (table["encoder"] == cell["encoder"])]
    assert (cell["n_rows"], cell["n_qualities"]) == (12, 3)
    assert (cell["quality_min"], cell["quality_max"]) == (20.0, 40.0)
    assert cell["vmaf_min"] == mine["vmaf"].min()
    assert cell["vmaf_mean"] == pytest.approx(mine["vmaf"].mean())
    assert cell["vmaf_max"] == mine["vmaf"].max()
    assert report["sources"][0]["n_rows"] == 24


def test_coverage_matrix_names_gaps(load):
    table = rows_of(["libx264", "hevc_qsv"])
    one = table["src"].iloc[0]
    table = table[(table["src"] != one) | (table["encoder"] != "hevc_qsv")]
    coverage = audit_corpus(load(table))["coverage"]
    assert coverage["encoders"] == list(NEWEST_VOCAB)
    row = coverage["rows"][coverage["sources"].index(one)]
    assert (row[NEWEST_VOCAB.index("libx264")], sum(row)) == (8, 8)
    assert sum(map(sum, coverage["rows"])) == len(table)


def test_saturation_counts_exact_ends_alone(load):
    table = rows_of(sources=1, frames=4, qualities=[20])
    table["vmaf"] = [100.0, 99.999999, 0.0, 100.0]
    assert audit_corpus(load(table))["saturation"] == {
        "n_at_0": 1,
        "n_at_100": 2,
        "share_at_0": 0.25,
        "share_at_100": 0.5,
    }


def test_constant_columns_of_one_encoder(load):
    constant = {c["column"]: c["value"] for c in audit_corpus(load(rows_of()))["constant_columns"]}
    assert "crf_norm" not in constant
    assert constant["encoder_onehot[libx264]"] == 1.0
    assert constant["encoder_onehot[libx265]"] == 0.0
    assert constant["preset_norm"] == pytest.approx(5 / 9)
    assert len(constant) == N_CODEC_BLOCK - 1


def test_dropped_rows_are_in_the_identity(load):
    table = rows_of()
    table.loc[3, "vmaf"] = 120.0
    identity = audit_corpus(load(table))["identity"]
    assert identity["dropped"] == [{"reason": "target outside 0..100", "count": 1, "examples": [4]}]
    assert identity["n_rows_read"] - identity["n_rows_kept"] == 1


# --- coverage in words ----------------------------------------------------------------------------


def test_nvenc_only_caveat():
    text = coverage_statement(load_corpus(DATA / "nvenc_only.jsonl"))
    synthetic, caveat = text.split("\n\n")[:2]
    assert synthetic.startswith("**Synthetic rows.**")
    assert caveat.startswith("**NVENC-only caveat.**")
    assert f"**2 of {len(NEWEST_VOCAB)} slots have training rows:** `h264_nvenc` (240 rows)" in text
    assert f"**{len(NEWEST_VOCAB) - 2} slots have zero rows:** `libx264`" in text
    for name in set(NEWEST_VOCAB) - {"h264_nvenc", "hevc_nvenc"}:
        assert f"`{name}`" in text
    assert "codec-blind network inside the graph" in text
    assert "not measurable: it needs 3 codec families and this corpus has 2 codec families" in text


def test_one_nvenc_encoder_is_one_family(load):
    text = coverage_statement(load(rows_of(["h264_nvenc"])))
    assert "NVENC-only caveat" in text
    assert f"1 of {len(NEWEST_VOCAB)} slots" in text
    assert "1 codec family (h264)" in text


def test_three_nvenc_standards_can_measure_lift(load):
    text = coverage_statement(load(rows_of(["h264_nvenc", "hevc_nvenc", "av1_nvenc"])))
    assert "NVENC-only caveat" in text
    assert "lift (ADR-0235) is measurable" in text


def test_one_other_row_ends_the_nvenc_caveat(load):
    text = coverage_statement(load(rows_of(["h264_nvenc", "libx264"])))
    assert "NVENC-only" not in text
    assert f"{len(HARDWARE) - 1} of them are hardware encoders: " in text
    assert "not measurable" in text


def test_software_corpus_names_the_hardware_slots(load):
    text = coverage_statement(load(rows_of(SOFTWARE)))
    assert "NVENC-only" not in text
    assert f"{len(SOFTWARE)} of {len(NEWEST_VOCAB)} slots have training rows" in text
    assert f"**{len(HARDWARE)} slots have zero rows:**" in text
    assert "All are hardware encoders." in text
    # Each slot is listed once.
    assert all(text.count(f"`{name}`") == 1 for name in NEWEST_VOCAB)
    for name in HARDWARE:
        assert f"`{name}`" in text
    assert "measurable: this corpus has 4 codec families (av1, h264, hevc, vvc)" in text


def test_real_rows_are_not_called_synthetic(load):
    text = coverage_statement(load(rows_of().drop(columns="synthetic")))
    assert "Synthetic" not in text


def test_full_coverage_has_no_caveat(load):
    text = coverage_statement(load(rows_of(NEWEST_VOCAB)))
    assert f"{len(NEWEST_VOCAB)} of {len(NEWEST_VOCAB)} slots" in text
    assert "zero rows" not in text
    assert "codec-blind" not in text


# --- the teacher ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "n_disagree"), [(0.0099, 0), (0.0101, 1)])
def test_teacher_tolerance(shift, n_disagree, load):
    table = rows_of(qualities=[30])
    table.loc[5, "vmaf"] += shift
    check = teacher_check(load(table))
    assert check["status"] == "measured"
    assert (check["n_rows"], check["n_disagree"]) == (12, n_disagree)
    assert check["max_abs_difference"] == pytest.approx(shift, abs=2e-6)


def test_rows_of_another_model_are_listed_by_cell(load):
    table = rows_of(["libx264", "libx265"], [20, 40])
    wrong = (table["encoder"] == "libx265") & (table["cq"] == 40)
    table.loc[wrong, "vmaf"] -= 3.0
    table.loc[0, "vmaf"] -= 5.0
    check = teacher_check(load(table))
    assert check["n_disagree"] == wrong.sum() + 1
    assert len(check["cells"]) == 4
    assert check["cells"][0] == {
        "src": table["src"][0],
        "encoder": "libx264",
        "preset": "medium",
        "quality": 20.0,
        "n_rows": 1,
        "max_abs_difference": pytest.approx(5.0, abs=1e-5),
    }
    assert {c["encoder"] for c in check["cells"][1:]} == {"libx265"}


def test_pooled_rows_cannot_be_checked(tmp_path):
    means = rows_of().groupby(["src", "encoder", "cq"])[["vmaf", *CANONICAL_6]].mean()
    table = means.rename(columns={n: f"{n}_mean" for n in CANONICAL_6}).reset_index()
    table = table.rename(columns={"cq": "crf", "vmaf": "vmaf_score"}).assign(schema_version=3)
    write_table(table, tmp_path / "pooled.jsonl")
    report = audit_corpus(load_corpus(tmp_path / "pooled.jsonl"))
    json_text(report)
    assert report["identity"]["shape"] == "encode"
    assert report["teacher_check"]["status"] == "not applicable"
    assert "pooled" in report["teacher_check"]["reason"]
    assert report["teacher_check"]["n_disagree"] is None


# --- the corpus that ships, and a spoilt copy of it -----------------------------------------------


def test_the_shipped_corpus_is_clean():
    report = audit_corpus(load_corpus(SHIPPED))
    assert report["identity"]["dropped"] == []
    assert (report["teacher_check"]["n_disagree"], report["teacher_check"]["cells"]) == (0, [])
    assert report["duplicates"] == report["titles"] == []


def test_shifted_rows_and_a_copied_source_are_found_and_nothing_else(tmp_path):
    rows = pd.read_json(SHIPPED, lines=True)
    copy = rows[rows["src"] == "Foreman"].assign(src="Rooftops")
    shifted = np.random.default_rng(0).choice(len(rows), 20, replace=False)
    # Up or down, so that all stay within 0..100.
    rows.loc[shifted, "vmaf"] += np.where(rows.loc[shifted, "vmaf"] < 50, 0.5, -0.5)
    write_table(pd.concat([rows, copy], ignore_index=True), tmp_path / "spoilt.jsonl.gz")
    report = audit_corpus(load_corpus(tmp_path / "spoilt.jsonl.gz"))

    assert report["identity"]["dropped"] == []
    check = report["teacher_check"]
    assert (check["n_rows"], check["n_disagree"]) == (len(rows) + len(copy), 20)
    cell = ["src", "encoder", "preset", "quality"]
    expected = rows.loc[shifted].rename(columns={"cq": "quality"}).groupby(cell).size()
    found = pd.DataFrame(check["cells"]).set_index(cell).sort_index()
    assert len(expected) > 15
    assert found["n_rows"].to_dict() == expected.to_dict()
    assert found["max_abs_difference"].tolist() == pytest.approx([0.5] * len(found), abs=1e-3)

    [pair] = report["duplicates"]
    assert (pair["a"], pair["b"]) == ("Foreman", "Rooftops")
    assert pair["signs"] == ["rows", "motion", "frames", "src_sha256"]
    changed = (rows.loc[shifted, "src"] == "Foreman").sum()
    assert (pair["equal_rows"], pair["common_rows"]) == (len(copy) - changed, len(copy))
    assert report["titles"] == []
    groups = report["source_groups"]
    assert groups["Foreman"] == groups["Rooftops"]
    assert len(set(groups.values())) == 24


def test_a_source_copied_under_the_name_of_its_file_is_found_by_rows_and_name(tmp_path):
    """What public corpora have: BBB from the clip, BBB.yuv from the same clip once decoded."""
    rows = pd.read_json(SHIPPED, lines=True).drop(columns="src_sha256")
    rows["src"] = rows["src"].replace("BigBuckBunny", "BBB")
    copy = rows[rows["src"] == "BBB"].assign(src="BBB.yuv")
    write_table(pd.concat([rows, copy], ignore_index=True), tmp_path / "twice.jsonl.gz")
    report = audit_corpus(load_corpus(tmp_path / "twice.jsonl.gz"))
    assert report["duplicates"] == [
        {"a": "BBB", "b": "BBB.yuv", "signs": ["rows", "motion", "frames", "name"]}
        | {"equal_rows": len(copy), "common_rows": len(copy)}
    ]
    assert report["teacher_check"]["n_disagree"] == 0
    assert {k for k, group in report["source_groups"].items() if group == "BBB"} == {
        *("BBB", "BBB.yuv"),
    }
