"""The first screen of the card, and the claims of card, limits and notebooks."""

from __future__ import annotations

import html
import re

import nbformat
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from fr_lib.corpus import TEACHERS
from fr_lib.files import ROOT
from fr_lib.report.book import render_page
from fr_lib.report.first_screen import (
    block_verdict,
    deep_encodes,
    floors_passed_by,
    multiplications,
    picture_sizes,
    preset_effect,
    presets_of,
    ranges,
    row_errors,
    slot_errors,
    state_of,
    verdict_counts,
)
from fr_lib.report.transfer import ladder_facts, seen_errors
from fr_lib.report.values import FORMULA, page_values, run_cost
from fr_lib.runs import RunDir
from fr_lib.schema import NEWEST_VOCAB

pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|jupyter_).*")


def clause(name: str, status: str, blocks: bool = True) -> dict:
    return {"name": name, "status": status, "blocks": blocks}


# --- what is counted


def test_clauses_are_counted_by_what_became_of_them():
    clauses = [clause("a", "pass"), clause("b", "fail"), clause("c", "fail", blocks=False)]
    clauses += [clause("d", "not measured", blocks=False), clause("e", "pass", blocks=False)]
    assert verdict_counts({"clauses": clauses}) == {
        "total": 5,
        "passed": 2,
        "blocking": ["b"],
        "other": ["c"],
        "not_measured": ["d"],
    }


@pytest.mark.parametrize(
    ("passed", "smoke", "state"),
    [(True, False, "passed"), (True, True, "synthetic"), (False, True, "failed")],
)
def test_a_failed_gate_is_said_before_synthetic_rows(passed, smoke, state):
    assert state_of({"gate_passed": passed}, {"training": {"smoke": smoke}}) == state


def test_what_else_would_pass_is_what_clears_both_floors():
    figures = [(0.951, 0.9), (0.99, 0.84), (0.94, 0.9), (None, None), (0.95, 0.85)]
    rivals = [
        {"name": name, "plcc": plcc, "worst_plcc": worst}
        for name, (plcc, worst) in zip(("a, its own formula", *"bcde"), figures, strict=True)
    ]
    adr = {"adr0319": {"arms": {"v3": {"summary": {"mean_plcc": 0.97}}}}}
    both = floors_passed_by(adr, {"adr_gate_passed": True}, {"baselines": rivals})
    assert both == {"names": ["a's own formula", "e", "ADR-0319's recipe"], "lowest": 0.95}
    assert floors_passed_by(adr, {"adr_gate_passed": False}, None) is None
    assert floors_passed_by({"adr0319": None}, {"adr_gate_passed": True}, None) is None


def predicted(*errors: float) -> pd.DataFrame:
    """Return out-of-fold rows with these errors, VMAF 50, encoder libx264."""
    rows = pd.DataFrame({"vmaf": 50.0, "pred_v3": 50.0 + np.array(errors)})
    return rows.assign(src="a", encoder="libx264", preset="medium", quality=20.0)


def test_ninety_nine_of_a_hundred_frames_are_within_what_is_said():
    # One in a hundred is worse, and no less would hold for the others.
    found = row_errors(predicted(*[0.5] * 197, -0.75, 1.0, -1.5))
    assert (found["rows"], found["p99"], found["max"]) == (200, 0.75, 1.5)
    assert found["at"]["encoder"] == "libx264"


def test_no_bound_is_given_where_a_prediction_is_not_finite():
    found = row_errors(predicted(0.5, float("nan")))
    assert (found["p99"], found["max"], found["not_finite"]) == (None, None, 1)


