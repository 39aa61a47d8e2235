"""Two finished runs, source by source: the figures, the page, and what is refused."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from chain import HOSTILE_NAMES, judged, linked, tiny_table

from fr_lib.__main__ import main
from fr_lib.errors import ArtefactError, InputError
from fr_lib.evaluate import compare_runs
from fr_lib.evaluate.compare import _says
from fr_lib.evaluate.loso import bootstrap_interval
from fr_lib.files import write_json
from fr_lib.release import ship_model
from fr_lib.report.compare import comparison_lines, comparison_page
from fr_lib.runs import RunDir

OWN = "a clip of B alone"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs; the second has other epochs and a clip of another name."""
    folder = tmp_path_factory.mktemp("runs")
    first = judged(folder / "first", tiny_table(), epochs=60)
    table = tiny_table()
    names = table["src"].unique()
    table["src"] = table["src"].replace(names[0], OWN)
    table.loc[table["src"] == names[1], "vmaf"] = table["vmaf"].clip(upper=90)
    second = judged(folder / "second", table, epochs=90)
    for run in (first, second):
        ship_model(run)
    return first, second


@pytest.fixture(scope="module")
def facts(runs):
    return compare_runs(*runs)


def folds(run: RunDir) -> pd.DataFrame:
    return pd.DataFrame(run.read("loso.json")["arms"]["v3"]["folds"]).set_index("held_out")


def test_sources_of_both_are_paired_and_the_others_named(runs, facts):
    a, b = (folds(run) for run in runs)
    both = [name for name in a.index if name in b.index]
    assert len(both) == 2
    assert facts["only"] == [[*set(a.index) - set(both)], [OWN]]
    assert {pair["source"] for pair in facts["sources"]} == {*both}
    for pair in facts["sources"]:
        name = pair["source"]
        assert pair["rmse_difference"] == b.loc[name, "rmse"] - a.loc[name, "rmse"]
        assert pair["plcc_difference"] == b.loc[name, "plcc"] - a.loc[name, "plcc"]
    differences = [pair["rmse_difference"] for pair in facts["sources"]]
    assert differences == sorted(differences)


def test_means_and_intervals_are_of_the_pairs(facts):
    for metric in facts["metrics"]:
        values = np.array([pair[f"{metric['metric']}_difference"] for pair in facts["sources"]])
        assert metric["mean"] == pytest.approx(values.mean())
        assert metric["mean"] == pytest.approx(metric["b"] - metric["a"])
        low, high = bootstrap_interval(np.sort(values))
        assert (metric["low"], metric["high"]) == pytest.approx((low, high))


def test_pairs_that_were_judged_on_other_rows_say_so(runs, facts):
    changed = tiny_table()["src"].unique()[1]
    assert {p["source"]: p["same_rows"] for p in facts["sources"]} == {
        p["source"]: p["source"] != changed for p in facts["sources"]
    }
    assert "rows:  differ in 1 of 2 pairs" in comparison_lines(facts)


def test_what_was_changed_is_listed_and_nothing_else(facts):
    assert [(row["name"], row["a"], row["b"]) for row in facts["parameters"]] == [
        ("recipe: epochs", 60, 90)
    ]
    assert {row["name"] for row in facts["data"]} == {"corpus", "sha256"}
    assert facts["software"] == []


def test_clauses_stand_side_by_side(runs, facts):
    for side, run in enumerate(runs):
        for clause, found in zip(run.read("gate.json")["clauses"], facts["clauses"], strict=True):
            assert found["name"] == clause["name"]
            assert found["status"][side] == clause["status"]
            assert found["value"][side] == clause["value"]


@pytest.mark.parametrize(
    ("values", "interval", "more", "says"),
    [
        ([-1.0, -2.0], (-2.0, -1.0), False, "B is better"),
        ([-1.0, -2.0], (-2.0, -1.0), True, "A is better"),
        ([1.0, 2.0], (1.0, 2.0), False, "A is better"),
        ([-1.0, 2.0], (-1.0, 2.0), False, "the interval holds 0: nothing decides between them"),
        ([0.0, 0.0], (0.0, 0.0), False, "no difference at all"),
        ([1.0], (None, None), False, "one source in common, so no interval"),
        ([], (None, None), False, "no source in common"),
    ],
)
def test_what_a_difference_says(values, interval, more, says):
    assert _says(np.array(values), bool(values), *interval, more) == says


