"""Model cards and the registry beside them: built, merged, verified, published.

A model folder holds ``<id>.onnx``, its sidecar ``<id>.json``, and one ``registry.json`` for all its
models. Other people's rows live in that registry too, so a row is put in by editing the text:
whatever is not ours keeps its bytes.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fr_lib.errors import ArtefactError, GateFailed, say
from fr_lib.export import INPUTS, check_onnx
from fr_lib.files import atomic_path, json_text, sha256_of, write_bytes
from fr_lib.formula import FORMULA_ID, check_formula, export_formula, formula_card
from fr_lib.schema import (
    CANONICAL_6,
    ENCODER_VOCAB_V3,
    ENCODER_VOCAB_V3_VERSION,
    MODEL_ID,
    BlockNorm,
    codec_block_layout,
)

REGISTRY = "registry.json"
SCHEMA = "registry.schema.json"
SIDECAR_SCHEMA = "sidecar.schema.json"
FORMULA_SCHEMA = "formula.schema.json"
RETRAIN_PENDING = "v3 retrain pending"
LICENSE = "BSD-2-Clause-Patent"
MAX_NOTES = 512
DESCRIPTION = (
    "Full-reference VMAF regressor, codec-aware: six libvmaf features and an 18-D codec block "
    "(16 encoder slots, preset, quality) to a score of 0..100 per frame."
)
FORMULA_DESCRIPTION = (
    "VMAF v0.6.1 itself: its nu-SVR of six raw libvmaf features as a graph, to a score of 0..100 "
    "per frame, exact to 1e-3. No network, no scaler, no codec."
)
FOLD_METRICS = ("plcc", "srocc", "rmse")
_DATA = Path(__file__).with_name("data")


# --- JSON, strictly ---------------------------------------------------------------------------


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _parse(text: str, where: str | Path) -> dict[str, Any]:
    """Parse a JSON object; NaN and Infinity, which Python would take, are refused."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as broken:
        raise ArtefactError(
            say(str(where), f"not JSON ({broken})", "a JSON object", "restore it or write it again")
        ) from None
    if not isinstance(value, dict):
        raise ArtefactError(
            say(str(where), f"a JSON {type(value).__name__}", "a JSON object", "write it again")
        )
    return value


def _read_text(path: Path) -> str:
    """Read UTF-8 text and keep its line ends."""
    if not path.is_file():
        raise ArtefactError(
            say(str(path), "missing", "a file of a model folder", "release a model first")
        )
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as broken:
        raise ArtefactError(
            say(str(path), f"not UTF-8 ({broken.reason})", "UTF-8", "write it again")
        ) from None


def _read_object(path: Path) -> dict[str, Any]:
    return _parse(_read_text(path), path)


def _schema_problems(schema: str, value: Any, where: str | Path) -> list[str]:
    """Return one line for each place where `value` breaks the schema of that file name."""
    import jsonschema

    rules = json.loads((_DATA / schema).read_text(encoding="utf-8"))
    errors = jsonschema.Draft202012Validator(rules).iter_errors(value)
    return [
        say(str(where), f"{e.json_path}: {e.message}".replace("\n", " "), schema, "correct it")
        for e in sorted(errors, key=lambda e: e.json_path)
    ]


# --- sidecar ----------------------------------------------------------------------------------


def _metric(value: Any) -> float | None:
    """Return a finite float, or None (JSON null) for a metric that is undefined."""
    return None if value is None or not math.isfinite(value) else float(value)


def _notes(gate: Mapping[str, Any], slots: Mapping[str, int], synthetic: bool) -> str:
    parts = []
    if not gate["gate_passed"]:
        failed = [c["name"] for c in gate["clauses"] if c["blocks"] and c["status"] == "fail"]
        parts.append(f"{RETRAIN_PENDING}: the ship gate failed ({', '.join(failed)}).")
    if synthetic:
        parts.append("Smoke run on synthetic rows, not for scoring.")
    trained = [name for name, rows in slots.items() if rows]
    parts.append(f"Slots with training rows: {', '.join(trained)}.")
    if len(trained) < len(slots):
        parts.append("Every other slot is scored by the codec-blind network of the same graph.")
    parts.append("The graph holds no scaler: standardise features with feature_mean, feature_std.")
    return textwrap.shorten(" ".join(parts), MAX_NOTES, placeholder=" ...")


