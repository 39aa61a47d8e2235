"""The registry: one row per model, merged into its text so that all other rows keep every byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fr_lib.errors import ArtefactError, say
from fr_lib.files import json_text, write_bytes
from fr_lib.release.card import LICENSE
from fr_lib.release.strict import _DATA, MAX_JSON, SCHEMA, parse, read_bytes, schema_problems

REGISTRY = "registry.json"
DESCRIPTION = (
    "Full-reference VMAF regressor, codec-aware: six libvmaf features and a codec block "
    "(encoder slots, preset, quality) to a score of 0..100 per frame."
)
FORMULA_DESCRIPTION = (
    "VMAF v0.6.1 itself: its nu-SVR of six raw libvmaf features as a graph, to a score of 0..100 "
    "per frame, exact to 1e-3. No network, no scaler, no codec."
)
TRANSLATION_DESCRIPTION = (
    "An estimate of {title} from rows of VMAF v0.6.1: a monotone map of that score and a kernel "
    "correction by features, encoder and scale of the source, in one graph."
)


def registry_row(
    card: Mapping[str, Any], *, description: str = DESCRIPTION, license_id: str = LICENSE
) -> dict[str, Any]:
    """Return the registry row of a sidecar (``registry.schema.json``); ``smoke`` is the sidecar's.

    Parameters
    ----------
    card : mapping
        What :func:`sidecar` or :func:`fr_lib.release.formula.formula_card` returned.
    description : str
        At most 256 characters.
    license_id : str
        SPDX identifier of the weights' licence.
    """
    return {
        **{key: card[key] for key in ("id", "kind", "onnx", "sha256", "opset")},
        "description": description,
        "license": license_id,
        "notes": card["notes"],
        "smoke": _smoke(card),
    }


def _smoke(card: Mapping[str, Any]) -> bool:
    """Say whether a model is not for scoring; one that was not trained always is for scoring."""
    return card["training"]["smoke"] if "training" in card else False


# What a row says of the bytes of its model, and of no others.
BOUND = (
    "sigstore_bundle",
    "quant_mode",
    "int8_sha256",
    "quant_calibration_set",
    "quant_accuracy_budget_plcc",
)
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


class _Member(NamedTuple):
    """A member of a JSON object or array: its key, if any, and where it and its value stand."""

    key: str | None
    at: int
    start: int
    end: int


def _members(text: str, opening: int) -> Iterator[_Member]:
    """Yield each member of the JSON object or array at `opening`; `text` has to be valid JSON."""
    at = _skip(text, opening + 1)
    while text[at] not in "]}":
        key, start = None, at
        if text[opening] == "{":
            key, colon = _DECODER.raw_decode(text, at)
            start = _skip(text, _skip(text, colon) + 1)
        _, end = _DECODER.raw_decode(text, start)
        yield _Member(key, at, start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _rendered(row: Mapping[str, Any], lead: str) -> str:
    """Return `row` as text in the manner of its neighbours; `lead` is the space before a row."""
    if "\n" not in lead:
        return json.dumps(row, allow_nan=False)
    line_end = "\r\n" if "\r\n" in lead else "\n"
    margin = lead.rpartition("\n")[2]
    text = json.dumps(row, indent="\t" if "\t" in margin else 2, allow_nan=False)
    return text.replace("\n", line_end + margin)


def _check_rows(registry: Mapping[str, Any], model_id: str, where: str | Path) -> list[dict]:
    """Return the rows if they can be merged with, else raise ArtefactError."""
    rows = registry.get("models")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows
    ):
        raise ArtefactError(
            say(str(where), "no list 'models' of rows with an id", SCHEMA, "correct the registry")
        )
    if sum(row["id"] == model_id for row in rows) > 1:
        raise ArtefactError(
            say(str(where), f"several rows {model_id}", "one row per id", "remove all but one")
        )
    return rows


def _merged(data: bytes, row: Mapping[str, Any], where: str | Path) -> str:
    """Return the registry's text with `row` put in; all else keeps its characters."""
    rows = _check_rows(parse(data, where), row["id"], where)
    text = data.decode()
    array = next(m.start for m in _members(text, _skip(text, 0)) if m.key == "models")
    if not rows:
        lead = "\n    "
        rest = _skip(text, array + 1)
        return f"{text[: array + 1]}{lead}{_rendered(row, lead)}\n  {text[rest:]}"
    spans = [(member.start, member.end) for member in _members(text, array)]
    lead = text[array + 1 : spans[0][0]]  # the white space before a row
    ids = [old["id"] for old in rows]
    if row["id"] in ids:
        at = ids.index(row["id"])
        return _replaced(text, spans[at], rows[at], row)
    following = [start for (start, _), other in zip(spans, ids, strict=True) if other > row["id"]]
    if following:
        start = following[0]
        return f"{text[:start]}{_rendered(row, lead)},{lead or ' '}{text[start:]}"
    end = spans[-1][1]
    return f"{text[:end]},{lead or ' '}{_rendered(row, lead)}{text[end:]}"


