"""The benchmarks run, say what they measured, and write where they should; no speed is asserted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench, large, logs, report
from benchmarks.bench import SECTIONS, chosen
from benchmarks.resample import as_file_rows, resampled
from fr_lib.corpus import audit_corpus, load_corpus, write_table
from fr_lib.errors import ArtefactError, InputError
from fr_lib.files import ROOT
from fr_lib.schema import CANONICAL_6

MEASURED = {"date": "2026-01-01 00:00 UTC", "seconds": 1.0, "load_average": [0.1, 0.2]}


def section(value: float = 2.0, *, quick: bool = False) -> dict:
    entry = {"title": "T", "how": "How.", "rows": [{"x": 1, "b": 0.5}], "quick": quick}
    entry["columns"] = ["x", "b"]
    return entry | {"ratios": [report.ratio("r", value, "at least 1")]} | MEASURED


@pytest.fixture
def page(tmp_path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    return file


@pytest.fixture(scope="module")
def shipped():
    return load_corpus(ROOT / "data" / "corpus.jsonl.gz")


# --- whole commands


def test_quick_runs_every_section(tmp_path, page, smoke, capsys):
    results = tmp_path / "results.json"
    asked = ["--quick", "--run-dir", smoke.path, "--results", results, "--page", page]
    assert bench.main([*map(str, asked)]) == 0
    said = capsys.readouterr().out
    found = json.loads(results.read_text())
    assert sorted(found["sections"]) == sorted(SECTIONS)
    for key, part in found["sections"].items():
        assert [sorted(part["columns"])] * len(part["rows"]) == [
            sorted(row) for row in part["rows"]
        ]
        assert part["ratios"]
        assert all(math.isfinite(r["value"]) and r["value"] > 0 for r in part["ratios"]), key
        assert f"### {key}. {part['title']}" in said
        assert f"### {key}. {part['title']}" in page.read_text()
        assert part["how"] in page.read_text()
    assert found["machine"]["cores"] == os.cpu_count()
    assert page.read_text().count("not a measurement") == len(SECTIONS)


def test_quick_writes_nothing_of_its_own_accord(capsys):
    before = [path.read_bytes() for path in (report.RESULTS, report.PAGE)]
    assert bench.main(["--quick", "--only", "f"]) == 0
    assert "### f. Inference" in capsys.readouterr().out
    assert before == [path.read_bytes() for path in (report.RESULTS, report.PAGE)]


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert bench.main(["--quick", "--only", "h", "--run-dir", str(tmp_path)]) == 2
    assert "no finished run with a book" in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "code"), [("100", 0), ("0.01", 1)])
def test_a_large_corpus_is_measured_against_a_limit(tmp_path, page, limit, code):
    results = tmp_path / "results.json"
    sizes = ["--rows", "600", "--sources", "3", "--limit-gib", limit]
    assert large.main([*sizes, "--results", str(results), "--page", str(page)]) == code
    steps = [row["step"] for row in json.loads(results.read_text())["sections"]["large"]["rows"]]
    assert steps == ["make the file", "load", "audit", "LOSO, 1 epoch, arm v3, 3 folds"]
    assert "600 rows of 3 sources" in page.read_text()


def test_fewer_folds_than_sources_are_named_as_such(capsys):
    sizes = ["--rows", "600", "--sources", "3", "--folds", "2"]
    assert large.main([*sizes, "--print-only"]) == 0
    assert "training of 2 of 3 folds" in capsys.readouterr().out


def test_fewer_rows_than_sources_are_refused(capsys):
    assert large.main(["--rows", "2", "--sources", "3", "--print-only"]) == 2
    assert "rows >= sources" in capsys.readouterr().err


def test_logs_by_the_thousand_are_measured_against_limits(tmp_path, page):
    results = tmp_path / "results.json"
    sizes = ["--logs", "3", "--frames", "2", "--limit-s", "0"]
    assert logs.main([*sizes, "--results", str(results), "--page", str(page)]) == 1
    rows = json.loads(results.read_text())["sections"]["logs"]["rows"]
    assert [row["file"] for row in rows] == [".parquet", ".jsonl.gz"]
    assert "collect of 3 logs of 2 frames: seconds" in page.read_text()


# --- which sections


def test_sections_are_chosen_by_letter():
    assert chosen("f, a") == ["f", "a"]
    assert chosen(None) == list("abcdefghi")


def test_an_unknown_section_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"x; allowed: a \(training_loop\)"):
        chosen("a,x")


# --- results and page


def test_page_of_the_project_holds_its_results():
    found = json.loads(report.RESULTS.read_text())
    assert report.between_markers(report.PAGE, report.render(found)) == report.PAGE.read_text()


def test_a_section_measured_again_replaces_its_own_figures_alone(tmp_path, page):
    results = tmp_path / "results.json"
    report.save({"a": section(2.0), "b": section(3.0)}, results, page)
    found = report.save({"b": section(4.0)}, results, page)
    assert found == json.loads(results.read_text())
    assert {key: s["ratios"][0]["value"] for key, s in found["sections"].items()} == {
        "a": 2.0,
        "b": 4.0,
    }
    text = page.read_text()
    assert "| x | b |\n| --- | --- |\n| 1 | 0.5 |\n" in text
    assert "| r | **4** | at least 1 | b |" in text
    assert text.startswith("before\n\n")
    assert text.endswith("\n\nafter\n")
    assert "old" not in text


def test_figures_of_another_machine_are_not_kept(tmp_path):
    results = tmp_path / "results.json"
    report.save({"a": section()}, results, None)
    found = json.loads(results.read_text())
    found["machine"]["cores"] += 1
    results.write_text(json.dumps(found))
    assert list(report.save({"b": section()}, results, None)["sections"]) == ["b"]


def test_what_is_imported_makes_no_other_machine():
    code = "from benchmarks.report import machine; before = machine(); import scipy.linalg; "
    code += "assert machine() == before"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("text", ["none", report.BEGIN, f"{report.END}{report.BEGIN}"])
def test_a_page_without_markers_is_refused(tmp_path, text):
    file = tmp_path / "page.md"
    file.write_text(text)
    with pytest.raises(ArtefactError, match="markers"):
        report.save({"a": section()}, None, file)
    assert file.read_text() == text


def test_a_smoke_says_so():
    assert "not a measurement" in report.section_text("a", section(quick=True))
    assert "not a measurement" not in report.section_text("a", section())


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345, "12,345"), (1234.4, "1,234"), (99.96, "100"), (0.01234, "0.0123"), (None, "")],
)
def test_numbers_are_shown_to_three_digits(value, text):
    assert report.shown(value) == text


# --- resampled rows


def test_resampled_rows_pass_every_check(shipped, tmp_path):
    table = resampled(shipped.table, 1_001, 4, seed=0)
    write_table(as_file_rows(table), tmp_path / "rows.parquet")
    corpus = load_corpus(tmp_path / "rows.parquet")
    assert len(corpus.table) == 1_001
    assert corpus.dropped == []
    assert corpus.table["src"].value_counts().tolist() == [251, 250, 250, 250]
    facts = audit_corpus(corpus)
    assert facts["teacher_check"]["n_disagree"] == 0
    assert facts["duplicates"] == []
    assert len(set(facts["source_groups"].values())) == 4
    assert any("Synthetic" in note for note in corpus.notes)


def test_resampled_rows_stay_near_real_ones_and_repeat(shipped):
    table = resampled(shipped.table, 500, 5, seed=1)
    low, high = shipped.features().min(axis=0), shipped.features().max(axis=0)
    features = table[list(CANONICAL_6)].to_numpy()
    assert (features >= np.minimum(low * 0.98, low * 1.02)).all()
    assert (features <= high * 1.02).all()
    assert table.equals(resampled(shipped.table, 500, 5, seed=1))
    assert not table.equals(resampled(shipped.table, 500, 5, seed=2))