def _training(
    loso: Mapping[str, Any], dataset: str, n_rows: int, passed: bool, smoke: bool
) -> dict[str, Any]:
    from fr_lib.gate import MEAN_PLCC  # brings pandas, which a consumer does not need

    arm = loso["arms"]["v3"]
    names = ("mean_plcc", "std_plcc", "min_plcc", "max_plcc", "mean_srocc", "mean_rmse")
    return {
        "dataset": dataset,
        "n_rows": int(n_rows),
        **{f"loso_{name}": _metric(arm["summary"][name]) for name in names},
        "loso_folds": [
            {
                "held_out": str(fold["held_out"]),
                "n_train": int(fold["n_train"]),
                "n_val": int(fold["n_val"]),
                **{name: _metric(fold[name]) for name in FOLD_METRICS},
            }
            for fold in arm["folds"]
        ],
        "ship_gate_mean_plcc": MEAN_PLCC,
        "gate_passed": passed,
        "smoke": smoke,
    }


def sidecar(
    *,
    facts: Mapping[str, Any],
    feature_mean: Sequence[float],
    feature_std: Sequence[float],
    loso: Mapping[str, Any],
    gate: Mapping[str, Any],
    corpus_name: str,
    corpus_sha256: str,
    n_rows: int,
    rows_per_slot: Mapping[str, int],
    domain: Mapping[str, Sequence[float]],
    recipe: Mapping[str, Any],
    provenance: Mapping[str, Any],
    norm: BlockNorm | None = None,
    synthetic: bool = False,
) -> dict[str, Any]:
    """Build the sidecar of ``fr_regressor_v3.onnx`` (section 6 of the contract).

    Parameters
    ----------
    facts : mapping
        What :func:`fr_lib.export.export_onnx` returned.
    feature_mean, feature_std : (6,) sequences of float
        Of the rows of the shipped fit, raw libvmaf units, order ``CANONICAL_6``.
    loso, gate : mapping
        Contents of ``loso.json`` (arm "v3" is used) and ``gate.json``.
    corpus_name, corpus_sha256 : str
        File name without folders, and the sha256 of its bytes.
    n_rows : int
        Rows of the shipped fit.
    rows_per_slot : mapping of str to int
        Training rows per encoder; a slot that is not named has none.
    domain : mapping
        Feature to its least and greatest value in the rows of the corpus, raw libvmaf units.
    recipe : mapping
        Every hyper-parameter, ``made_rows`` and ``seed``.
    provenance : mapping
        Versions, platform, git revision. ``synthetic`` is added to it.
    norm : BlockNorm, optional
        How preset and quality were normalised in training.
    synthetic : bool
        True for a smoke run on made-up rows.

    Returns
    -------
    dict
        JSON without NaN: an undefined metric is None. ``training.smoke`` is true when the gate
        failed or the rows are synthetic; ``run_provenance.synthetic`` tells the two apart.

    Raises
    ------
    ArtefactError
        If the parts do not make a valid sidecar; one line per fault.
    """
    passed = bool(gate["gate_passed"])
    slots = {name: int(rows_per_slot.get(name, 0)) for name in ENCODER_VOCAB_V3}
    training = _training(loso, corpus_name, n_rows, passed, synthetic or not passed)
    card = {
        "id": MODEL_ID,
        "kind": "fr",
        "onnx": f"{MODEL_ID}.onnx",
        "opset": facts["opset"],
        "sha256": facts["sha256"],
        "notes": _notes(gate, slots, synthetic),
        "input_names": list(facts["input_names"]),
        "output_names": list(facts["output_names"]),
        "feature_order": list(CANONICAL_6),
        "feature_mean": [float(v) for v in feature_mean],
        "feature_std": [float(v) for v in feature_std],
        "codec_aware": True,
        "encoder_vocab": list(ENCODER_VOCAB_V3),
        "encoder_vocab_version": ENCODER_VOCAB_V3_VERSION,
        "codec_block_layout": codec_block_layout(),
        **(norm or BlockNorm()).sidecar_keys(),
        "training": training,
        "corpus": corpus_name,
        "corpus_sha256": corpus_sha256,
        "loso_mean_plcc": training["loso_mean_plcc"],
        "gate_passed": passed,
        "trained_slots": slots,
        "domain": {name: [float(v) for v in span] for name, span in domain.items()},
        "recipe": dict(recipe),
        "run_provenance": {**provenance, "synthetic": bool(synthetic)},
    }
    problems = card_problems(card, f"{MODEL_ID}.json")
    if problems:
        raise ArtefactError("\n".join(problems))
    return card


