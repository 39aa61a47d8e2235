"""Names of any kind: text on a page, in a table, in a figure, on a terminal; never instructions."""

from __future__ import annotations

from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from chain import HOSTILE_NAMES
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it.renderer import RendererHTML
from markupsafe import Markup
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from fr_lib.errors import printable
from fr_lib.report import plots, tables
from fr_lib.report.book import render_page
from fr_lib.report.names import cell_text, labels, page_code, page_name, page_text

# As book/_config.yml has it.
MYST = create_md_parser(MdParserConfig(enable_extensions={"colon_fence", "deflist"}), RendererHTML)
HOSTILE = [
    *HOSTILE_NAMES,
    *(
        "# x",
        "- x",
        "+ x",
        "1. x",
        "> x",
        "% x",
        "    x",
        "\tx",
        "---",
        "===",
        "***",
        "(x)=",
        ": x",
    ),
    *("[^1]: x", "[x]: y", "<!--", "-->", "<![CDATA[", "&amp;", "&#60;", "&lt;", "\\", "\\|", "||"),
    *(
        "`",
        "``",
        "```",
        "~~~",
        ":::",
        "$",
        "$$",
        "$x$",
        "\\(x\\)",
        "{ref}`x`",
        "{{ x }}",
        "{% x %}",
    ),
    *(
        "[x](y)",
        "![x](y)",
        "<https://x.y>",
        "https://x.y",
        "x@y.z",
        "*x*",
        "__x__",
        "~~x~~",
        "a\nb",
    ),
    *(
        "\r",
        "\r\n",
        "\n\n",
        " ",
        "  x  ",
        "x  ",
        "\\\n",
        "\u2028",
        "\u2029",
        "\x85",
        "\x0c",
        "\x00",
    ),
    *("\x1b[31mx", "\x7f", "\u202ex", "\u2066", "\u2069", "\u200b", "\ufeff", "\ufffd", "\uffff"),
    *(
        "e\u0301",
        "\u0301",
        "\u05e9\u05dc\u05d5\u05dd",
        "映画",
        "😀",
        "👩‍👩‍👧",
        "x" * 3000,
        "﷽" * 30,
    ),
    *("'q'", '"q"', "--", "...", "(c)", "</bdi>", "</td>", "<script>alert(1)</script>", "<b>"),
]
names = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(HOSTILE)
each = pytest.mark.parametrize("name", HOSTILE)


def shown(name: str) -> str:
    """Return what a reader must see: the name, what HTML cannot hold as Python writes it."""
    return "".join(
        c.encode("unicode_escape").decode()
        if (ord(c) < 32 and c not in "\t\n\r")
        or 127 <= ord(c) < 160
        or 0xFDD0 <= ord(c) <= 0xFDEF
        or ord(c) & 0xFFFE == 0xFFFE
        else c
        for c in name
    )


class Elements(HTMLParser):
    """The elements of a page, in order, and the text of those that were asked for."""

    def __init__(self, html: str, *asked: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.asked, self.inside = asked, 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in self.asked:
            self.inside += 1
            self.texts.append("")

    def handle_endtag(self, tag):
        self.inside -= tag in self.asked

    def handle_comment(self, data):
        self.tags.append("comment")

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data


def on_a_page(name: str) -> None:
    page = (
        "{{ n | name }} begins and {{ n | name }} is inside.\n\n"
        "| a | b |\n|---|---|\n| {{ n | name }} | {{ n | code }} |\n\n- **x**: {{ n | name }}\n"
    )
    html = MYST.render(render_page(page, {"n": name}))
    found = Elements(html, "bdi", "code")
    assert found.texts == [shown(name)] * 5
    inline = ["p", "bdi", "bdi"]
    table = ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "bdi", "td", "code"]
    assert found.tags == [*inline, *table, "ul", "li", "strong", "bdi"]


@each
def test_a_name_is_text_on_a_page(name):
    on_a_page(name)


@given(names)
def test_any_name_is_text_on_a_page(name):
    on_a_page(name)


@given(names)
def test_text_without_a_filter_is_text_too(name):
    html = MYST.render(render_page("before {{ n }} after", {"n": name}))
    found = Elements(html, "p")
    assert found.tags == ["p"]
    assert found.texts == [f"before {shown(name)} after"]


