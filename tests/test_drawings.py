"""Drawings: SVG figures as a page takes them in."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fr_lib.arms import ARMS
from fr_lib.report import plots
from fr_lib.report.drawings import dark_colour, description, drawing
from fr_lib.runs import RunDir
from fr_lib.schema import NEWEST_VOCAB

matplotlib.use("Agg")
DARK_PAGE = "#14181e"  # the theme's


@pytest.fixture
def saved(tmp_path):
    """Save a figure as a run does, and return the path of its SVG."""

    def save(figure, name="one"):
        RunDir(tmp_path / "run").save_figure(figure, name)
        return tmp_path / "run" / "figures" / f"{name}.svg"

    return save


def scatter(rows=300, encoders=("libx264", "libaom-av1")):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"encoder": rng.choice(encoders, rows), "vmaf": rng.uniform(0, 100, rows)})
    table["pred_v3"] = table["vmaf"] + rng.normal(0, 1, rows)
    figure = Figure(layout="constrained")
    plots.plot_residuals(table, "v3", ax=figure.add_subplot())
    return figure


def heat(names=NEWEST_VOCAB[:3]):
    figure = Figure(layout="constrained")
    counts = pd.DataFrame([[1, 200, 0]] * 2, ["a", "b"], names)
    plots.plot_coverage(counts, ax=figure.add_subplot())
    return figure


def svg(html):
    found = re.fullmatch(r'<div class="drawn">(<svg.*</svg>)</div>', html, re.DOTALL)
    return ET.fromstring(found[1])


def light_of(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one, two):
    darker, lighter = sorted((light_of(one), light_of(two)))
    return (lighter + 0.05) / (darker + 0.05)


def test_what_a_figure_says_is_its_label(saved):
    path = saved(scatter())
    root = svg(drawing(path))
    assert root.get("role") == "img"
    assert root.get("aria-label") == description(path)
    assert root.get("aria-label").startswith("Residuals of v3 over VMAF, 300 rows: median")


def test_a_figure_that_says_nothing_has_an_empty_label(saved):
    assert svg(drawing(saved(Figure()))).get("aria-label") == ""


def test_text_stays_text_in_the_fonts_of_the_page(saved):
    html = drawing(saved(scatter()))
    assert "VMAF (points)" in [text.text for text in svg(html).iter("text")]
    assert "font-family" not in html


def test_every_point_is_drawn_though_few_elements_are(saved):
    root = svg(drawing(saved(scatter(rows=300))))
    points = [line.get("points").split() for line in root.iter("polyline")]
    assert sum(map(len, points)) == 300
    assert len(points) == len(list(root.iter("marker"))) == 2
    assert len(list(root.iter("use"))) < 40


def test_names_within_two_figures_never_meet(saved):
    roots = [svg(drawing(saved(scatter(), name))) for name in ("one", "two")]
    ids = [[e.get("id") for e in root.iter() if e.get("id")] for root in roots]
    assert not {*ids[0]} & {*ids[1]}
    for root, own in zip(roots, ids, strict=True):
        text = ET.tostring(root, encoding="unicode")
        asked = {*re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)}
        assert {a or b for a, b in asked} <= {*own}
        assert len(own) == len({*own})
    assert "<style" in text
    assert not re.search(r"\*\s*{", text)  # no rule for the rest of the page


def variables(html):
    rules = re.search(r"@media screen{html\[data-theme=\"dark\"\] #drawn-one{(.*?)}}", html)[1]
    return dict(rule.split(":") for rule in rules.split(";") if rule)


def test_every_colour_has_its_counterpart_for_a_dark_page(saved):
    html = drawing(saved(scatter()))
    used = {*re.findall(r"var\((--d\d+),#[0-9a-f]{6}\)", html)}
    assert used == {*variables(html)}
    body = re.sub(r"<style>.*?</style>", "", html)
    assert not re.search(r"(?<!,)#[0-9a-f]{6}\b", body.replace("#drawn-one", ""))


def test_a_heatmap_turns_its_shades_round_and_a_line_does_not(saved):
    few, many = "#d4e4f1", "#1a68ae"
    turned = [light_of(dark_colour(c, turned=True)) for c in (few, many)]
    assert turned[0] < turned[1]
    assert light_of(dark_colour(many)) > light_of(many)
    html = drawing(saved(heat()))
    cells = re.findall(r"fill:var\((--d\d+),(#[0-9a-f]{6})\);stroke:var\(--d\d+,#ffffff", html)
    assert {variables(html)[v] for v, _ in cells} == {dark_colour(c, turned=True) for _, c in cells}
    assert len({c for _, c in cells}) == 2


@pytest.mark.parametrize("name", [*plots.PALETTE, *ARMS])
def test_what_is_drawn_stands_out_on_both_pages(name):
    colour = plots.PALETTE[name][0] if name in plots.PALETTE else ARMS[name].colour
    assert contrast(dark_colour(colour.lower()), DARK_PAGE) >= 4.5


def test_equal_figures_have_equal_bytes(saved):
    assert saved(scatter(), "one").read_bytes() == saved(scatter(), "one").read_bytes()