def card_problems(card: Mapping[str, Any], where: str | Path) -> list[str]:
    """Return what is wrong with the sidecar of a codec-aware model, one line each.

    ``sidecar.schema.json`` says which keys of which type; the rest is what a schema cannot say
    without repeating the vocabulary, and what two keys say about each other.
    """
    problems = _schema_problems(SIDECAR_SCHEMA, card, where)
    if problems:
        return problems
    smoke = card["run_provenance"]["synthetic"] or not card["gate_passed"]
    numbers = [*card["feature_mean"], *card["feature_std"]]
    spans = card["domain"]
    bad_spans = [
        name for name, (lo, hi) in spans.items() if not (math.isfinite(hi - lo) and lo <= hi)
    ]
    rules = [
        ("feature_order", card["feature_order"], list(CANONICAL_6)),
        ("length of feature_mean", len(card["feature_mean"]), len(CANONICAL_6)),
        ("length of feature_std", len(card["feature_std"]), len(CANONICAL_6)),
        ("feature_mean and feature_std are finite", all(map(math.isfinite, numbers)), True),
        ("encoder_vocab", card["encoder_vocab"], list(ENCODER_VOCAB_V3)),
        ("codec_block_layout", card["codec_block_layout"], codec_block_layout()),
        ("trained_slots", sorted(card["trained_slots"]), sorted(ENCODER_VOCAB_V3)),
        ("domain", sorted(spans), sorted(CANONICAL_6)),
        ("domain, not from least to greatest or not finite", bad_spans, []),
        ("training.gate_passed", card["training"]["gate_passed"], card["gate_passed"]),
        ("training.loso_mean_plcc", card["training"]["loso_mean_plcc"], card["loso_mean_plcc"]),
        ("training.smoke", card["training"]["smoke"], smoke),
        ("training.dataset", card["training"]["dataset"], card["corpus"]),
        (f"notes say {RETRAIN_PENDING!r}", RETRAIN_PENDING in card["notes"], _failed(card)),
    ]
    return [
        say(str(where), f"{what}: {found}", str(allowed), "write the sidecar again")
        for what, found, allowed in rules
        if found != allowed
    ]


def _formula_problems(card: Mapping[str, Any], where: str | Path) -> list[str]:
    return _schema_problems(FORMULA_SCHEMA, card, where)


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


_OURS = {
    MODEL_ID: _Ours(partial(check_onnx, inputs=INPUTS), card_problems),
    FORMULA_ID: _Ours(check_formula, _formula_problems),
}


def _failed(card: Mapping[str, Any]) -> bool:
    return not card["gate_passed"]


# --- registry row, merged into text -----------------------------------------------------------


