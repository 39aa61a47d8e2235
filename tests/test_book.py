"""The book of a run: what its pages say, and how they look in a browser."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from chain import (
    EVIDENCE,
    HOSTILE_NAMES,
    HOSTILE_RUN,
    MEASURED,
    NVENC_ONLY,
    REFUSED,
    Done,
)

from fr_lib.corpus import load_corpus
from fr_lib.errors import ArtefactError
from fr_lib.report import build_book
from fr_lib.report.book import render_page, stage_book
from fr_lib.report.values import clip_figures, number, page_values, seed_figures, thousands
from fr_lib.runs import STEPS, RunDir
from fr_lib.schema import NEWEST_VOCAB

# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|jupyter_).*")

CARD, AUDIT, LOSO = "index", "notebooks/01_corpus_audit", "notebooks/02_loso"
GATE = "notebooks/03_gate"


def closed_up(text: str) -> str:
    """Return text with single spaces, and none where code or a link, an element, is set close."""
    return re.sub(r" (?=[,.;:)])|(?<=\() ", "", " ".join(text.split()))


class Page(HTMLParser):
    """Text of the article without code and drawings, and what the page makes a browser fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.divs: list[bool] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        fetch = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
        if tag in fetch and given.get(fetch[tag]):
            self.fetched.append(given[fetch[tag]])
        if tag in ("article", "script", "style", "svg"):
            self.open.append(tag)
        elif tag == "div":
            self.divs.append("cell_input" in (given.get("class") or "").split())

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag == "div":
            self.divs.pop()

    def handle_data(self, data):
        if self.open[-1:] == ["article"] and not any(self.divs) and data.strip():
            self.text.append(" ".join(data.split()))

    def __str__(self) -> str:
        return closed_up(" ".join(self.text))


def visible(name: str) -> str:
    """Return what a page shows of a name of the tests: its one control character in letters."""
    return name.replace("\x1b", "\\x1b")


def pages(done: Done) -> list[Path]:
    found = sorted(done.page().parent.glob("*.html")) + sorted(
        (done.page().parent / "notebooks").glob("*.html")
    )
    assert len(found) > len(STEPS) + len(EVIDENCE)
    return found


@pytest.fixture(scope="module")
def card(smoke) -> str:
    return str(Page(smoke.page(CARD)))


@pytest.fixture(scope="module")
def failed_card(hopeless) -> str:
    return str(Page(hopeless.page(CARD)))


# --- filling pages


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.99979, 5, "0.99979"),
        (0, 2, "0.00"),
        (None, 3, "not measured"),
        (float("nan"), 3, "not measured"),
        (float("inf"), 3, "not measured"),
    ],
)
def test_a_figure_has_fixed_digits_or_words(value, digits, shown):
    assert number(value, digits) == shown


def test_counts_are_grouped():
    assert (thousands(6864), thousands(12)) == ("6,864", "12")


def test_a_name_that_no_file_has_stops_the_build():
    with pytest.raises(Exception, match="'los' is undefined"):
        render_page("{{ los.mean }}", {"loso": {}})


def test_seeds_decide_between_v3_and_v1():
    folds = [
        {"arm": arm, "seed": seed, "plcc": plcc, "rmse": rmse}
        for arm, rows in {"v1": ((0.9, 2.0), (0.8, 1.0)), "v3": ((0.8, 1.5), (0.9, 1.25))}.items()
        for seed, (plcc, rmse) in enumerate(rows)
    ]
    found = seed_figures({"folds": folds})
    assert found["count"] == 2
    assert found["arms"]["v3"]["rmse_mean"] == 1.375
    assert found["arms"]["v3"]["rmse_ptp"] == 0.25
    assert found["lift"]["rmse"] == {"mean": -0.125, "low": -0.5, "high": 0.25, "better": 1}
    assert found["lift"]["plcc"]["better"] == 1
    assert found["lift"]["plcc"]["mean"] == pytest.approx(0)
    assert seed_figures(None) is None


def test_the_ranges_of_the_clips():
    clips = [
        {"width": 640, "height": 360, "frames": 60, "fps_exact": "30000/1001"},
        {"width": 480, "height": 480, "frames": 48, "fps_exact": "24"},
    ]
    assert clip_figures({"sources": clips}) == {
        "count": 2,
        "width": (480, 640),
        "height": (360, 480),
        "frames": (48, 60),
        "rate": (24.0, pytest.approx(29.97, abs=0.001)),
        "seconds": (2.0, pytest.approx(2.002, abs=0.001)),
    }
    assert clip_figures(None) is None