def test_what_was_written_for_the_page_stays_and_so_do_figures():
    page = render_page(
        "{{ a | safe }} {{ b | number(2) }} {{ c | thousands }} {{ d }}",
        {
            "a": "**bold**",
            "b": -0.5,
            "c": 6864,
            "d": 3,
        },
    )
    assert page == "**bold** -0.50 6,864 3"
    assert page_text(Markup("*a*")) == "*a*"
    assert page_text(None) is None


def test_names_of_one_kind_of_letters_are_not_touched():
    assert page_text("Foo Bar 12 映画") == "Foo Bar 12 映画"
    assert page_name("a") == "<bdi>a</bdi>"
    assert page_code("a_b") == '<code class="docutils literal notranslate">a&#95;b</code>'


def in_a_table(name: str) -> None:
    table = pd.DataFrame({"src": [name], "signs": [[name, "rows"]], name or "x": [1.5], "n": [3]})
    found = Elements(tables.show(table).to_html(), "td", "th")
    head, cells = found.texts[:4], found.texts[4:]
    assert cells == [shown(name), shown(str([name, "rows"])), "1.5", "3"]
    assert head[:2] == ["src", "signs"]
    assert [tag for tag in found.tags if tag not in ("style", "table", "thead", "tbody")] == [
        *("tr", "th", "th", "th", "th"),
        *("tr", "td", "td", "td", "td"),
    ]


@each
def test_a_name_is_text_in_a_table(name):
    in_a_table(name)


@given(names)
def test_any_name_is_text_in_a_table(name):
    assume(name not in ("src", "signs", "n"))
    in_a_table(name)
    assert Elements(f"<td>{cell_text(name)}</td>", "td").texts == [shown(name)]


@each
def test_reasons_of_the_gate_are_text(name):
    clause = {"name": "worst", "reason": f"at {name}", "source": "ADR"}
    found = Elements(MYST.render(tables.reasons([clause])), "li")
    assert found.tags == ["ul", "li", "strong"]
    assert found.texts == [f"worst: at {shown(name)} (ADR)."]


# --- figures


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("plain", "plain"),
        ("$\\frac$", r"\$\frac\$"),
        (r"\$", r"\\$"),
        ("a\nb\t", r"a\nb\t"),
        ("\u202ex", r"\u202ex"),
        ("映", r"\u6620"),
        ("👩", r"\U0001f469"),
        ("e\u0301", "e\u0301"),
        ("\u05e9\u05dc", "\u05e9\u05dc"),
        ("", ""),
    ],
)
def test_a_label_holds_what_the_font_can_draw(name, label):
    assert labels([name]) == [label]


def test_labels_that_would_look_alike_get_a_number():
    assert labels(["\n", r"\n", "x"]) == [r"\n (1)", r"\n (2)", "x"]
    assert labels([]) == []


@given(st.lists(names, unique=True, max_size=6))
def test_labels_are_short_and_differ(given_names):
    found = labels(given_names)
    assert len(found) == len(set(found)) == len(given_names)
    assert all(len(label.replace(r"\$", "$")) <= 26 + len(" (6)") for label in found)


def drawn(found: list[str]) -> None:
    """Draw them as sources; a warning of matplotlib is an error here."""
    coverage = pd.DataFrame(1, index=found, columns=["libx264", "libx265"])
    fig, ax = plots.figure(height=plots.rows_height(len(found)))
    plots.plot_coverage(coverage, ax=ax)
    fig.canvas.draw()
    texts = [label.get_text() for label in ax.get_yticklabels()]
    plt.close(fig)
    assert texts == labels(found)


@pytest.mark.parametrize("some", [HOSTILE[i : i + 12] for i in range(0, len(HOSTILE), 12)])
def test_names_of_any_kind_are_drawn(some):
    drawn(some)


@settings(max_examples=8)
@given(st.lists(names, unique=True, min_size=1, max_size=8))
@example(["$x$", "$\\frac$", "$", "\\$", "$$"])
def test_any_names_are_drawn(found):
    drawn(found)


# --- a terminal


@each
def test_a_terminal_gets_one_line_without_controls(name):
    assert printable(name).isprintable()
    assert printable(f"{name}\n", keep="\n").endswith("\n")


def test_what_can_be_seen_stays():
    assert printable("映画 é \u05e9 $x$ <b>") == "映画 é \u05e9 $x$ <b>"