def registry_row(
    card: Mapping[str, Any], *, description: str = DESCRIPTION, license_id: str = LICENSE
) -> dict[str, Any]:
    """Return the registry row of a sidecar (section 7); ``smoke`` is the sidecar's own.

    Parameters
    ----------
    card : mapping
        What :func:`sidecar` or :func:`fr_lib.formula.formula_card` returned.
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


_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _members(text: str, opening: int) -> Iterator[tuple[Any, int, int]]:
    """Yield (key or None, start, end) of each member of the JSON object or array at `opening`.

    `text` has to be valid JSON.
    """
    at = _skip(text, opening + 1)
    while text[at] not in "]}":
        key = None
        if text[opening] == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # past the colon
        _, end = _DECODER.raw_decode(text, at)
        yield key, at, end
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


def _merged(text: str, row: Mapping[str, Any], where: str | Path) -> str:
    """Return the registry's text with `row` put in; all else keeps its characters."""
    rows = _check_rows(_parse(text, where), row["id"], where)
    array = [s for key, s, _ in _members(text, _skip(text, 0)) if key == "models"][-1]
    spans = [(start, end) for _, start, end in _members(text, array)]
    if not spans:
        rest = _skip(text, array + 1)
        lead = "\n    "
        return f"{text[: array + 1]}{lead}{_rendered(row, lead)}\n  {text[rest:]}"
    lead = text[array + 1 : spans[0][0]]
    for old, (start, end) in zip(rows, spans, strict=True):
        if old["id"] == row["id"]:
            new = {**old, **row}
            return text if new == old else text[:start] + _rendered(new, lead) + text[end:]
        if old["id"] > row["id"]:
            return f"{text[:start]}{_rendered(row, lead)},{lead or ' '}{text[start:]}"
    end = spans[-1][1]
    return f"{text[:end]},{lead or ' '}{_rendered(row, lead)}{text[end:]}"


def _merged_file(registry_path: Path, row: Mapping[str, Any]) -> bytes:
    """Return the new bytes of a registry, one that is yet to be made included."""
    problems = _schema_problems(SCHEMA, {"models": [row]}, f"row {row.get('id')}")
    if problems:
        raise ArtefactError("\n".join(problems))
    fresh = json_text({"schema_version": 1, "models": []})
    text = _read_text(registry_path) if registry_path.exists() else fresh
    return _merged(text, row, registry_path).encode()


def _add_schema(folder: Path) -> None:
    """Put the registry's schema beside it; one that is there already belongs to the folder."""
    if not (folder / SCHEMA).exists():
        write_bytes(folder / SCHEMA, (_DATA / SCHEMA).read_bytes())


def upsert_row(registry_path: str | Path, row: Mapping[str, Any]) -> None:
    """Put `row` into a registry, at its place by id; make the registry if there is none.

    Other rows and other keys of the file keep every byte. An existing row of the same id keeps the
    keys that `row` does not have (a signature bundle, quantisation keys, a licence URL).
    ``registry.schema.json`` is put beside the registry if it is not there.

    Raises
    ------
    ArtefactError
        If `row` breaks the schema, or the registry is not JSON, has no list of rows, or has several
        rows of this id. Nothing is written then.
    """
    path = Path(registry_path)
    data = _merged_file(path, row)
    _add_schema(path.parent)
    write_bytes(path, data)