def test_every_slot_has_its_rows_and_its_error():
    audit = {
        "rows_per_slot": {"h264_nvenc": 0, "libx264": 2},
        "trained_slots": ["libx264"],
        "empty_slots": ["h264_nvenc"],
    }
    assert slot_errors(audit, predicted(3.0, 4.0)) == [
        {"name": "libx264", "rows": 2, "rmse": pytest.approx(12.5**0.5)},
        {"name": "h264_nvenc", "rows": 0, "rmse": None},
    ]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.2, -0.1, "yes, with every seed"),
        (-0.2, 0.1, "no measurable help"),
        (-0.2, 0.0, "no measurable help"),
        (0.1, 0.2, "no, worse with every seed"),
    ],
)
def test_whether_the_block_helps_is_told_from_all_seeds(low, high, said):
    assert block_verdict({"lift": {"rmse": {"low": low, "high": high}}}) == said


def test_one_seed_decides_nothing():
    assert block_verdict(None) == "one seed, so not decided"


def test_multiplications_are_those_of_the_matrices(tmp_path):
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in (("w", (6, 4)), ("b", (4,)), ("v", (4, 1)))
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["g"]),
        helper.make_node("MatMul", ["g", "v"], ["y"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width])]
        for name, width in (("x", 6), ("y", 1))
    ]
    graph = helper.make_graph(nodes, "g", *ends, weights)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    assert multiplications(tmp_path / "m.onnx") == 6 * 4 + 4 * 1
    # 211 support vectors of six features, and a weight for each.
    assert multiplications(FORMULA) == 211 * 6 + 211


# --- may I use it for mine?


def test_sizes_are_those_of_the_rows():
    rows = pd.DataFrame(
        {"src": ["a", "a", "b"], "width": [640, 960, 640], "height": [360, 540, 266]}
    )
    assert picture_sizes(rows) == {
        "width": (640, 960),
        "height": (266, 540),
        "count": 3,
        "per_source": 2,
    }
    assert picture_sizes(rows.drop(columns="width")) is None
    assert picture_sizes(rows.assign(width=[640, None, 640])) is None


@pytest.mark.parametrize(
    ("column", "presets", "effect"),
    [
        ("preset_norm", {"libx264": ["medium"]}, "inert"),
        ("crf_norm", {"libx264": ["medium"], "libx265": ["fast"]}, "extrapolated"),
        ("crf_norm", {"libx264": ["fast", "medium"]}, "varied"),
    ],
)
def test_what_a_preset_does_is_told_by_its_column(column, presets, effect):
    audit = {"constant_columns": [{"column": column, "value": 0.0}]}
    assert preset_effect(audit, presets) == effect


def test_presets_are_those_of_the_rows():
    rows = predicted(0, 0, 0).assign(preset=["slow", "fast", None])
    assert presets_of(rows) == {"libx264": ["fast", "slow"]}


def test_ten_bits_are_read_off_the_options():
    options = {"libvvenc": ["-pix_fmt", "yuv420p10le"], "libx264": ["-crf", "10"]}
    encoders = [{"encoder": name, "options": given} for name, given in options.items()]
    assert deep_encodes({"encoders": encoders}) == ["libvvenc"]
    assert deep_encodes({"encoders": [{"encoder": "libx264"}]}) is None
    assert deep_encodes(None) is None


AUDIT = {
    "trained_slots": ["libx264"],
    "empty_slots": ["libx265", "libvvenc"],
    "constant_columns": [],
    "sources": [{"vmaf_min": 3.4, "vmaf_max": 88.8}, {"vmaf_min": 20.0, "vmaf_max": 99.6}],
}
BINS = {"calibration": [{"low": 0, "rmse": 0.5}, {"low": 90, "rmse": 0.25}]}


def asked(**given) -> dict[str, tuple[str, str]]:
    known = dict.fromkeys(("stress", "swap", "clips", "sizes", "transfer")) | {"presets": {}}
    answers = ranges(AUDIT, BINS, **(known | given))
    return {answer["what"]: (answer["seen"], answer["beyond"]) for answer in answers}


