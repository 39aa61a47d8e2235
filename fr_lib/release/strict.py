"""Files of a model folder, read once and strictly: limited bytes, JSON that says one thing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fr_lib.errors import ArtefactError, say
from fr_lib.files import ROOT

SCHEMA = "registry.schema.json"
SIDECAR_SCHEMA = "sidecar.schema.json"
FORMULA_SCHEMA = "formula.schema.json"
TRANSLATION_SCHEMA = "translation.schema.json"
MAX_JSON = 2**24  # bytes: a sidecar of 12 sources has 6 kB
MAX_DEPTH = 100  # a sidecar has 5; what judges and writes it would give up at some hundreds
_DATA = ROOT / "fr_lib" / "data"


class _Twice(ValueError):
    """A key that an object has twice: valid JSON, of which each reader sees another value."""


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        raise _Twice(f"the same key twice in one object ({', '.join(map(ascii, twice))})")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _int(digits: str) -> int:
    if abs(value := int(digits)) >= 2**63:
        raise ValueError(f"an integer of {len(digits)} digits")
    return value


def _float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is beyond what a double can hold")
    return value


_STRICT = json.JSONDecoder(
    parse_int=_int,
    parse_float=_float,
    parse_constant=_refuse_constant,
    object_pairs_hook=_one_of_each,
)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file, read once.

    Raises
    ------
    ArtefactError
        If it is missing, no regular file, cannot be read, or has more than `most` bytes: such a
        file is not read.
    """
    try:
        if not path.is_file():
            found = "no regular file" if path.exists() else "missing"
            raise ArtefactError(
                say(str(path), found, "a file of a model folder", "release a model first")
            )
        with path.open("rb") as stream:
            data = stream.read(min(path.stat().st_size, most) + 1)
    except (OSError, ValueError) as refused:
        why = getattr(refused, "strerror", None) or str(refused)
        raise ArtefactError(
            say(ascii(str(path))[1:-1][-200:], f"cannot be read ({why})", "a file", "restore it")
        ) from None
    if len(data) > most:
        raise ArtefactError(
            say(str(path), f"more than {most} bytes", f"at most {most}", "release the model again")
        )
    return data


def text_of(data: bytes, where: str | Path) -> str:
    """Return bytes as text, line ends as they are; ArtefactError if they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as broken:
        raise ArtefactError(
            say(str(where), f"not UTF-8 ({broken.reason})", "UTF-8", "write it again")
        ) from None


def _depth(value: Any) -> int:
    """Return how many lists and objects lie in each other, at most one more than allowed."""
    depth, level = 0, [value]
    while depth <= MAX_DEPTH and (level := [v for v in level if isinstance(v, dict | list)]):
        depth += 1
        level = [w for v in level for w in (v.values() if isinstance(v, dict) else v)]
    return depth


def parse(data: bytes, where: str | Path) -> dict[str, Any]:
    """Parse a JSON object; what Python would take and JSON does not say clearly is refused.

    That is NaN and Infinity, numbers that no double or int64 holds, half a character, a key that an
    object has twice, and more than ``MAX_DEPTH`` levels.
    """
    try:
        value = _STRICT.decode(text_of(data, where))
        json.dumps(value, ensure_ascii=False).encode()  # "\\ud800" is half a character
        if _depth(value) > MAX_DEPTH:
            raise RecursionError
    except _Twice as twice:
        raise ArtefactError(
            say(str(where), str(twice), "each key once", "remove the key that is wrong")
        ) from None
    except (ValueError, RecursionError) as broken:
        why = "nested too deeply" if isinstance(broken, RecursionError) else str(broken)
        raise ArtefactError(
            say(str(where), f"not JSON ({why})", "a JSON object", "restore it or write it again")
        ) from None
    if not isinstance(value, dict):
        raise ArtefactError(
            say(str(where), f"a JSON {type(value).__name__}", "a JSON object", "write it again")
        )
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file: see :func:`parse`."""
    return parse(read_bytes(path, MAX_JSON), path)


def schema_errors(schema: str, value: Any) -> list[tuple[list[str | int], str]]:
    """Return place and message of each place where `value` breaks the schema of that file name."""
    # Not the jsonschema package: its import builds a grammar of URLs for more than a second.
    import jsonschema_rs

    rules = json.loads((_DATA / schema).read_text(encoding="utf-8"))
    # A number that is not finite is none of JSON's: it counts as null.
    found = jsonschema_rs.Draft202012Validator(rules).iter_errors(value)
    errors = [(list(error.instance_path), error.message) for error in found]
    return sorted(errors, key=lambda error: (_place(error[0]), error[1]))


def schema_lines(
    schema: str, errors: Sequence[tuple[Sequence[str | int], str]], where: str | Path
) -> list[str]:
    """Return one line for each of the errors of :func:`schema_errors`."""
    return [
        say(str(where), f"{_place(at)}: {one_line(message)}", schema, "correct it")
        for at, message in errors
    ]


def schema_problems(schema: str, value: Any, where: str | Path) -> list[str]:
    """Return one line for each place where `value` breaks the schema of that file name."""
    return schema_lines(schema, schema_errors(schema, value), where)


def one_line(text: str, most: int = 800) -> str:
    """Return text of a file as one line for a terminal: it may hold anything."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


def _place(path: Sequence[str | int]) -> str:
    return "$" + "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in path)
