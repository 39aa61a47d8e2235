"""SVG figures of a run as a page takes them in: small, in the page's colours, with their words.

matplotlib writes an SVG that stands alone. On a page its text is to be the page's text, its ids
must not meet those of another figure, thousands of points must not be thousands of elements, and a
dark page needs other colours. Every colour becomes a CSS variable with the light colour as its
fallback, and a rule of the figure's own sets it for a dark page: nothing is drawn twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

# Name of the cells of a heatmap: a dark page turns their shades round.
HEAT = "heat"
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
_REFERENCE = re.compile(r"#([\w.-]+)")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
# Text has the page's font.
_FONT = re.compile(r"font-family: [^;]*;? ?")
# From so many equal marks on, one polyline with markers draws them.
_MANY = 8
# The page is this much lighter than black at its darkest, and its text darker than white (OKLab).
_DARKEST, _LIGHTEST = 0.21, 0.92

# Ottosson 2020, "A perceptual color space for image processing": OKLab from linear sRGB.
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def dark_colour(colour: str, turned: bool = False) -> str:
    """Return the counterpart of a colour on a dark page, of the same hue.

    Parameters
    ----------
    colour : str
        ``#rrggbb``.
    turned : bool
        Exchange light and dark, as in a heatmap, whose palest cells are the least; greys always
        are. A line or a marker becomes lighter instead, so that it stands out.

    Examples
    --------
    >>> dark_colour("#000000"), dark_colour("#ffffff")
    ('#e4e4e4', '#181818')
    """
    light, a, b = _oklab(colour)
    if turned or np.hypot(a, b) < 0.02:
        # Squared, a grey that is drawn on a page stands out from either.
        light = _LIGHTEST - (_LIGHTEST - _DARKEST) * light ** (1 if turned else 2)
    else:
        light = 0.55 + 0.4 * light
    # Of the chroma as much as a screen can show.
    for share in np.linspace(1, 0, 21):
        rgb = _linear_rgb(light, share * a, share * b)
        if (rgb > -1e-4).all() and (rgb < 1 + 1e-4).all():
            break
    return _hex(rgb)


def _oklab(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return _TO_LAB @ np.cbrt(_TO_LMS @ linear)


def _linear_rgb(light: float, a: float, b: float) -> np.ndarray:
    return np.linalg.solve(_TO_LMS, np.linalg.solve(_TO_LAB, np.array([light, a, b])) ** 3)


def _hex(linear: np.ndarray) -> str:
    linear = np.clip(linear, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(float(value) * 255):02x}" for value in rgb)


def description(path: Path) -> str:
    """Return what a figure of a run says of itself."""
    found = ET.parse(path).getroot().find(f".//{_DESCRIPTION}")
    return "" if found is None else found.text or ""


def drawing(path: Path) -> str:
    """Return a figure of a run as HTML for a page.

    Parameters
    ----------
    path : Path
        An SVG that :meth:`fr_lib.runs.RunDir.save_figure` wrote.

    Returns
    -------
    str
        ``div.drawn`` that holds the SVG; its label for those who cannot see it is its description.
    """
    root = ET.parse(path).getroot()
    words, name = description(path), f"drawn-{path.stem}"
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    for defs in root.findall(f"{_SVG}defs"):
        for rule in defs.findall(f"{_SVG}style"):  # for all elements, those of the page too
            defs.remove(rule)
    symbols = {e.get("id"): e for e in root.iterfind(f".//{_SVG}defs/{_SVG}path")}
    for parent in list(root.iter()):
        _gather(parent, symbols, name)
    colours: dict[tuple[str, bool], str] = {}
    _vary(root, colours, turned=False)
    _own_ids(root, name)
    _unwrap(root)
    rules = "".join(f"{variable}:{dark_colour(*key)};" for key, variable in colours.items())
    style = ET.Element(f"{_SVG}style")
    style.text = f'@media screen{{html[data-theme="dark"] #{name}{{{rules}}}}}'
    root.insert(0, style)
    root.attrib = {"id": name, "viewBox": root.get("viewBox", ""), "role": "img"}
    root.attrib |= {"aria-label": words, "stroke-linejoin": "round"}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)  # HTML knows what an svg holds
        element.text, element.tail = (element.text or "").strip() or None, None
    html = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return f'<div class="drawn">{html}</div>'


def _gather(parent: ET.Element, symbols: dict[str, ET.Element], name: str) -> None:
    """Put each run of one mark at many places into one polyline whose vertices are that mark."""

    def alike(child: ET.Element) -> tuple[str, ...]:
        return child.tag, child.get(_HREF, ""), child.get("style", "")

    children: list[ET.Element] = []
    for (tag, href, style), same in groupby(list(parent), alike):
        run = list(same)
        symbol = symbols.get(href.removeprefix("#"))
        if tag == f"{_SVG}use" and symbol is not None and len(run) >= _MANY:
            run = _polyline(run, symbol, style, f"{name}-{len(symbols)}")
            symbols |= {run[0].get("id"): run[0]}
        children += run
    parent[:] = children


def _polyline(
    run: Sequence[ET.Element], symbol: ET.Element, style: str, name: str
) -> list[ET.Element]:
    mark = ET.Element(f"{_SVG}marker", id=name, markerUnits="userSpaceOnUse", overflow="visible")
    styles = "; ".join(filter(None, (style, symbol.get("style"))))
    ET.SubElement(mark, f"{_SVG}path", d=symbol.get("d", ""), style=styles)
    points = " ".join(f"{float(use.get('x')):.1f},{float(use.get('y')):.1f}" for use in run)
    ends = dict.fromkeys(("marker-start", "marker-mid", "marker-end"), f"url(#{name})")
    return [mark, ET.Element(f"{_SVG}polyline", points=points, style="fill: none", **ends)]


def _vary(element: ET.Element, colours: dict[tuple[str, bool], str], turned: bool) -> None:
    """Replace colours by variables, and take fonts and needless digits out."""
    turned = turned or element.get("id") == HEAT

    def variable(found: re.Match[str]) -> str:
        return f"var({colours.setdefault((found[0], turned), f'--d{len(colours)}')},{found[0]})"

    style = _FONT.sub("", element.get("style", ""))
    if style:
        style = _COLOUR.sub(variable, style)
        element.set("style", re.sub(r"([:;]) ", r"\1", style))
    for key in {"d", "x", "y", "width", "height", "transform"} & {*element.keys()}:
        element.set(key, " ".join(_NUMBER.sub(_short, element.get(key, "")).split()))
    element[:] = [child for child in element if not _is_empty(child, turned)]
    for child in element:
        _vary(child, colours, turned)


def _short(number: re.Match[str]) -> str:
    return f"{round(float(number[0]), 2):g}"


def _is_empty(element: ET.Element, cell: bool) -> bool:
    """Return whether nothing would be seen of a path, or of a cell but its gaps."""
    if element.tag != f"{_SVG}path":
        return False
    style = element.get("style", "")
    return "fill: none" in style and (cell or "stroke" not in style)


def _own_ids(root: ET.Element, name: str) -> None:
    """Keep the ids that something refers to, as names that no other figure has."""
    used = {
        found
        for element in root.iter()
        for key, value in element.items()
        if key == _HREF or "url(" in value
        for found in _REFERENCE.findall(value)
    }
    names = {old: f"{name}-{i}" for i, old in enumerate(sorted(used))}
    for element in root.iter():
        for key, value in list(element.items()):
            if key == "id":
                del element.attrib["id"]
                if value in used:
                    element.set("id", names[value])
            elif key == _HREF:
                del element.attrib[key]
                element.set("href", f"#{names[value[1:]]}")
            elif "url(" in value:
                element.set(key, _REFERENCE.sub(lambda m: f"#{names.get(m[1], m[1])}", value))


def _unwrap(parent: ET.Element) -> None:
    """Take away groups that say nothing, and definitions that nobody asks for."""
    children: list[ET.Element] = []
    for child in parent:
        _unwrap(child)
        bare = child.tag == f"{_SVG}g" and not child.attrib
        if child.tag == f"{_SVG}defs":
            child[:] = [e for e in child if e.get("id")]
        if bare:
            children += child
        elif len(child) or child.tag not in (f"{_SVG}defs", f"{_SVG}g"):
            children.append(child)
    parent[:] = children


def setup(app: Any) -> dict[str, Any]:
    """Let Sphinx, whose extension this is, put drawings where pages name figures of the run."""
    # Before images are collected and copied, which is done at the usual priority.
    app.connect("doctree-read", _inline, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(app: Any, doctree: Any) -> None:
    from docutils import nodes

    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"]).with_suffix(".svg")
        if image["uri"].startswith("figures/") and path.is_file():
            image.replace_self(nodes.raw("", drawing(path), format="html"))