def test_what_is_not_known_of_the_clips_is_said_not_to_be():
    assert asked() == {
        "codec": ("libx264", "2 other slots, answered codec-blind; their error was not measured"),
        "preset": ("none named", "not measured"),
        "size": ("not stated", "not measured"),
        "frame rate": ("not stated", "not measured"),
        "VMAF": ("3 to 100", "worst where VMAF is 0 to 10: RMSE 0.500"),
    }


def test_what_is_known_of_the_clips_is_said():
    widths = [{"name": "320", "rmse": 0.5}, {"name": 1920, "rmse": 0.25}]
    found = asked(
        stress={"widths": widths},
        swap={"p99": 0.125},
        clips={"rate": (24.0, 60.0)},
        sizes={"width": (640, 1280), "height": (360, 360)},
        presets={"libx264": ["medium"]},
    )
    assert found["preset"] == (
        "libx264 medium",
        "another codec block moves 99 % of scores by 0.125 at most",
    )
    assert found["size"] == (
        "640 to 1,280 wide, 360 high",
        "stress set, 320 to 1,920 wide: RMSE 0.250 to 0.500",
    )
    assert found["frame rate"] == ("24 to 60 a second", "not measured")


# --- unseen codecs beside seen ones


def pair(scheme: str, seen: bool, rmse: float, answer: str = "ours") -> dict:
    return {"scheme": scheme, "seen": seen, "answer": answer, "rmse": rmse}


def test_an_unseen_codec_is_held_against_a_seen_one():
    pairs = [
        pair("leave one codec out", False, 9.0),
        pair("train on one codec", True, 5.0),
        pair("train on one codec", False, 9.0),
    ]
    seen = {"codec-blind": {"rmse": 2.0}, "ours": {"rmse": 3.0}, "reference": {"rmse": 4.0}}
    found = seen_errors({"pairs": pairs, "seen": seen})
    # The answer to an unseen codec is the codec-blind network's, and so is the one beside it.
    assert found["leave one codec out"] == {"ours": 2.0, "reference": 4.0}
    assert found["train on one codec"]["ours"] == 5.0
    assert np.isnan(found["train on one codec"]["reference"])


def test_a_ladder_is_told_by_how_many_values_it_has():
    rungs = [("a", 10), ("a", 20), ("b", 10), ("b", 20), ("b", 30)]
    ladders = [
        {"answer": answer, "seen": seen, "src": src, "encoder": "libx264", "predicted": predicted}
        for answer, seen in (("ours", True), ("reference", False))
        for (src, _), predicted in zip(rungs, (-2.0, 0.0, 100.0, 103.5, 50.0), strict=True)
    ]
    assert ladder_facts({"ladders": ladders}) == {"count": 2, "least": 2, "most": 3}


# --- what a run took


def test_what_a_run_took_is_told_by_its_own_files(smoke):
    cost = run_cost(RunDir(smoke.path))
    assert all(seconds > 0 for seconds in cost["seconds"].values())
    assert cost["total"] == pytest.approx(sum(cost["seconds"].values()))
    # Four sources, three arms; the same for the two arms of ADR-0319; three networks for the file.
    assert cost["networks"] == 4 * 3 + 4 * 2 + 3
    assert cost["encode_hours"] is None


# --- the page


def screen(done) -> str:
    """Return the text of the first screen of a run's card."""
    page = (done.path / "book" / "index.md").read_text()
    part = page[page.index('<div class="fr-top">') : page.index("## Identity")]
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())
    return re.sub(r" (?=[,.:;])", "", text)


def test_the_first_screen_says_what_it_is_and_what_became_of_its_clauses(smoke, hopeless):
    for done in (smoke, hopeless):
        clauses, said = done.json("gate.json")["clauses"], screen(done)
        assert "Repeats VMAF v0.6.1 from six libvmaf features" in said
        assert "not a new metric" in said
        passed = sum(clause["status"] == "pass" for clause in clauses)
        assert f"{len(clauses)} clauses: {passed} passed" in said