def test_a_chapter_that_was_not_run_stops_the_build(smoke, tmp_path):
    run = RunDir(tmp_path / smoke.path.name)
    shutil.copytree(smoke.path, run.path, ignore=shutil.ignore_patterns("02_loso.ipynb", "book"))
    with pytest.raises(ArtefactError, match=r"02_loso\.ipynb: missing; .*run 02_loso first"):
        stage_book(run, dict.fromkeys(EVIDENCE, "not measured"))


def test_a_page_with_a_warning_is_no_book(smoke, tmp_path):
    run = RunDir(tmp_path / smoke.path.name)
    shutil.copytree(smoke.path, run.path, ignore=shutil.ignore_patterns("book"))
    broken = run / "notebooks" / "03_gate.ipynb"
    notebook = nbformat.read(broken, as_version=4)
    notebook.cells[0].source += "\n\n[nowhere](no_such_page.md)"
    nbformat.write(notebook, broken)
    with pytest.raises(ArtefactError, match="no_such_page") as refused:
        build_book(run, dict.fromkeys(EVIDENCE, "not measured"))
    assert "03_gate" in str(refused.value)
    assert (run / "book" / "build.log").is_file()


def test_figures_of_another_run_are_refused(smoke, nvenc, tmp_path):
    run = RunDir(tmp_path / smoke.path.name)
    shutil.copytree(smoke.path, run.path, ignore=shutil.ignore_patterns("book"))
    shutil.copy(nvenc.path / "gate.json", run / "gate.json")
    with pytest.raises(ArtefactError, match=r"gate\.json: run_id nvenc; allowed: smoke"):
        page_values(run)


# --- every page


def test_every_page_is_there(smoke):
    names = {str(p.relative_to(smoke.page().parent)) for p in pages(smoke)}
    chapters = {"index", "limits", "published", "own_corpus", "downloads", "glossary"}
    chapters |= {f"notebooks/{name}" for name in (*STEPS, *EVIDENCE)}
    assert {f"{name}.html" for name in chapters} <= names


def test_no_page_fetches_anything_from_a_network(smoke, hopeless):
    for path in pages(smoke) + pages(hopeless):
        remote = [x for x in Page(path).fetched if re.match(r"(https?:)?//", x)]
        assert not remote, path.name
    styles = smoke.page().parent.rglob("*.css")
    assert not [p.name for p in styles if re.search(r"url\([\"']?(https?:)?//", p.read_text())]


def test_everything_that_a_page_fetches_is_there(smoke):
    for path in pages(smoke):
        for asset in Page(path).fetched:
            if not asset.startswith(("data:", "#")):
                assert (path.parent / asset.split("?")[0]).is_file(), f"{path.name}: {asset}"


LEFTOVER = re.compile(
    r"\{\{|\}\}|\{%|%\}|\{glue|\bnan\b|\bNone\b|\binf\b|\bundefined\b|\bNaT\b"
    r"|TODO|TBD|FIXME|XXX|[Ll]orem|placeholder"
)


def test_no_page_shows_leftovers(smoke, hopeless, nvenc):
    for path in pages(smoke) + pages(hopeless) + pages(nvenc):
        shown = str(Page(path))
        for name in HOSTILE_NAMES:
            shown = shown.replace(closed_up(visible(name)), "")
        found = LEFTOVER.search(shown)
        assert not found, f"{path.name}: ...{shown[max(0, found.start() - 60) : found.end() + 20]}"


def test_no_page_shows_a_notebook_that_failed(smoke, hopeless):
    for path in pages(smoke) + pages(hopeless):
        assert "Traceback (most recent call last)" not in str(Page(path))


def test_a_chapter_without_evidence_says_so(smoke):
    for name in MEASURED:
        shown = str(Page(smoke.page(f"notebooks/{name}")))
        assert "No results to show: not measured for this corpus" in shown


def test_a_chapter_that_the_corpus_cannot_have_says_so_though_all_is_measured(smoke, hopeless):
    for done in (smoke, hopeless):
        shown = str(Page(done.page(f"notebooks/{REFUSED}")))
        assert "No results to show: the rows were not all scored by vmaf_v1" in shown


# --- the card


def test_the_card_shows_the_figures_of_the_files(smoke, card):
    arm = smoke.json("loso.json")["arms"]["v3"]
    assert f"{arm['summary']['mean_plcc']:.7f}" in card
    assert f"{arm['summary']['mean_rmse']:.3f}" in card
    for fold in arm["folds"]:
        row = (f"{fold['n_val']}", f"{1 - fold['plcc']:.1e}", f"{fold['srocc']:.4f}")
        assert f"{fold['held_out']} {' '.join(row)}" in card