# --- verification -----------------------------------------------------------------------------


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
        Id of the model of ours whose rules it has to keep too: ``fr_regressor_v3`` (sections 3 and
        6 of the contract) or ``vmaf_v0_6_1_formula``. Default: the row's own id, if it is one.
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
    """Verify a model folder against its registry (section 7 of the contract).

    Checked: the schema, ids unique and sorted, and for each row that the file lies inside the
    folder, has the digest of the row, is valid ONNX without external data, uses only operators of
    the allow-list, and has a sidecar (unless ``smoke``) of the same digest. The sidecars of
    ``fr_regressor_v3`` and ``vmaf_v0_6_1_formula`` are also held to their own schemas, and the
    formula is run: it has to give what :func:`fr_lib.teacher.vmaf_from_features` gives.

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


# --- publishing -------------------------------------------------------------------------------


def _passed_before(folder: Path) -> bool:
    """Say whether `folder` holds a model of ours that passed its gate, by row or by sidecar."""
    registry, card = folder / REGISTRY, folder / f"{MODEL_ID}.json"
    rows = _check_rows(_read_object(registry), MODEL_ID, registry) if registry.exists() else []
    by_row = any(row["id"] == MODEL_ID and not row.get("smoke", False) for row in rows)
    return by_row or (card.exists() and _read_object(card).get("gate_passed") is True)


def publish(source_dir: str | Path, model_dir: str | Path) -> str:
    """Put the model of a run's folder into a model folder and its registry.

    Only ``fr_regressor_v3.onnx``, ``.json``, its row and, if absent, ``registry.schema.json`` are
    written. All bytes are on disk before the first of three renames: model, sidecar, registry. An
    interruption between them leaves a folder that :func:`verify` and the consumer refuse, never
    one that scores with the wrong files, and publishing again mends it.

    Parameters
    ----------
    source_dir : path-like
        The ``model`` folder of a run.
    model_dir : path-like
        Made if absent.

    Returns
    -------
    str
        One line that says what was published where.

    Raises
    ------
    ArtefactError
        If the source does not verify, comes from synthetic rows, or the target's registry cannot
        be read. Nothing is changed.
    GateFailed
        If the source failed its gate and the target holds a model that passed. Nothing is changed.
    """
    source, target = Path(source_dir), Path(model_dir)
    problems = verify(source)
    if problems:
        raise ArtefactError("\n".join(problems))
    row = find_row(source)
    names = (row["onnx"], f"{MODEL_ID}.json")
    card = _read_object(source / names[1])
    if card["run_provenance"]["synthetic"]:
        raise ArtefactError(
            say(str(source), "a smoke run on synthetic rows", "a run on a real corpus", "run one")
        )
    if _failed(card) and _passed_before(target):
        raise GateFailed(
            say(
                str(source),
                f"the gate failed, and {target} holds a {MODEL_ID} that passed",
                "a model that passed",
                "nothing was changed; train again",
            )
        )
    _put(target, row, {name: (source / name).read_bytes() for name in names})
    state = "gate failed: audit trail, not for scoring" if _failed(card) else "gate passed"
    return f"{MODEL_ID} ({state}, sha256 {row['sha256'][:12]}) is in {target}"


def _put(target: Path, row: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write the files of a row into a model folder, in their order, and the registry after them."""
    registry = _merged_file(target / REGISTRY, row)
    target.mkdir(parents=True, exist_ok=True)
    _add_schema(target)
    with ExitStack() as renames:
        # The stack unwinds from the end: model first, registry last.
        for name, data in [(REGISTRY, registry), *reversed(files.items())]:
            renames.enter_context(atomic_path(target / name)).write_bytes(data)


def publish_formula(model_dir: str | Path) -> str:
    """Put VMAF v0.6.1 as a model into a model folder and its registry, beside whatever is there.

    It comes from libvmaf's model file and from no run, so no gate is asked. Files and renames are
    as in :func:`publish`.

    Returns
    -------
    str
        One line that says what was published where.

    Raises
    ------
    ArtefactError
        If libvmaf's model file is not installed, or the target's registry cannot be read. Nothing
        is changed.
    """
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / f"{FORMULA_ID}.onnx"
        card = formula_card(export_formula(path))
        model = path.read_bytes()
    row = registry_row(card, description=FORMULA_DESCRIPTION)
    files = {path.name: model, f"{FORMULA_ID}.json": json_text(card).encode()}
    _put(Path(model_dir), row, files)
    return f"{FORMULA_ID} (VMAF v0.6.1 itself, sha256 {row['sha256'][:12]}) is in {model_dir}"