def test_the_large_figures_are_those_of_the_files(smoke):
    said, outside = screen(smoke), smoke.json("outside.json")["arms"]["v3"]["stress"]
    oof = pd.read_parquet(smoke.path / "oof.parquet")
    worst = (oof["pred_v3"] - oof["vmaf"]).abs().max()
    mean = smoke.json("loso.json")["arms"]["v3"]["summary"]["mean_rmse"]
    assert f"typical error of a frame {mean:.3f} RMSE" in said
    assert f"worst frame seen {worst:.2f} at" in said
    assert f"outside the corpus {outside['rmse']:.3f} on {outside['rows']:,} frames" in said
    assert f"outside the corpus {outside['max_abs']:.2f}" in said


def test_the_strip_has_all_slots(smoke, nvenc):
    for done in (smoke, nvenc):
        said, rows = screen(done), done.json("audit.json")["rows_per_slot"]
        for name in NEWEST_VOCAB:
            assert re.search(rf"{re.escape(name)} {'✓ [0-9.]+' if rows[name] else 'blind'} ", said)


def test_a_file_that_nobody_may_score_with_says_so_on_the_strip(smoke, hopeless):
    for done in (smoke, hopeless):
        assert "so is, of this run's file, every slot" in screen(done)
        assert "ONNX (audit trail)" in screen(done)


def test_a_fit_that_clears_no_floor_is_not_called_unmeasured(smoke, hopeless):
    assert "would also be cleared by ADR-0319's recipe (mean PLCC at least" in screen(smoke)
    assert "here nothing else that was measured clears its floors" in screen(hopeless)


def test_rows_per_encode_are_no_frames(nvenc):
    said = screen(nvenc)
    assert "typical error of an encode" in said
    assert "worst encode seen" in said
    assert " frame seen" not in said


def test_another_teacher_has_no_formula_to_use_instead(smoke):
    values = page_values(RunDir(smoke.path))
    teacher = next(t for t in TEACHERS.values() if not t.formula)
    nothing = values | {"teacher": teacher, "formula_applies": False, "stress": None, "swap": None}
    page = html.unescape(render_page((ROOT / "book" / "index.md").read_text(), nothing))
    assert f"Repeats <strong>{teacher.title}</strong>" in page
    assert f"{teacher.title} is no formula of these six features" in page
    assert "When to use the formula instead" not in page
    assert page.count("outside the corpus <b>not measured</b>") == 3
    limits = html.unescape(render_page((ROOT / "book" / "limits.md").read_text(), nothing))
    assert f"{teacher.title} is no formula of the six features" in limits
    assert "support-vector" not in limits
    glossary = render_page((ROOT / "book" / "glossary.md").read_text(), nothing)
    assert f"here is {teacher.title}." in html.unescape(glossary)


def test_the_explorer_is_offered_where_the_book_has_it(smoke):
    values = page_values(RunDir(smoke.path))
    source = (ROOT / "book" / "index.md").read_text()
    with_it = render_page(source, values | {"pages": ("explorer",)})
    assert 'href="explorer.html"' in with_it
    assert "explorer.html" not in render_page(source, values | {"pages": ("limits",)})


def test_every_link_of_the_first_screen_leads_somewhere(smoke):
    page = smoke.page()
    built = page.read_text()
    top = built[built.index('class="fr-top"') : built.index('id="identity"')]
    links = re.findall(r'<a [^>]*href="([^"]+)"', top)
    assert len(links) > 10
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in built, link
        else:
            assert (page.parent / link).is_file(), link


def test_what_is_offered_for_download_is_the_run_s_own(smoke):
    folder = smoke.page().parent / "files"
    for name in ("fr_regressor_v3.onnx", "fr_regressor_v3.json", "registry.json"):
        assert (folder / name).read_bytes() == (smoke.path / "model" / name).read_bytes()
    assert (folder / FORMULA.name).read_bytes() == FORMULA.read_bytes()


# --- claims


def text_of(done, page: str) -> str:
    text = (done.path / "book" / f"{page}.md").read_text()
    return " ".join(html.unescape(text).split())


