"""What the book's theme lacks, as a Sphinx extension: search from disk, glossary links, head.

The build loads it by its name in ``book/_config.yml``. It takes off each page what nothing uses,
links the terms of the glossary both ways, gives each page its description, and writes the texts
that ``search.js`` looks through, since a page opened from disk may read no other page.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

GLOSSARY = "glossary"
# What the theme brings and no page of the book loads.
UNUSED = (
    *("**/*.map", "**/*.LICENSE.txt", "_static/locales", "_static/images/logo_*"),
    *("_static/scripts/fontawesome.js", "_static/vendor/fontawesome/webfonts/fa-brands*"),
    "_static/vendor/fontawesome/webfonts/*.ttf",  # each is there as woff2 too
    *("_static/searchtools.js", "_static/language_data.js", "_static/*thebe*"),
    *("_static/*webpack-macros.html", "_static/play-solid.svg", "_static/file.png"),
)
# A term is no link here: it names something else, is a link or a button already, or is the page's
# structure.
_KEPT = (
    *(nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.raw, nodes.caption),
    nodes.thead,
)
_OPENED = re.compile(r"<(/?)(?:a|code|bdi)\b")
_ASIDES = ".headerlink, .cell_input, details.hide > summary, script, style, button"
_BLOCKS = ["p", "li", "dt", "dd", "td", "th", "pre", "div", "figcaption", "h1", "h2", "h3", "br"]
# How long a description may be that search engines and previews show whole.
_LONGEST = 160


def setup(app: Any) -> dict[str, Any]:
    """Connect the extension to a Sphinx application."""
    app.connect("builder-inited", _without_its_search)
    app.connect("env-updated", _find_uses)
    app.connect("doctree-resolved", _link_terms)
    app.connect("html-page-context", _mend_head, priority=900)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": False, "parallel_write_safe": False}


def _without_its_search(app: Any) -> None:
    app.builder.search = False


# --- the glossary


def term_pattern(term: str) -> str:
    r"""Return what finds a term in running text: its plural too, an acronym in capitals alone.

    Examples
    --------
    >>> bool(re.search(term_pattern("Fold"), "two folds")), re.search(term_pattern("LOSO"), "loso")
    (True, None)
    """
    word = re.escape(term).replace(r"\ ", r"\s+") + "s?"
    return rf"(?<![\w-]){word if term.isupper() else f'(?i:{word})'}(?![\w-])"


def _terms(app: Any) -> dict[str, str]:
    """Return the anchor of each term of the glossary, longer terms first."""
    found = {
        name: anchor
        for name, _, kind, page, anchor, _ in app.env.get_domain("std").get_objects()
        if (kind, page) == ("term", GLOSSARY)
    }
    return {name: found[name] for name in sorted(found, key=len, reverse=True)}


def _texts(doctree: nodes.document) -> Iterator[nodes.Text]:
    """Yield the running text of a page, what stands in tables last."""
    texts = [
        text
        for text in doctree.findall(nodes.Text)
        if not _has_parent(text, _KEPT) and not _is_inside_html(text)
    ]
    yield from sorted(texts, key=lambda text: _has_parent(text, nodes.table))


def _is_inside_html(text: nodes.Text) -> bool:
    """Say whether a link, code or a name that is written as HTML is open where a text stands."""
    before = text.parent[: text.parent.index(text)]
    found = [tag for node in before if isinstance(node, nodes.raw) for tag in _tags(node)]
    return found.count("") > found.count("/")


def _tags(node: nodes.raw) -> list[str]:
    return _OPENED.findall(node.astext())


def _has_parent(node: nodes.Node, kinds: Any) -> bool:
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def _mark_first(texts: list[nodes.Text], term: str, link: nodes.Element) -> bool:
    """Put a link in the place of the first use of a term; say whether there is one."""
    pattern = re.compile(term_pattern(term))
    for at, text in enumerate(texts):
        if match := pattern.search(text):
            # What stands around it is looked through for the next term.
            texts[at : at + 1] = _replace(text, match, link)
            return True
    return False


def _find_uses(app: Any, env: Any) -> None:
    """Note which pages use which term before any page is written; a longer term comes first."""
    terms = _terms(app)
    uses = app.fr_lib_uses = {term: [] for term in terms}
    for page in (page for page in env.collect_relations() if page != GLOSSARY):
        texts = [*_texts(env.get_doctree(page))]
        for term in terms:
            if _mark_first(texts, term, nodes.literal()):
                uses[term].append(page)


def _replace(text: nodes.Text, match: re.Match[str], link: nodes.Element) -> list[nodes.Text]:
    """Put a link into a text, and return the texts on both sides of it."""
    link += nodes.Text(match[0])
    around = nodes.Text(text[: match.start()]), link, nodes.Text(text[match.end() :])
    around = [node for node in around if node.astext()]
    text.parent.replace(text, around)
    return [node for node in around if node is not link]


def _link_terms(app: Any, doctree: nodes.document, page: str) -> None:
    """Link the first use of a term on a page to the glossary, and there each term to its uses."""
    address = app.builder.get_relative_uri
    if page == GLOSSARY:
        for entry in doctree.findall(nodes.definition_list_item):
            names = [term.astext() for term in entry.findall(nodes.term)]
            used = {page for name in names for page in app.fr_lib_uses[name]}
            pages = [page for page in app.env.collect_relations() if page in used]
            entry[-1] += _used_in(
                [(app.env.titles[p].astext(), address(GLOSSARY, p)) for p in pages]
            )
        return
    texts = [*_texts(doctree)]
    for term, anchor in _terms(app).items():
        if page in app.fr_lib_uses[term]:
            there = f"{address(page, GLOSSARY)}#{anchor}"
            link = nodes.reference("", refuri=there, internal=True, classes=["term-link"])
            _mark_first(texts, term, link)


def _used_in(pages: list[tuple[str, str]]) -> nodes.paragraph:
    line = nodes.paragraph("", "Used in: " if pages else "", classes=["used-in"])
    for number, (title, address) in enumerate(pages):
        line += nodes.Text(", " if number else "")
        line += nodes.reference("", title, refuri=address, internal=True)
    return line


# --- the head of a page


def _mend_head(
    app: Any, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give a page its description, and load each script once, those of live code not at all."""
    described = _description(doctree) if doctree else f"Search {app.config.project}."
    meta = f'\n    <meta name="description" content="{escape(described)}" />'
    context["metatags"] = context.get("metatags", "") + meta
    scripts: dict[tuple[Any, Any], Any] = {}
    for script in context["script_files"]:
        key = (getattr(script, "filename", script), getattr(script, "attributes", {}).get("body"))
        if "thebe" not in f"{key}".lower():
            scripts.setdefault(key, script)
    context["script_files"] = list(scripts.values())
    context["css_files"] = [css for css in context["css_files"] if "thebe" not in str(css.filename)]
    context["body"] = re.sub(
        r"<script[^>]*thebe-config.*?</script>|<script>kernelName = .*?</script>",
        "",
        context.get("body", ""),
        flags=re.DOTALL,
    )


