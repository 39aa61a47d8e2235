"""Publishing: a run's model put into a model folder, whole or not at all."""

from __future__ import annotations

import difflib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fr_lib.corpus import V061
from fr_lib.errors import ArtefactError, GateFailed, InputError, say
from fr_lib.files import json_text
from fr_lib.release.card import _failed
from fr_lib.release.checks import find_row, judge
from fr_lib.release.formula import FORMULA_ID, export_formula, formula_card
from fr_lib.release.registry import (
    FORMULA_DESCRIPTION,
    REGISTRY,
    _check_rows,
    _lacking_schema,
    _merged_file,
    registry_row,
)
from fr_lib.release.signature import SUFFIX, require_cosign, signature_of
from fr_lib.release.strict import read_object
from fr_lib.schema import MODEL_ID
from fr_lib.system import sole_writer, write_together


def _passed_before(folder: Path) -> bool:
    """Say whether `folder` holds a model of ours that passed its gate, by row or by sidecar."""
    registry, card = folder / REGISTRY, folder / f"{MODEL_ID}.json"
    rows = _check_rows(read_object(registry), MODEL_ID, registry) if registry.exists() else []
    by_row = any(row["id"] == MODEL_ID and not row.get("smoke", False) for row in rows)
    return by_row or (card.exists() and read_object(card).get("gate_passed") is True)


def publish(
    source_dir: str | Path, model_dir: str | Path, *, dry_run: bool = False, sign: bool = False
) -> str:
    """Put the model of a run's folder into a model folder and its registry.

    Only ``fr_regressor_v3.onnx``, ``.json``, its row and, if absent, ``registry.schema.json`` are
    written, to a copy of the folder that takes its place in one step: an interruption leaves the
    old one or the new one. Where folders cannot change places (see :func:`write_together`), one
    between the last three renames leaves a folder that :func:`verify` and the consumer refuse,
    never one that scores with the wrong files, and publishing again mends it.

    Parameters
    ----------
    source_dir : path-like
        The ``model`` folder of a run.
    model_dir : path-like
        Made if absent.
    dry_run : bool
        Write nothing and return what would change, as a unified diff. Nothing is signed.
    sign : bool
        Sign the model with cosign; the bundle lies beside it and the row names it.

    Returns
    -------
    str
        One line that says what was published where, or the difference.

    Raises
    ------
    ArtefactError
        If the source does not verify, comes from synthetic rows or learned another teacher's
        scores, or the target's registry cannot be read, or cosign fails. Nothing is changed.
    InputError
        If `sign` is asked for without cosign, another release writes to the target, or that is the
        root of all files.
    GateFailed
        If the source failed its gate and the target holds a model that passed. Nothing is changed.
    """
    source, target = Path(source_dir), Path(model_dir)
    found = judge(source, find_row(source))
    if found.problems:
        raise ArtefactError("\n".join(found.problems))
    row, card = found.row, found.card
    if card["run_provenance"]["synthetic"]:
        raise ArtefactError(
            say(str(source), "a smoke run on synthetic rows", "a run on a real corpus", "run one")
        )
    teacher = card["run_provenance"].get("teacher", V061.name)
    if teacher != V061.name:
        allowed = f"those of {V061.name}, which {MODEL_ID} repeats"
        raise ArtefactError(
            say(str(source), f"it learned the scores of {teacher}", allowed, "it stays in its run")
        )
    with nullcontext() if dry_run else _alone(target):
        if _failed(card) and _passed_before(target):
            raise GateFailed(
                say(
                    str(source),
                    f"the gate failed, and {target} holds a {MODEL_ID} that passed",
                    "a model that passed",
                    "nothing was changed; train again",
                )
            )
        changed = _put(target, row, found.model, card, dry_run, sign)
    state = "gate failed: audit trail, not for scoring" if _failed(card) else "gate passed"
    return changed or f"{MODEL_ID} ({state}, sha256 {row['sha256'][:12]}) is in {target}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other releases out of a model folder, from a look at its registry to the last byte."""
    place = folder.resolve()  # "." has no name
    if not place.name:
        raise InputError(say(str(folder), "the root of all files", "a folder", "name one"))
    place.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder, place.with_name(f".{place.name}.lock")):
        yield


def _put(
    target: Path, row: Mapping[str, Any], model: bytes, card: Any, dry_run: bool, sign: bool
) -> str:
    """Write the files of a row into a model folder, with its registry and the schema of that.

    With `dry_run` write nothing and return the difference.
    """
    name = row["onnx"]
    files = {name: model, f"{row['id']}.json": json_text(card).encode()}
    if sign:
        require_cosign()
        row = {**row, "sigstore_bundle": f"{name}{SUFFIX}"}
    registry = {REGISTRY: _merged_file(target / REGISTRY, row)}
    if dry_run:
        return "".join(_difference(target, files | registry))
    if sign:
        files[row["sigstore_bundle"]] = signature_of(model, name)
    write_together(target, _lacking_schema(target) | files | registry)
    return ""


def _difference(folder: Path, files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield what writing these files would change, as a unified diff; a model by its digest."""
    for name, data in files.items():
        path = folder / name
        old, new = (path.read_bytes() if path.is_file() else b""), data
        if name.endswith(".onnx"):
            old, new = (
                f"sha256 {hashlib.sha256(b).hexdigest()}, {len(b)} bytes\n".encode() if b else b""
                for b in (old, new)
            )
        lines = [some.decode(errors="replace").splitlines(keepends=True) for some in (old, new)]
        yield from difflib.unified_diff(*lines, f"{path}", f"{path}, released")
        if old == new:
            yield f"{path}: no change\n"


def publish_formula(model_dir: str | Path, *, dry_run: bool = False, sign: bool = False) -> str:
    """Put VMAF v0.6.1 as a model into a model folder and its registry, beside whatever is there.

    It comes from libvmaf's model file and from no run, so no gate is asked. Parameters, files and
    renames are as in :func:`publish`.

    Returns
    -------
    str
        One line that says what was published where, or the difference.

    Raises
    ------
    ArtefactError
        If libvmaf's model file is not installed, the target's registry cannot be read, or cosign
        fails. Nothing is changed.
    """
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / f"{FORMULA_ID}.onnx"
        card = formula_card(export_formula(path))
        model = path.read_bytes()
    row = registry_row(card, description=FORMULA_DESCRIPTION)
    with nullcontext() if dry_run else _alone(Path(model_dir)):
        changed = _put(Path(model_dir), row, model, card, dry_run, sign)
    return changed or (
        f"{FORMULA_ID} (VMAF v0.6.1 itself, sha256 {row['sha256'][:12]}) is in {model_dir}"
    )
