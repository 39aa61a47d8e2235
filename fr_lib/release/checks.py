"""Verification: a model folder against schema, hashes, sidecars and operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fr_lib.errors import ArtefactError, say
from fr_lib.files import sha256_of
from fr_lib.release.card import (
    SCHEMA,
    _formula_problems,
    _read_object,
    _schema_problems,
    card_problems,
    vocab_of,
)
from fr_lib.release.formula import FORMULA_ID, check_formula
from fr_lib.release.onnx import check_onnx, codec_aware_inputs
from fr_lib.release.registry import REGISTRY, _check_rows, _smoke
from fr_lib.schema import MODEL_ID, NEWEST_VOCAB


@dataclass(frozen=True)
class _Ours:
    """What a model of ours has to keep beyond what every row of a registry has to.

    Attributes
    ----------
    check : callable
        Takes its path and returns the facts of :func:`check_onnx`, or raises ArtefactError.
    card_problems : callable
        Takes its sidecar and where that stands; returns one line per fault.
    """

    check: Callable[[Path], dict[str, Any]]
    card_problems: Callable[[Mapping[str, Any], Path], list[str]]


def _check_codec_aware(path: Path) -> dict[str, Any]:
    """Check a graph against the vocabulary that its sidecar names, or the newest without one."""
    try:
        vocab = vocab_of(_read_object(path.with_suffix(".json")))
    except ArtefactError:  # what is wrong with the sidecar is reported where it is checked
        vocab = None
    return check_onnx(path, codec_aware_inputs(vocab or NEWEST_VOCAB))


_OURS = {
    MODEL_ID: _Ours(_check_codec_aware, card_problems),
    FORMULA_ID: _Ours(check_formula, _formula_problems),
}


def _inside(folder: Path, path: Path) -> bool:
    """Say whether `path`, symbolic links followed, lies in `folder`."""
    return path.resolve().is_relative_to(folder.resolve())


def _outside_line(path: Path) -> str:
    return say(str(path), "lies outside the model folder", "a file inside it", "move it inside")


def _sidecar_problems(folder: Path, row: Mapping[str, Any], ours: _Ours | None) -> list[str]:
    path = (folder / row["onnx"]).with_suffix(".json")
    smoke = row.get("smoke", False)
    if not path.exists():
        missing = say(str(path), "missing", "a sidecar for each non-smoke row", "restore it")
        return [] if smoke else [missing]
    if not _inside(folder, path):
        return [_outside_line(path)]
    try:
        card = _read_object(path)
    except ArtefactError as broken:
        return [str(broken)]
    problems = ours.card_problems(card, path) if ours else []
    rules = [("sha256", card.get("sha256"), row["sha256"])]
    if ours and not problems:
        rules += [(key, card[key], row[key]) for key in ("id", "kind", "onnx")]
        rules += [("smoke", _smoke(card), smoke)]
    return problems + [
        say(str(path), f"{key} {found}", f"{allowed}, as in {REGISTRY}", "release the model again")
        for key, found, allowed in rules
        if found != allowed
    ]


def row_problems(
    model_dir: str | Path, row: Mapping[str, Any], *, like: str | None = None
) -> list[str]:
    """Return what is wrong with the files of one registry row, one line each, file named.

    Parameters
    ----------
    model_dir : path-like
    row : mapping
        A row that keeps the schema.
    like : str, optional
        Id of the model of ours whose rules it has to keep too: ``fr_regressor_v3`` (graph:
        :func:`check_onnx`, sidecar: :func:`card_problems`) or ``vmaf_v0_6_1_formula``. Default:
        the row's own id, if it is one.
    """
    folder = Path(model_dir)
    path = folder / row["onnx"]
    ours = _OURS.get(like or row["id"])
    if not _inside(folder, path):
        return [_outside_line(path)]
    if not path.is_file():
        return [say(str(path), "missing", f"the file of row {row['id']}", "release the model")]
    problems = []
    digest = sha256_of(path)
    if digest != row["sha256"]:
        problems.append(
            say(str(path), f"sha256 {digest}", f"{row['sha256']} ({REGISTRY})", "restore the file")
        )
    if ours and row["onnx"] != f"{row['id']}.onnx":
        problems.append(say(str(path), "named unlike its row", f"{row['id']}.onnx", "rename it"))
    try:
        opset = (ours.check if ours else check_onnx)(path)["opset"]
        if opset != row.get("opset", opset):
            problems.append(
                say(str(path), f"opset {opset}", f"{row['opset']} ({REGISTRY})", "correct the row")
            )
    except ArtefactError as broken:
        problems += str(broken).splitlines()
    return problems + _sidecar_problems(folder, row, ours)


def verify(model_dir: str | Path) -> list[str]:
    """Verify a model folder against its registry (docs/guides/release.md).

    Checked: the schema, ids unique and sorted, and for each row that the file lies inside the
    folder, has the digest of the row, is valid ONNX without external data, uses only operators of
    the allow-list, and has a sidecar (unless ``smoke``) of the same digest. The sidecars of
    ``fr_regressor_v3`` and ``vmaf_v0_6_1_formula`` are also held to their own schemas, and the
    formula is run: it has to give what :func:`fr_lib.corpus.teachers.vmaf_from_features` gives.

    Returns
    -------
    list of str
        One line per problem, each naming the file; empty if there is none.
    """
    folder = Path(model_dir)
    path = folder / REGISTRY
    try:
        registry = _read_object(path)
    except ArtefactError as broken:
        return [str(broken)]
    problems = _schema_problems(SCHEMA, registry, path)
    models = registry.get("models")
    rows = [
        row
        for row in (models if isinstance(models, list) else [])
        if not _schema_problems(SCHEMA, {"models": [row]}, path)
    ]
    ids = [row["id"] for row in rows]
    for name in sorted({i for i in ids if ids.count(i) > 1}):
        problems.append(say(str(path), f"several rows {name}", "one row per id", "remove one"))
    if ids != sorted(ids):
        problems.append(say(str(path), "rows out of order", "sorted by id", "sort them"))
    return problems + [line for row in rows for line in row_problems(folder, row)]


def find_row(model_dir: str | Path, model_id: str = MODEL_ID) -> dict[str, Any]:
    """Return the row of `model_id`; ArtefactError if registry or row is missing or breaks a rule.

    The row's files are not looked at: see :func:`row_problems`.
    """
    path = Path(model_dir) / REGISTRY
    registry = _read_object(path)
    rows = _check_rows(registry, model_id, path)
    found = [row for row in rows if row["id"] == model_id]
    if not found:
        ids = ", ".join(row["id"] for row in rows) or "none"
        raise ArtefactError(say(str(path), f"no row {model_id}", ids, "release the model first"))
    problems = _schema_problems(SCHEMA, {"models": found}, path)
    if problems:
        raise ArtefactError("\n".join(problems))
    return found[0]