def _description(doctree: nodes.document) -> str:
    """Return the first paragraph of a page, cut at a word; boxes above it are no description."""
    boxes = (nodes.Admonition, nodes.table, nodes.raw, nodes.container)
    paragraphs = (p for p in doctree.findall(nodes.paragraph) if not _has_parent(p, boxes))
    said = " ".join(next(paragraphs, doctree).astext().split()).removeprefix("Question. ")
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1].rsplit(" ", 1)[0] + "…"


# --- what is written at the end


def _finish(app: Any, failed: Exception | None) -> None:
    if failed is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    sections = [s for page in sorted(app.env.found_docs) for s in _sections(app, out, page)]
    data = json.dumps(sections, ensure_ascii=False, separators=(",", ":"))
    (out / "_static" / "search-data.js").write_text(f"window.bookSections = {data};\n")
    for pattern in UNUSED:
        for path in list(out.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sections(app: Any, out: Path, page: str) -> Iterator[dict[str, str]]:
    """Yield the sections of a written page, each with its own text; code is left out."""
    from bs4 import BeautifulSoup, SoupStrainer

    address = app.builder.get_target_uri(page)
    only = SoupStrainer("article")
    article = BeautifulSoup((out / address).read_text(), "html.parser", parse_only=only).article
    for aside in article.select(_ASIDES):
        aside.decompose()
    # Blocks are words of their own where their texts are put side by side.
    for block in article.find_all(_BLOCKS):
        block.append(" ")
    title = app.env.titles[page].astext()
    for section in reversed(article.find_all("section")):
        own = section.extract()
        heading = own.find(re.compile("^h[1-6]$"))
        name = " ".join(heading.extract().get_text().split()) if heading else title
        text = " ".join(own.get_text().split())
        yield {"page": address, "title": title, "id": own.get("id", ""), "heading": name} | {
            "text": text
        }
