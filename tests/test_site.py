"""The book as a site: every page in a browser, from disk, in both themes, wide and narrow."""

from __future__ import annotations

import ast
import re
from functools import cache
from os.path import normpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup
from chain import Done

from fr_lib.runs import CHAPTERS, PAGES

# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|jupyter_).*")

MOST_OF_A_PAGE, MOST_OF_THE_BOOK = 1_500_000, 6_000_000
NAMES = ("index", *(f"notebooks/{chapter.name}" for chapter in CHAPTERS), *PAGES, "search")
VIEWS = [(theme, width) for width in (1400, 400) for theme in ("light", "dark")]
# A theme touches colours alone, so the other rules are asked in one theme.
BY_COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
RULES = {"light": {}, "dark": BY_COLOURS}
# Hundreds of cells are painted alike, and to look behind each takes most of the time: of text that
# has tag, colours and font in common the first is looked at. Other rules see all of it.
FIRST_OF_A_LOOK = """axe.configure(
    {rules: [{id: "color-contrast", selector: ":not([data-alike])"}]})"""
MARK_ALIKE = """() => {
    const clear = "rgba(0, 0, 0, 0)", shade = e => getComputedStyle(e).backgroundColor
    const behind = e => !e ? "page" : shade(e) === clear ? behind(e.parentElement) : shade(e)
    const veils = e => e ? getComputedStyle(e).opacity * veils(e.parentElement) : 1
    const seen = new Set()
    for (const e of document.body.querySelectorAll("*")) {
        delete e.dataset.alike
        const words = [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE)
        if (!words.some(text => text.data.trim()) || !e.checkVisibility()) continue
        const s = getComputedStyle(e)
        const look = [e.tagName, s.color, behind(e), s.fontSize, s.fontWeight, veils(e)].join()
        if (seen.has(look)) e.dataset.alike = ""
        seen.add(look)
    }
}"""
# A drawing is one picture with words of its own; to walk through its hundreds of parts takes long.
DROP_PARTS = "document.querySelectorAll('.drawn svg > *').forEach(part => part.remove())"
SERIOUS = """rules => axe.run({resultTypes: ["violations"], preload: false, ...rules}).then(
    found => found.violations.filter(v => ["serious", "critical"].includes(v.impact))
        .flatMap(v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 200)}`)))"""
WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"
DRAWN = """[...document.querySelectorAll('article .drawn svg')].map(
    s => [s.getAttribute('aria-label'), s.getBoundingClientRect().width])"""
# A figure three times as tall as it is wide, as that of a large corpus is.
TALLEST = """() => Math.max(0, ...[...document.querySelectorAll('article .drawn svg')].map(s => {
    s.setAttribute('viewBox', '0 0 500 1500')
    return s.getBoundingClientRect().height }))"""
SHEET = 25 * 96 / 2.54  # px, of A4 within its margins
# What reaches beyond its box, and neither scrolls by keyboard nor says so.
LOST = """[...document.querySelectorAll('article :is(.drawn, .table-box)')].filter(
    box => box.scrollWidth > box.clientWidth + 1
        && !(box.tabIndex === 0 && box.previousElementSibling.className === 'scroll-hint'
             && getComputedStyle(box).overflowX === 'auto')).map(box => box.textContent)"""


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def html_of(done: Done) -> Path:
    return done.page().parent


