"""Verification: a model folder against schema, hashes, sidecars, graphs and signatures."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fr_lib.errors import ArtefactError, say
from fr_lib.release.formula import FORMULA_ID, check_formula
from fr_lib.release.onnx import (
    MAX_BYTES,
    MAX_PROTOBUF,
    check_onnx,
    network_rules,
)
from fr_lib.release.registry import REGISTRY, _check_rows, _smoke
from fr_lib.release.sense import card_problems, reach_of, vocab_of, written_here
from fr_lib.release.signature import check_signature
from fr_lib.release.strict import (
    FORMULA_SCHEMA,
    MAX_JSON,
    SCHEMA,
    one_line,
    parse,
    read_bytes,
    read_object,
    schema_errors,
    schema_lines,
    schema_problems,
)
from fr_lib.release.translation import TRANSLATED, check_translation, translation_problems
from fr_lib.schema import MODEL_ID, NEWEST_VOCAB

# How often the files of a model may change while it is judged: each is a release by itself.
_RELEASES = 5
ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass
class Verdict:
    """What was found of one row of a registry, and what was read for it.

    Attributes
    ----------
    name : str
        The row's id; the registry's file name for what concerns all rows.
    problems : list of str
        One line per fault, each naming the file.
    notes : list of str
        One line per thing that could not be asked here.
    model : bytes
        The ONNX file as it was judged: a consumer loads these, and reads no file again.
    card : dict
        The sidecar as it was judged.
    row : mapping
        The row whose files these are.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    model: bytes = b""
    card: dict[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ours:
    """What a model of ours has to keep beyond what every row of a registry has to.

    Attributes
    ----------
    check : callable
        Takes its bytes, their name and its sidecar, which may be empty; returns the facts of
        :func:`check_onnx`, or raises ArtefactError.
    card_problems : callable
        Takes its sidecar and where that stands; returns one line per fault.
    """

    check: Callable[[bytes, Path, Mapping[str, Any]], dict[str, Any]]
    card_problems: Callable[[Mapping[str, Any], Path], list[str]]


def _check_codec_aware(data: bytes, where: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Check a graph against vocabulary, mask and domain of its sidecar, as far as it has them."""
    if card and not written_here(card):
        return check_onnx(data, where=where)
    slots = card.get("trained_slots")
    # To JSON 1624.0 is as whole a number as 1624.
    counted = isinstance(slots, dict) and all(isinstance(n, int | float) for n in slots.values())
    vocab = vocab_of(card) or NEWEST_VOCAB
    rules = network_rules(vocab, slots if counted else None, reach_of(card, where))
    return check_onnx(data, rules, where)


def _check_formula(data: bytes, where: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    return check_formula(data, where)


def _formula_problems(card: Mapping[str, Any], where: Path) -> list[str]:
    return schema_problems(FORMULA_SCHEMA, card, where)


_OURS = {
    MODEL_ID: _Ours(_check_codec_aware, card_problems),
    FORMULA_ID: _Ours(_check_formula, _formula_problems),
} | {
    name: _Ours(partial(check_translation, teacher=teacher), translation_problems)
    for name, teacher in TRANSLATED.items()
}


def _inside(folder: Path, path: Path) -> bool:
    """Say whether `path`, symbolic links followed, lies in `folder`."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a NUL inside
        return False


def _read(folder: Path, path: Path, most: int) -> bytes:
    """Return the bytes of a file of the folder; ArtefactError if there is none, or not inside."""
    if not _inside(folder, path):
        found = "lies outside the model folder"
        raise ArtefactError(say(str(path), found, "a file inside it", "move it inside"))
    return read_bytes(path, most)


def judge(
    model_dir: str | Path,
    row: Mapping[str, Any],
    *,
    like: str | None = None,
    signer: str | None = None,
    issuer: str | None = None,
    since: tuple[int, int] | None = None,
) -> Verdict:
    """Read the files of one registry row, each once, and judge what was read.

    Where a release came between the row and its files, the new row is judged.

    Parameters
    ----------
    model_dir : path-like
    row : mapping
        A row that keeps the schema.
    like : str, optional
        Id of the model of ours whose rules it has to keep too: ``fr_regressor_v3`` (graph:
        :func:`fr_lib.release.graph.network_faults`, sidecar: :func:`card_problems`),
        ``vmaf_v0_6_1_formula`` or a translation. Default: the row's own id, if it is one.
    signer, issuer : str, optional
        Who has to have signed the model, where the row names a bundle.
    since : tuple, optional
        What :func:`state_of` said before the row was read.
    """
    folder = Path(model_dir)
    before = since or state_of(folder)
    for _ in range(_RELEASES):
        verdict = _judge_once(folder, row, like, signer, issuer)
        now = state_of(folder)
        if not verdict.problems or now == before:
            break
        before, row = now, _row_of_now(folder, row)
    return verdict


def state_of(model_dir: str | Path) -> tuple[int, int]:
    """Return what a release changes: it puts another folder in its place, or renames inside."""
    with suppress(OSError):
        found = Path(model_dir).stat()
        return found.st_ino, found.st_mtime_ns
    return 0, 0


def _row_of_now(folder: Path, row: Mapping[str, Any]) -> Mapping[str, Any]:
    with suppress(ArtefactError):
        return find_row(folder, row["id"])
    return row


def _judge_once(
    folder: Path, row: Mapping[str, Any], like: str | None, signer: str | None, issuer: str | None
) -> Verdict:
    path = folder / row["onnx"]
    ours = _OURS.get(like or row["id"])
    verdict = Verdict(row["id"], row=row)
    papers = _sidecar_problems(folder, row, ours, verdict)
    try:
        verdict.model = _read(folder, path, MAX_BYTES if ours else MAX_PROTOBUF)
    except ArtefactError as broken:
        verdict.problems = [one_line(problem) for problem in (str(broken), *papers)]
        return verdict
    verdict.problems += [*_model_problems(path, row, ours, verdict), *papers]
    if "sigstore_bundle" in row:
        bundle = folder / row["sigstore_bundle"]
        try:
            _read(folder, bundle, MAX_JSON)
            problems, notes = check_signature(bundle, verdict.model, signer, issuer)
        except ArtefactError as broken:
            problems, notes = [str(broken)], []
        verdict.problems += problems
        verdict.notes += notes
    verdict.problems = [one_line(problem) for problem in verdict.problems]
    return verdict


def _model_problems(
    path: Path, row: Mapping[str, Any], ours: _Ours | None, verdict: Verdict
) -> list[str]:
    problems = []
    digest = hashlib.sha256(verdict.model).hexdigest()
    if digest != row["sha256"]:
        problems.append(
            say(str(path), f"sha256 {digest}", f"{row['sha256']} ({REGISTRY})", "restore the file")
        )
    if ours and row["onnx"] != f"{row['id']}.onnx":
        problems.append(say(str(path), "named unlike its row", f"{row['id']}.onnx", "rename it"))
    try:
        if ours:
            opset = ours.check(verdict.model, path, verdict.card)["opset"]
        else:
            opset = check_onnx(verdict.model, where=path)["opset"]
        if opset != row.get("opset", opset):
            problems.append(
                say(str(path), f"opset {opset}", f"{row['opset']} ({REGISTRY})", "correct the row")
            )
    except ArtefactError as broken:
        problems += str(broken).splitlines()
    return problems


def _sidecar_problems(
    folder: Path, row: Mapping[str, Any], ours: _Ours | None, verdict: Verdict
) -> list[str]:
    """Read the sidecar into the verdict and return what is wrong with it."""
    path = (folder / row["onnx"]).with_suffix(".json")
    smoke = row.get("smoke", False)
    if smoke and _inside(folder, path) and not path.exists():
        return []
    try:
        card = verdict.card = parse(_read(folder, path, MAX_JSON), path)
    except ArtefactError as broken:
        return [str(broken)]
    problems = ours.card_problems(card, path) if ours else []
    rules = [("sha256", card.get("sha256"), row["sha256"])]
    if ours:
        rules += [(key, card.get(key), row[key]) for key in ("id", "kind", "onnx")]
    if ours and not problems:
        rules += [("smoke", _smoke(card), smoke)]
    return problems + [
        say(str(path), f"{key} {found}", f"{allowed}, as in {REGISTRY}", "release the model again")
        for key, found, allowed in rules
        if found != allowed
    ]


def verdicts(
    model_dir: str | Path,
    model_id: str | None = None,
    signer: str | None = None,
    issuer: str | None = None,
) -> Iterator[Verdict]:
    """Judge a model folder: the registry as a whole, then each of its rows (or the one named).

    Checked: the schema, ids unique and sorted, and for each row that the file lies inside the
    folder, has the digest of the row, is valid ONNX without external data, uses only operators of
    the allow-list, and has a sidecar (unless ``smoke``) of the same digest; a bundle that the row
    names, by cosign. ``fr_regressor_v3`` and ``vmaf_v0_6_1_formula`` have to be graphs that this
    package writes, with sidecars that make sense, and the formula is run: it has to give what
    :func:`fr_lib.corpus.teachers.vmaf_from_features` gives.

    Raises
    ------
    ArtefactError
        If there is no row `model_id`.
    """
    folder = Path(model_dir)
    path, since = folder / REGISTRY, state_of(folder)
    try:
        registry = read_object(path)
    except ArtefactError as broken:
        yield Verdict(REGISTRY, [str(broken)])
        return
    models = registry.get("models")
    rows = models if isinstance(models, list) else []
    whole, of_row = [], defaultdict(list)
    for error in schema_errors(SCHEMA, registry):
        match error[0]:
            case ["models", int(at), *_]:
                of_row[at].append(error)
            case _:
                whole.append(error)
    names = [_name(row, at) for at, row in enumerate(rows)]
    if model_id is None:
        yield Verdict(REGISTRY, schema_lines(SCHEMA, whole, path) + _order_problems(names, path))
    elif model_id not in names:
        raise _no_row(path, model_id, names)
    elif names.count(model_id) > 1:
        yield Verdict(REGISTRY, _order_problems([model_id] * 2, path))
    for at, (row, name) in enumerate(zip(rows, names, strict=True)):
        if model_id in (None, name):
            if at in of_row:
                yield Verdict(name, schema_lines(SCHEMA, of_row[at], path))
            else:
                yield judge(folder, row, signer=signer, issuer=issuer, since=since)


def _name(row: Any, at: int) -> str:
    named = row.get("id") if isinstance(row, dict) else None
    return named if isinstance(named, str) and ID.fullmatch(named) else f"row {at}"


def _order_problems(ids: list[str], path: Path) -> list[str]:
    problems = [
        say(str(path), f"several rows {name}", "one row per id", "remove one")
        for name, times in sorted(Counter(ids).items())
        if times > 1
    ]
    if ids != sorted(ids):
        problems.append(say(str(path), "rows out of order", "sorted by id", "sort them"))
    return problems


def _no_row(path: Path, model_id: str, ids: list[str]) -> ArtefactError:
    known = ", ".join(ids) or "none"
    found = f"no row {one_line(model_id, 64)}"
    return ArtefactError(say(str(path), found, known, "release the model first"))


def verify(model_dir: str | Path, model_id: str | None = None) -> list[str]:
    """Return what :func:`verdicts` finds, one line per problem; empty if there is none."""
    return [line for verdict in verdicts(model_dir, model_id) for line in verdict.problems]


def find_row(model_dir: str | Path, model_id: str = MODEL_ID) -> dict[str, Any]:
    """Return the row of `model_id`; ArtefactError if registry or row is missing or breaks a rule.

    The row's files are not looked at: see :func:`judge`.
    """
    path = Path(model_dir) / REGISTRY
    rows = _check_rows(read_object(path), model_id, path)
    found = [row for row in rows if row["id"] == model_id]
    if not found:
        raise _no_row(path, model_id, [row["id"] for row in rows])
    problems = schema_problems(SCHEMA, {"models": found}, path)
    if problems:
        raise ArtefactError("\n".join(problems))
    return found[0]