def _replaced(
    text: str, span: tuple[int, int], old: Mapping[str, Any], row: Mapping[str, Any]
) -> str:
    """Return `text` with `row` in the place of `old`, whose further keys stay.

    Nothing stays that was said of other bytes (``BOUND``), nor the address of another licence. A
    member that stays as it was keeps its characters.
    """
    gone = {key for key in BOUND if old.get("sha256") != row["sha256"]}
    if row.get("license", old.get("license")) != old.get("license"):
        gone.add("license_url")
    new = {key: value for key, value in old.items() if key not in gone} | row
    if new == old:
        return text
    members = list(_members(text, span[0]))
    before = text[span[0] + 1 : members[0].at]  # the white space before the first
    between = text[members[0].end : members[1].at] if len(members) > 1 else f",{before or ' '}"
    parts = []
    for member in members:
        if member.key in new:
            same = new[member.key] == old[member.key]
            value = text[member.start : member.end] if same else _json(new[member.key])
            parts.append(text[member.at : member.start] + value)
    parts += [f"{_json(key)}: {_json(value)}" for key, value in new.items() if key not in old]
    end = text[members[-1].end : span[1]]
    return text[: span[0] + 1] + before + between.join(parts) + end + text[span[1] :]


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _merged_file(registry_path: Path, row: Mapping[str, Any]) -> bytes:
    """Return the new bytes of a registry, one that is yet to be made included."""
    problems = schema_problems(SCHEMA, {"models": [row]}, f"row {row.get('id')}")
    if problems:
        raise ArtefactError("\n".join(problems))
    fresh = json_text({"schema_version": 1, "models": []})
    there = registry_path.exists()
    data = read_bytes(registry_path, MAX_JSON) if there else fresh.encode()
    return _merged(data, row, registry_path).encode()


def _lacking_schema(folder: Path) -> dict[str, bytes]:
    """Return the registry's schema by its name; nothing if the folder has one, which stays."""
    return {} if (folder / SCHEMA).exists() else {SCHEMA: (_DATA / SCHEMA).read_bytes()}


def upsert_row(registry_path: str | Path, row: Mapping[str, Any]) -> None:
    """Put `row` into a registry, at its place by id; make the registry if there is none.

    Other rows and other keys of the file keep every byte. An existing row of the same id keeps the
    keys that `row` does not have, except those that belonged to other bytes: with another sha256
    signature and quantisation leave the row, and with another licence its address.
    ``registry.schema.json`` is put beside the registry if it is not there.

    Raises
    ------
    ArtefactError
        If `row` breaks the schema, or the registry is not JSON, has no list of rows, or has several
        rows of this id. Nothing is written then.
    """
    path = Path(registry_path)
    data = _merged_file(path, row)
    for name, schema in _lacking_schema(path.parent).items():
        write_bytes(path.parent / name, schema)
    write_bytes(path, data)
