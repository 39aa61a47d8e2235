"""How text that somebody else chose is written where a reader meets it.

A source may be called anything. A page, a table of HTML and a figure each have a grammar in which
such a name could be an instruction; here is one function for each, and nothing of a run's text goes
there by another way. Names of files need none: what is made of a name is filed under its hash.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import cache
from typing import Any

from markupsafe import Markup, escape

# Markdown, MyST and tables of either give these no meaning, wherever they stand.
_PLAIN = {*string.ascii_letters, *string.digits, " "}
# HTML has no place for controls, surrogates and what Unicode calls no character, not even as
# references (WHATWG HTML 13.2.5.80, "Numeric character reference end state").
_NO_CHARACTER = "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17)
)
_CONTROL = re.compile(
    rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NO_CHARACTER}]"
)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def shown(value: Any) -> str:
    """Return text with what no page and no SVG can hold as Python writes it."""
    return _CONTROL.sub(lambda found: _escaped(found[0]), str(value))


def page_text(value: Any) -> Any:
    """Return a value for a Markdown page: text means itself there, in a table too.

    What is no text, or is :class:`markupsafe.Markup` and so was written for the page, stays.

    Examples
    --------
    >>> print(page_text("a|*b*"))
    a&#124;&#42;b&#42;
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return Markup(
        "".join(
            c if c in _PLAIN or (c > "~" and c.isprintable()) else f"&#{ord(c)};"
            for c in shown(value)
        )
    )


def page_name(value: str) -> Markup:
    """Return a name for a Markdown page, apart from the text around it.

    ``bdi`` keeps directions of writing inside, and the style sheet its spaces and line ends.
    """
    return Markup("<bdi>{}</bdi>").format(page_text(value))


def page_code(value: str) -> Markup:
    """Return text for a Markdown page that looks like code; one of its own would end backquotes."""
    return Markup('<code class="docutils literal notranslate">{}</code>').format(page_text(value))


def cell_text(value: Any) -> str:
    """Return a value for a cell of an HTML table.

    Examples
    --------
    >>> cell_text("<b>")
    '&lt;b&gt;'
    """
    return str(escape(shown(value)))


def labels(names: Sequence[str], limit: int = 26) -> list[str]:
    r"""Return names for a figure: in characters that its font has, short, and never mathematics.

    What all names share at either end goes first, then each one's middle; names that then look
    alike get a number. A character that the font lacks, or that has no shape, is written as Python
    would: ``\u202e``.

    Parameters
    ----------
    names : sequence of str
        All that stand side by side.
    limit : int
        Characters, as wide as a usual one.

    Examples
    --------
    >>> labels(["$x$"])
    ['\\$x\\$']
    """
    drawn = _shortened([_drawn(name) for name in names], limit)
    return [name.replace("$", r"\$") for name in drawn]


def _drawn(name: str) -> str:
    return "".join(c if c.isprintable() and ord(c) in _glyphs() else _escaped(c) for c in name)


@cache
def _glyphs() -> dict[int, int]:
    """Return the characters of the font that figures are set in."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties())).get_charmap()


def _shortened(names: Sequence[str], limit: int) -> list[str]:
    if max(map(len, names), default=0) > limit and len(names) > 1:
        head = _shared(names)
        tail = _shared([name[head:][::-1] for name in names])
        names = [
            "…" * (head > 0) + name[head : len(name) - tail] + "…" * (tail > 0) for name in names
        ]
    short = [_cut(name, limit) for name in names]
    return [
        name if short.count(name) == 1 else f"{name} ({short[: i + 1].count(name)})"
        for i, name in enumerate(short)
    ]


def _shared(names: Sequence[str]) -> int:
    """Return how many leading characters all names share."""
    together = zip(*names, strict=False)
    differ = (i for i, letters in enumerate(together) if len(set(letters)) > 1)
    return next(differ, min(map(len, names)))


def _cut(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"