def test_the_card_sets_recipes_side_by_side_outside_the_corpus(hopeless, failed_card):
    beyond = hopeless.json("evidence/beyond.json")
    order = [beyond["shipped"], *sorted(set(beyond["recipes"]) - {beyond["shipped"]})]
    arms = [beyond["recipes"][name]["arms"]["v3"] for name in order]
    worst = [
        max(w["difference"] for w in beyond["recipes"][name]["worst"]["v3"] if w["highest"] == 1)
        for name in order
    ]
    assert "stress set, RMSE over all rows " + row(arm["stress"]["rmse"] for arm in arms) in (
        failed_card
    )
    assert "99 % of changes are below " + row(arm["swap"]["p99"] for arm in arms) in failed_card
    assert "worst frame found, features up to 1 " + row(worst, 1) in failed_card


def row(values, digits=3) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def test_the_card_says_whether_the_codec_block_helps(hopeless, failed_card):
    folds = hopeless.json("evidence/seeds.json")["folds"]
    lift = seed_figures({"folds": folds})["lift"]["rmse"]
    assert f"v3 is the better one in {lift['better']} of" in failed_card


def test_the_card_identifies_model_corpus_and_run(smoke, card):
    sidecar = smoke.json("model/fr_regressor_v3.json")
    assert card.count(sidecar["sha256"]) >= 1
    assert sidecar["corpus_sha256"] in card
    for text in ("fr_regressor_v3", "opset 17", "BSD-2-Clause-Patent", "seed 0", "run smoke"):
        assert text in card


@pytest.mark.parametrize(
    "section",
    [
        "Identity",
        "Intended use",
        "Out of scope",
        "Usage",
        "Inputs and output",
        "Factors",
        "Metrics",
        "Training data",
        "Coverage",
        "Recipe",
        "Results",
        "Known limits",
        "Recommendations",
        "Ethical considerations",
        "Compute and its cost",
        "Provenance",
        "Citation",
        "Changelog",
    ],
)
def test_the_card_has_its_sections(smoke, section):
    assert section in Page(smoke.page()).text


def test_synthetic_rows_are_named_before_any_figure(card):
    assert card.index("Synthetic rows.") < card.index("95 % interval")
    assert "Gate passed" not in card


def test_a_failed_gate_is_on_the_face_of_the_card(failed_card):
    assert failed_card.index("Gate failed: this model does not ship.") < failed_card.index("PLCC")
    assert "v3 retrain pending" in failed_card
    assert "gate_passed: false, smoke: true" in failed_card
    assert "Gate passed" not in failed_card


def test_the_gate_page_names_the_clauses_that_failed(hopeless):
    shown = str(Page(hopeless.page(GATE)))
    failed = [c for c in hopeless.json("gate.json")["clauses"] if c["status"] == "fail"]
    assert f"The gate failed ({', '.join(c['name'] for c in failed)})" in shown
    adr = [c for c in hopeless.json("gate.json")["adr_clauses"] if c["status"] == "fail"]
    assert shown.count("✗ fail") == len(failed) + len(adr)
    assert len(failed) >= 2


def test_the_audit_page_lists_rows_that_disagree_with_the_teacher(hopeless):
    check = hopeless.json("audit.json")["teacher_check"]
    shown = str(Page(hopeless.page(AUDIT)))
    assert check["n_disagree"] > 100
    assert f"{check['n_disagree']} of {check['n_rows']} rows differ" in shown


def test_a_corpus_of_nvenc_rows_gets_its_caveat(nvenc):
    trained = ["h264_nvenc", "hevc_nvenc"]
    assert [e for e, n in load_corpus(NVENC_ONLY).rows_per_slot().items() if n] == trained
    rows = nvenc.json("audit.json")["rows_per_slot"]["h264_nvenc"]
    for page in (CARD, AUDIT, "limits"):
        shown = str(Page(nvenc.page(page)))
        caveat = shown[shown.index("NVENC-only caveat.") :]
        assert (
            f"2 of {len(NEWEST_VOCAB)} slots have training rows: h264_nvenc ({rows} rows), hevc"
            in caveat
        )
        empty = ", ".join(e for e in NEWEST_VOCAB if e not in trained)
        assert f"{len(NEWEST_VOCAB) - 2} slots have zero rows: {empty}." in caveat
        assert "codec-blind network" in caveat
        assert "lift floor (ADR-0235) is not measurable" in caveat


def test_no_other_corpus_gets_the_nvenc_caveat(card, failed_card):
    assert "NVENC-only" not in card + failed_card


def test_published_results_stand_apart(smoke):
    shown = str(Page(smoke.page("published")))
    assert "not our results" in shown
    assert "BigBuckBunny" in shown
    assert "BigBuckBunny" not in str(Page(smoke.page(CARD)))


