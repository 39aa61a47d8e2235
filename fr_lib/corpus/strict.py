"""Input that means one thing: what a file is, told by its first bytes, and JSON read strictly."""

from __future__ import annotations

import json
import re
from typing import Any

BOM = b"\xef\xbb\xbf"
# Longer than any number that means something; Python refuses to read more digits than 4,300.
_MOST_DIGITS = 400
_SURROGATE = re.compile("[\ud800-\udfff]")

_MAGIC = {
    b"\xff\xfe\0\0": "UTF-32 text",
    b"\0\0\xfe\xff": "UTF-32 text",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "a ZIP archive",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x89HDF": "HDF5",
    b"SQLite format 3": "SQLite",
    b"%PDF": "PDF",
}
_ARRAY = re.compile(rb"\[\s*[\[\]{\"\d-]")


def kind_of(head: bytes) -> str:
    r"""Say what a file is by its first bytes, for the message that refuses it.

    Examples
    --------
    >>> kind_of(b"Frame,vmaf,integer_adm2\n0,97.4,1.0\n"), kind_of("<log/>".encode("utf-16"))
    ('CSV', 'UTF-16 text')
    """
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if 0 in head[:2]:
        return "UTF-16 text without its byte order mark" if any(head[:2]) else "binary"
    text = head.removeprefix(BOM).lstrip()
    if not text:
        return "blank" if head else "empty"
    if _ARRAY.match(text):
        return "a JSON array"
    if text[:1] in b"<{":
        return "JSON" if text[:1] == b"{" else "XML or HTML"
    line = text.splitlines()[0]
    if any(line.count(mark) >= 2 for mark in (b",", b";", b"\t")):
        return "CSV"
    return "binary" if 0 in head else "other text"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} twice")
    return found


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def parse_json(text: str) -> Any:
    """Parse JSON; a key that stands twice in one object and endless nesting are refused.

    Raises
    ------
    ValueError
        :class:`json.JSONDecodeError` for what is no JSON, otherwise with words of our own.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=_whole)
    except RecursionError:
        raise ValueError("brackets nested too deeply") from None


def is_unicode(text: str) -> bool:
    r"""Return whether a text can be written: JSON's ``\ud800`` alone is half a character."""
    return not _SURROGATE.search(text)


def shown(value: Any) -> str:
    r"""Return a value of unknown content as one short line for a message.

    Examples
    --------
    >>> shown("vmaf_4k"), shown("a\nb"), len(shown("x" * 10**6))
    ('vmaf_4k', "'a\\nb'", 60)
    """
    text = str(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return text if text and text.isprintable() and is_unicode(text) else ascii(text)[:60]