def test_an_inert_preset_is_not_said_to_extrapolate(smoke, nvenc):
    for done in (smoke, nvenc):
        values, said = page_values(RunDir(done.path)), text_of(done, "limits")
        inert = "preset_norm" in {c["column"] for c in values["audit"]["constant_columns"]}
        assert inert == ("another preset moves no prediction" in said)
        assert inert == ("moves the score, without a row" not in said)


def test_comparing_encoders_is_out_of_scope_everywhere(smoke):
    card, limits = text_of(smoke, "index"), text_of(smoke, "limits")
    use = card[card.index("## Intended use") : card.index("### Out of scope")]
    assert "ladders of one encoder" in use
    assert not re.search("compar|which of two", use)
    assert "Saying which of two encoders is better." in card
    assert "not for saying which of two encoders is better" in limits


def test_what_is_not_stated_of_the_clips_is_said_in_limits(smoke):
    said = text_of(smoke, "limits")
    assert "Their length and frame rate are not stated." in said
    assert "The size of their pictures is not stated." in said
    assert "Their bit depth is not stated." in said


def test_the_first_seed_alone_is_called_that(smoke):
    assert "With the first seed of this run alone" in text_of(smoke, "index")
    assert "one seed, so not decided" in text_of(smoke, "index").lower()


def source(name: str) -> str:
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return " ".join(" ".join(c.source for c in cells if c.cell_type == "markdown").split())


def test_export_says_that_the_file_is_not_what_the_folds_judged(smoke):
    said = source("04_export")
    assert "Is the file that ships the model that was judged? No, not by every clause." in said
    assert "networks of that recipe trained on all sources" in said
    executed = (smoke.path / "notebooks" / "04_export.ipynb").read_text()
    folds = smoke.json("loso.json")["arms"]["v3"]["folds"]
    assert f"'{len(folds)}'" in executed


def test_unseen_codecs_stand_beside_seen_ones_and_the_clip_is_named():
    said = source("05_transfer")
    assert "on the same rows, networks that saw every codec err by {glue:text}`left_seen`" in said
    assert "The reference's own file does not clip; unclipped it would err by more." in said
    assert "Single frames, and quality values between these, were not looked at." in said


# --- in a browser


def test_five_questions_are_answered_without_scrolling(browser, smoke):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(smoke.page().as_uri(), wait_until="load")
    whole = page.locator(".fr-top").bounding_box()
    assert whole["y"] >= 0
    # What, how good, for my codec, for my clips, what instead.
    for part in (".fr-lead", ".fr-tiles", ".fr-slots", ".fr-use", ".fr-instead", ".fr-buttons"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0, part
        assert box["y"] + box["height"] <= 900, part
    page.close()


@pytest.mark.parametrize("width", [1400, 400])
def test_the_first_screen_overlaps_nowhere_and_stays_in_its_window(browser, hopeless, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(hopeless.page().as_uri(), wait_until="load")
    boxes = page.evaluate(
        """[...document.querySelectorAll('.fr-tiles > div, .fr-slots > li')].map(e => {
            const b = e.getBoundingClientRect();
            return [b.left, b.top, b.right, b.bottom, e.scrollWidth - e.clientWidth];
        })"""
    )
    page.close()
    assert len(boxes) == 3 + len(NEWEST_VOCAB)
    for k, (left, top, right, bottom, beyond) in enumerate(boxes):
        assert left >= 0
        assert right <= width
        assert beyond <= 0
        for other in boxes[k + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart


def test_the_html_of_the_first_screen_has_no_blank_line(smoke, hopeless, nvenc):
    """One would end it, and what follows would be Markdown."""
    for done in (smoke, hopeless, nvenc):
        page = (done.path / "book" / "index.md").read_text()
        top = page[page.index('<div class="fr-top">') : page.index("## Identity")]
        assert not re.search(r"\n[ \t]*\n", top.rstrip())