def test_the_usage_example_is_python_that_runs(smoke):
    """The card's own code, with the folder of a model that may be scored with."""
    page = (smoke.path / "book" / "index.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    compile(example, "card", "exec")
    assert 'Predictor.load("model/tiny")' in example


# --- in a browser


def column(table, name):
    headers = [text.strip() for text in table.locator("th").all_inner_texts()]
    return table.locator(f"tbody td:nth-child({headers.index(name) + 1})").all_inner_texts()


def test_a_table_is_sorted_from_the_keyboard_and_says_how(browser, smoke):
    page = browser.new_page()
    page.goto(smoke.page(LOSO).as_uri(), wait_until="load")
    table = page.locator("article table", has_text="training rows")
    before = column(table, "RMSE")
    assert len(before) == 4
    header = table.locator("th", has_text="RMSE")
    header.get_by_role("button").focus()
    for direction, key in (("ascending", "Enter"), ("descending", "Space")):
        page.keyboard.press(key)
        assert header.get_attribute("aria-sort") == direction
        ordered = sorted(before, key=float, reverse=direction == "descending")
        assert column(table, "RMSE") == ordered
    assert table.locator("[aria-sort]").count() == 1
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") is None
    assert column(table, "RMSE") == before
    page.close()


def test_the_head_of_a_table_stays_while_its_rows_pass(browser, smoke):
    page = browser.new_page(viewport={"width": 1400, "height": 260})
    page.goto(smoke.page("notebooks/04_export").as_uri(), wait_until="load")
    table = page.locator("article table", has_text="answered by")
    table.locator("tbody tr").last.scroll_into_view_if_needed()
    first, head = (table.locator(x).first.bounding_box() for x in ("tbody tr", "th"))
    page.close()
    assert first["y"] < 0
    assert 0 <= head["y"] < 80


def test_a_figure_is_drawn_for_the_theme_and_not_filtered(browser, smoke):
    inks = {}
    for theme in ("light", "dark"):
        page = browser.new_page(color_scheme=theme)
        page.goto(smoke.page(LOSO).as_uri(), wait_until="load")
        inks[theme] = page.evaluate(
            """[...document.querySelectorAll('#drawn-lift text')].map(
                t => getComputedStyle(t).fill)[0]"""
        )
        shown = page.evaluate(
            """(e => { const all = []; for (; e.tagName !== 'ARTICLE'; e = e.parentElement)
                all.push(getComputedStyle(e).filter + getComputedStyle(e).backgroundColor);
                return [...new Set(all)] })(document.querySelector('#drawn-lift'))"""
        )
        assert shown == ["nonergba(0, 0, 0, 0)"]
        page.close()
    light, dark = (sum(map(int, re.findall(r"\d+", inks[t])[:3])) for t in ("light", "dark"))
    assert light < 200 < 500 < dark


NAMED = {CARD, AUDIT, LOSO}  # their tables list every source
INJECTED = """[...document.querySelectorAll(
    '[onerror], img[src="x"], :is(td, p, li) script, .note, a[href^="javascript:"]'
)].map(e => e.outerHTML)"""


def test_names_of_any_kind_are_text_on_every_page(browser, hopeless):
    seen, said = set(), []
    # One tab for all: opening one takes longer than most pages.
    page = browser.new_page()
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    for path in pages(hopeless):
        page.goto(path.as_uri(), wait_until="load")
        texts = page.evaluate(
            "[...document.querySelectorAll('article :is(td, bdi, code)')].map(e => e.textContent)"
        )
        injected = page.evaluate(INJECTED)
        assert (said, injected) == ([], []), path.name
        name = path.relative_to(hopeless.page().parent).with_suffix("").as_posix()
        if name in NAMED:
            seen.add(name)
            assert {visible(source) for source in HOSTILE_NAMES} <= set(texts), name
        if name == CARD:
            assert {HOSTILE_RUN, f"{HOSTILE_RUN}.jsonl.gz"} <= set(texts)
    page.close()
    assert seen == NAMED


def test_names_of_any_kind_are_in_the_files_of_the_run_as_they_are(hopeless):
    loso = hopeless.json("loso.json")["arms"]["v3"]
    assert {fold["held_out"] for fold in loso["folds"]} == {*HOSTILE_NAMES}
    assert hopeless.json("gate.json")["run_id"] == HOSTILE_RUN
    shown = [line for line in hopeless.out.splitlines() if line.startswith("LOSO:")]
    assert len(shown) == 1
    assert shown[0].isprintable()


def test_the_card_shows_its_heading_and_its_verdict_in_the_first_window(browser, hopeless):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(hopeless.page(CARD).as_uri(), wait_until="load")
    for text in ("Model card: fr_regressor_v3", "Gate failed: this model does not ship."):
        box = page.get_by_text(text).last.bounding_box()
        assert 0 <= box["y"] < 900
    page.close()