def test_these_are_all_pages(hopeless):
    found = {p.relative_to(html_of(hopeless)).as_posix() for p in html_of(hopeless).rglob("*.html")}
    assert found == {f"{name}.html" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_sound_in_both_themes_wide_and_narrow(browser, hopeless, name):
    # A colour on its way from one theme to the other has the contrast of neither.
    page = browser.new_page(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    said, asked, wrong = [], [], {}
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(hopeless.page(name).as_uri(), wait_until="load")
    page.evaluate(AXE_SCRIPT)
    page.evaluate(FIRST_OF_A_LOOK)
    page.evaluate(DROP_PARTS)
    for theme, width in VIEWS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
        # What scrolls is known after the next frame.
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        shape = page.evaluate(WIDTHS)
        assert shape[0] <= shape[1] + 1, (theme, width)
        # A figure says what is seen, is as wide as its box and legible on a phone.
        for words, wide in page.evaluate(DRAWN):
            assert len(words) > 40, words
            assert wide >= min(width - 60, 500), words
        assert page.evaluate(LOST) == [], (theme, width)
        page.evaluate(MARK_ALIKE)
        wrong[theme, width] = page.evaluate(SERIOUS, RULES[theme])
    images = page.evaluate("[...document.querySelectorAll('article img')].map(i => i.naturalWidth)")
    page.close()
    assert said == []
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    assert all(images)
    assert wrong == {view: [] for view in VIEWS}
    weight = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
    assert sum(path.stat().st_size for path in weight) < MOST_OF_A_PAGE


def test_a_name_longer_than_any_line_breaks_wherever_a_page_writes_it(browser, hopeless):
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(hopeless.page("notebooks/03_gate").as_uri(), wait_until="load")
    for tag in ("h2", "p", "li", "dd", "strong", "figcaption", "summary"):
        shape = page.evaluate(
            f"""() => {{
                const it = document.createElement("{tag}")
                it.textContent = "name".repeat(100)
                document.querySelector("article section").append(it)
                return {WIDTHS} }}"""
        )
        assert shape[0] <= shape[1], tag
    page.close()


def test_the_book_is_light(hopeless, smoke):
    for done in (hopeless, smoke):
        sizes = [path.stat().st_size for path in html_of(done).rglob("*") if path.is_file()]
        assert sum(sizes) < MOST_OF_THE_BOOK


def test_links_lead_somewhere(hopeless):
    for name in NAMES:
        path = hopeless.page(name)
        for link in soup(path).select("a[href], link[href]"):
            target = urlsplit(link["href"])
            if target.scheme or not target.path + target.fragment:
                continue
            there = Path(normpath(path.parent / unquote(target.path))) if target.path else path
            assert there.is_file(), f"{name}: {link['href']}"
            if target.fragment and there.suffix == ".html":
                assert soup(there).find(id=unquote(target.fragment)), f"{name}: {link['href']}"


def test_each_page_says_what_it_is_in_its_head(hopeless):
    said = {}
    for name in NAMES:
        head = soup(hopeless.page(name)).head
        [described] = head.select('meta[name="description"]')
        said[name] = described["content"]
        assert 15 <= len(said[name]) <= 160, name
        [icon] = head.select('link[rel="icon"]')
        assert (hopeless.page(name).parent / icon["href"]).read_text().startswith("<svg")
    assert len({*said.values()}) == len(NAMES)


# --- search


def search(page, hopeless: Done, words: str) -> list[dict[str, str]]:
    """Search from a page, as a reader does who knows the key for it."""
    page.goto(hopeless.page("limits").as_uri(), wait_until="load")
    page.keyboard.press("Control+k")
    page.keyboard.insert_text(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?**")
    page.locator("#search-summary:not(:empty)").wait_for()
    return page.evaluate(
        """[...document.querySelectorAll("#search-results li")].map(li => ({
            address: li.querySelector("a").href, text: li.querySelector("p").textContent,
            marked: [...li.querySelectorAll("mark")].map(m => m.textContent)}))"""
    )


def glued(path: Path) -> dict[str, str]:
    mime = "application/papermill.record/text/plain"
    return {
        output.metadata["scrapbook"]["name"]: str(ast.literal_eval(output.data[mime]))
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", ())
        if mime in output.get("data", {})
    }


def test_search_finds_from_disk_what_pages_outputs_and_glued_numbers_say(browser, hopeless):
    page, said = browser.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    own = hopeless.json("loso.json")["arms"]["v3"]
    loso, gate = "notebooks/02_loso", "notebooks/03_gate"
    worst_fold = max(own["folds"], key=lambda fold: fold["rmse"])
    for words, where in {
        "support-vector regression": "limits",
        f"{worst_fold['rmse']:.3f}": loso,  # in a table that a cell shows
        glued(hopeless.path / f"{loso}.ipynb")["mean_rmse"]: loso,
        "retrain pending": gate,
        "alert(1)": loso,
    }.items():
        hits = search(page, hopeless, words)
        there = [hit for hit in hits if f"/{where}.html" in hit["address"]]
        assert there, words
        assert {word.lower() for word in words.split()} <= {
            mark.lower() for hit in there for mark in hit["marked"]
        }
        assert page.locator("#search-results :is(img, script)").count() == 0
        page.goto(there[0]["address"])
        assert page.locator(":target").count() == 1
    assert said == []
    page.close()


def test_search_says_how_much_it_found_and_takes_numbers_with_or_without_commas(browser, hopeless):
    page = browser.new_page()
    rows = glued(hopeless.path / "notebooks/01_corpus_audit.ipynb")["n_kept"]
    page.goto(hopeless.page("search").as_uri(), wait_until="load")
    field, said = page.locator("article input[name=q]"), page.locator("#search-summary")
    field.fill("nosuchwordanywhere")
    assert said.inner_text() == "No section has all of these words."
    # The words of a bar that unfolds code are no text of the page.
    bars = page.evaluate("bookSections.filter(s => /show code cell/i.test(s.text)).length")
    assert bars == 0
    field.fill("slot")
    assert re.fullmatch(r"\d+ sections on \d+ pages", said.inner_text())
    assert "slot" in page.locator("#search-results p").first.inner_text().lower()
    assert not re.search(r"\D", rows)
    page.evaluate(
        "window.bookSections.push({page: 'index.html', title: 't', id: '', "
        "heading: 'h', text: 'kept 7,056 rows'})"
    )
    for words in ("7,056", "7056"):
        field.fill(words)
        assert page.locator("#search-results mark").first.inner_text() == "7,056"
    page.close()


# --- the glossary


def test_the_glossary_is_linked_both_ways(hopeless):
    glossary = soup(hopeless.page("glossary"))
    entries = [
        ({term["id"] for term in terms}, entry)
        for entry in glossary.select("dl.glossary dd")
        if (terms := list(names_of(entry)))
    ]
    linked = {
        name: {
            link["href"].partition("#")[2]
            for link in soup(hopeless.page(name)).select(".term-link")
        }
        for name in NAMES
        if name != "glossary"
    }
    assert len(entries) > 10
    for anchors, entry in entries:
        back = {link["href"].removesuffix(".html") for link in entry.select(".used-in a")}
        assert back == {name for name, found in linked.items() if anchors & found}, anchors
        assert back, anchors


def terms_of(path: Path):
    return soup(path).select(".term-link")


def names_of(entry):
    for before in entry.previous_siblings:
        if before.name == "dd":
            return
        if before.name == "dt":
            yield before


def test_a_term_is_linked_where_it_is_first_used(hopeless):
    for name in NAMES:
        links = [link["href"] for link in terms_of(hopeless.page(name))]
        assert len(links) == len({*links}), name


# --- keyboard and paper


def test_what_has_the_focus_can_be_seen(browser, hopeless):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(hopeless.page("notebooks/03_gate").as_uri(), wait_until="load")
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        where, outline, shadow = page.evaluate(
            """() => {const at = document.activeElement, style = getComputedStyle(at);
                return [at.outerHTML.slice(0, 120), style.outlineStyle, style.boxShadow]}"""
        )
        seen.add(where)
        assert outline != "none" or shadow != "none", where
    assert len(seen) > 20
    page.close()


def test_a_table_that_scrolls_can_be_scrolled_with_the_keyboard(browser, hopeless):
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(hopeless.page("own_corpus").as_uri(), wait_until="load")
    table = page.locator("article .table-box[tabindex='0']").first
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
    page.set_viewport_size({"width": 3000, "height": 900})
    page.wait_for_function("!document.querySelector('article .table-box[tabindex]')")
    page.close()


PRINTED = """selector => [...document.querySelectorAll(selector)]
    .filter(e => e.checkVisibility()).map(e => e.outerHTML.slice(0, 80))"""


def test_on_paper_are_no_bars_of_code_and_nothing_is_cut_off(browser, hopeless):
    page = browser.new_page(viewport={"width": 700, "height": 1000})
    tallest = []
    for name in ("index", "notebooks/02_loso", "notebooks/03_gate"):
        page.goto(hopeless.page(name).as_uri(), wait_until="load")
        page.emulate_media(media="print")
        aside = ".cell_input, details.hide, .bd-sidebar, .copybtn, .headerlink, nav, form"
        # A header that sorts is printed as the header that it is.
        aside += ", button:not(.sort)"
        assert page.evaluate(PRINTED, aside) == []
        assert len(page.evaluate(PRINTED, "h1")) == 1
        shape = page.evaluate(WIDTHS)
        assert shape[0] <= shape[1] + 1, name
        wide = page.evaluate(
            "[...document.querySelectorAll('article table')].filter(t => "
            "t.getBoundingClientRect().right > innerWidth).length"
        )
        assert wide == 0, name
        tallest.append(page.evaluate(TALLEST))
    page.close()
    # Of however many sources it tells, a figure is on one sheet.
    assert 0 < max(tallest) <= SHEET