def test_a_fold_without_a_finite_metric_leaves_no_mean(runs, tmp_path):
    other = RunDir(linked(runs[1].path, tmp_path))
    loso = other.read("loso.json")
    loso["arms"]["v3"]["folds"][-1]["plcc"] = None
    write_json(other / "loso.json", loso)
    rmse, plcc = compare_runs(runs[0], other)["metrics"]
    assert rmse["mean"] is not None
    assert (plcc["mean"], plcc["low"]) == (None, None)
    assert plcc["says"] == "not finite for every source, so no mean"


# --- the command and its page


def test_the_command_prints_and_writes_a_page(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["compare", *(str(run.path) for run in runs), "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("A: first (gate ")
    assert f"only B: {OWN}" in said
    assert "parameters: recipe: epochs 60 -> 90" in said
    assert str(page) in said
    html = page.read_text()
    assert not re.search(r"https?:|<script|<link|<img|\bsrc=", html)
    for clause in runs[0].read("gate.json")["clauses"]:
        assert clause["name"].replace(">", "&gt;").replace("<", "&lt;") in html


def test_the_page_lies_beside_the_second_run_unless_told(runs, capsys):
    assert main(["compare", *(str(run.path) for run in runs)]) == 0
    page = runs[1].path.parent / "compare-first-second.html"
    assert page.is_file()
    page.unlink()


def test_the_page_is_whole_at_both_widths_and_in_both_themes(facts, tmp_path, browser):
    """With names that would be instructions, were they not text."""
    named = facts | {"only": [list(HOSTILE_NAMES), []]}
    named["sources"] = [
        pair | {"source": name} for pair, name in zip(facts["sources"], HOSTILE_NAMES, strict=False)
    ]
    page = tmp_path / "page.html"
    page.write_text(comparison_page(named))
    grounds = set()
    for width, theme in ((1400, "light"), (400, "dark")):
        tab, said = browser.new_page(color_scheme=theme), []
        tab.set_viewport_size({"width": width, "height": 900})
        tab.on("dialog", lambda dialog, said=said: (said.append(dialog), dialog.dismiss()))
        tab.on("console", lambda message, said=said: said.append(message.text))
        tab.goto(page.as_uri(), wait_until="load")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        texts = tab.evaluate("[...document.querySelectorAll('bdi')].map(e => e.textContent)")
        assert {name.replace("\x1b", "\\x1b") for name in HOSTILE_NAMES} <= {*texts}
        grounds.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert said == []
        tab.close()
    assert len(grounds) == 2


# --- what is refused


def test_what_is_no_finished_run_is_refused(runs, tmp_path, capsys):
    half = linked(runs[1].path, tmp_path)
    (half / "export.json").unlink()
    for folder in (half, tmp_path / "nowhere"):
        page = tmp_path / "page.html"
        assert main(["compare", str(runs[0].path), str(folder), "--out", str(page)]) == 2
        said = capsys.readouterr().err
        assert "no finished run" in said
        assert folder.name in said
        assert not page.exists()


def test_files_of_another_run_are_refused(runs, tmp_path):
    mixed = RunDir(linked(runs[1].path, tmp_path))
    (mixed / "gate.json").unlink()
    shutil.copy(runs[0] / "gate.json", mixed / "gate.json")
    with pytest.raises(ArtefactError, match="gate"):
        compare_runs(runs[0], mixed)


def test_a_run_is_not_compared_with_itself(runs):
    with pytest.raises(InputError, match="the same run twice"):
        compare_runs(runs[0], RunDir(runs[0].path / ".." / "first"))


@pytest.mark.parametrize("out", ["first/loso.json", "second/page.html", "page.txt", "made.html"])
def test_no_page_is_written_into_a_run_or_over_a_folder(runs, tmp_path, out, capsys):
    first, second = (linked(run.path, tmp_path) for run in runs)
    (tmp_path / "made.html").mkdir()
    before = (first / "loso.json").read_bytes()
    page = tmp_path / out
    assert main(["compare", str(first), str(second), "--out", str(page)]) == 2
    assert "--out" in capsys.readouterr().err
    assert not page.is_file() or (first / "loso.json").read_bytes() == before
