"""A translation of VMAF v0.6.1 as one ONNX file, with its sidecar.

The graph goes from raw features, codec block and the scale of the source to the other teacher's
score; VMAF v0.6.1 itself, its monotone map and the kernel are nodes of it, in double.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.corpus import TEACHERS, V061
from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.files import write_bytes
from fr_lib.release.formula import COPYRIGHT, LICENSE, formula_nodes
from fr_lib.release.graph import Fault, Graph, codec_aware_inputs, graph_faults
from fr_lib.release.onnx import MAX_BYTES, check_onnx, faults_of_ours
from fr_lib.release.sense import vocab_of
from fr_lib.release.strict import TRANSLATION_SCHEMA, read_bytes, schema_problems
from fr_lib.schema import (
    CANONICAL_6,
    NEWEST_VOCAB,
    NEWEST_VOCAB_VERSION,
    VOCABULARIES,
    codec_block_layout,
)
from fr_lib.train import FIXED, Translation

if TYPE_CHECKING:
    import onnx

_SUFFIX = "_from_v0_6_1"
# Between the file and the same numbers in numpy: double inside, sums in another order.
TRANSLATION_ATOL = 1e-3
SAME = 1e-9
# What a fit decides; everything else of the graph is the same in each.
_FREE = ("floor", "steps", "input_mean", "input_std", "places", "place_slots", "place_weights")
# Of the fixed numbers, those that were compared with others.
_CHOSEN = ("gamma", "shared", "ridge", "places_per_codec")


def translation_id(teacher: str) -> str:
    """Return the id of the model that reads a teacher's scores off rows of VMAF v0.6.1.

    Examples
    --------
    >>> translation_id("vmaf_v1.0.16_3d0h")
    'vmaf_v1_0_16_3d0h_from_v0_6_1'
    """
    if teacher not in TEACHERS or teacher == V061.name:
        known = ", ".join(name for name in TEACHERS if name != V061.name)
        raise InputError(say("teacher", ascii(teacher)[:80], known, "name one of these"))
    return teacher.replace(".", "_") + _SUFFIX


TRANSLATED = {translation_id(name): name for name in TEACHERS if name != V061.name}


def translation_inputs(vocab: Sequence[str]) -> dict[str, tuple]:
    """Return name and shape of the inputs of a translation of that vocabulary."""
    return codec_aware_inputs(vocab) | {"src_scale": ("N", 1)}


def build_translation(
    model: Translation, model_id: str, vocab: Sequence[str] = NEWEST_VOCAB
) -> onnx.ModelProto:
    """Write ``Translation.__call__`` down as a graph, one node per operation."""
    from onnx import TensorProto

    graph = Graph()

    def step(op: str, x: str, value: Any, name: str) -> str:
        weight = graph.weight(name, np.asarray(value, dtype=np.float64))
        return graph.node(op, [x, weight], f"after_{name}")

    def clip(x: str, low: float, high: float, name: str) -> str:
        ends = (("least", low), ("most", high))
        bounds = [graph.weight(f"{name}.{end}", np.float64(value)) for end, value in ends]
        return graph.node("Clip", [x, *bounds], name)

    def double(x: str) -> str:
        return graph.node("Cast", [x], f"{x}.double", to=TensorProto.DOUBLE)

    def length(x: str, axis: str) -> str:
        squares = graph.node("Mul", [x, x], f"{x}.squares")
        return graph.node("ReduceSum", [squares, axis], f"{x}.length", keepdims=1)

    old = formula_nodes(graph)
    # The map of the v0.6.1 score.
    along = step("Div", step("Sub", old, FIXED.knots[:-1], "knots"), np.diff(FIXED.knots), "gaps")
    mapped = step("MatMul", clip(along, 0.0, 1.0, "ramps"), model.steps[:, None], "steps")
    mapped = step("Add", mapped, model.floor, "floor")
    # What the kernel compares.
    x = step("Add", step("Mul", double("features"), FIXED.sign, "sign"), FIXED.offset, "offset")
    x = graph.node("Log", [clip(x, FIXED.least, FIXED.most, "inside")], "logs")
    above = graph.node("Sub", [graph.weight("above", np.float64(FIXED.above)), old], "room")
    parts = [x, old, graph.node("Log", [above], "log_room")]
    parts.append(graph.node("Log", [double("src_scale")], "log_scale"))
    x = graph.node("Concat", parts, "inputs", axis=1)
    x = step("Div", step("Sub", x, model.mean, "input_mean"), model.std, "input_std")
    places = graph.weight("places", np.ascontiguousarray(model.places.T))
    likeness = step("Mul", graph.node("MatMul", [x, places], "products"), 2.0, "twice")
    likeness = graph.node("Sub", [likeness, length(x, "axis_of_columns")], "less_row")
    likeness = graph.node("Sub", [likeness, length(places, "axis_of_rows")], "less_place")
    likeness = graph.node("Exp", [step("Mul", likeness, FIXED.gamma, "width")], "likeness")
    # A row of the same codec counts whole, any other for a share.
    slots = graph.weight("place_slots", model.place_slots)
    same = graph.node("Gather", ["codec_block", slots], "same", axis=1)
    share = step("Mul", double(same), 1.0 - FIXED.shared, "own_share")
    share = step("Add", share, FIXED.shared, "shared")
    weighted = graph.node("Mul", [likeness, share], "weighted")
    correction = step("MatMul", weighted, model.weights[:, None], "place_weights")
    score = clip(graph.node("Add", [mapped, correction], "corrected"), *model.range, "within")
    score = graph.node("Squeeze", [score, "axis_of_columns"], "translated")
    graph.node("Cast", [score], "vmaf", to=TensorProto.FLOAT)
    return graph.model(model_id, translation_inputs(vocab))


def _template(teacher: str, places: int, vocab: Sequence[str]) -> onnx.ModelProto:
    """Return the graph of that many places, whatever a fit decides being 0."""
    n_inputs = len(CANONICAL_6) + 3
    empty = Translation(
        floor=0.0,
        steps=np.zeros(len(FIXED.knots) - 1),
        mean=np.zeros(n_inputs),
        std=np.ones(n_inputs),
        places=np.zeros((places, n_inputs)),
        place_slots=np.zeros(places, dtype=np.int64),
        weights=np.zeros(places),
        range=TEACHERS[teacher].range,
    )
    return build_translation(empty, translation_id(teacher), vocab)


def translation_rules(
    teacher: str,
    trained: Mapping[str, Any] | None = None,
    vocab: Sequence[str] = NEWEST_VOCAB,
) -> Callable[[onnx.ModelProto], Iterator[Fault]]:
    """Return what :func:`check_onnx` asks of a translation.

    Parameters
    ----------
    teacher : str
    trained : mapping, optional
        ``trained_slots`` of its sidecar: places are of these codecs and of no other.
    vocab : sequence of str
        Of the version that its sidecar names.
    """

    def rules(model: onnx.ModelProto) -> Iterator[Fault]:
        from onnx import numpy_helper

        yield from faults_of_ours(model, translation_inputs(vocab))
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        # As many as the file has bytes for: its dims may claim any number.
        weights = tensors.get("place_weights")
        places = max(1, len(weights.raw_data) // 8) if weights else 1
        faults = list(graph_faults(model, _template(teacher, places, vocab), _FREE))
        yield from faults
        if faults:
            return
        numbers = {name: numpy_helper.to_array(tensors[name]) for name in _FREE}
        if (numbers["steps"] < 0).any():
            yield "a map that falls", "one that rises with VMAF v0.6.1"
        if not (numbers["input_std"] > 0).all():
            yield "input_std of 0 or less", "above 0"
        if not all(0 <= slot < len(vocab) for slot in numbers["place_slots"].tolist()):
            yield "place_slots outside the vocabulary", f"0..{len(vocab) - 1}"
        elif trained is not None:
            found = {vocab[slot] for slot in numbers["place_slots"].tolist()}
            named = {name for name, rows in trained.items() if rows}
            if found != named:
                yield f"places of {', '.join(sorted(found))}", f"{', '.join(sorted(named))}"

    return rules


def export_translation(model: Translation, teacher: str, path: str | Path) -> dict[str, Any]:
    """Write a translation as one ONNX file, and return what :func:`check_onnx` says of it."""
    graph = build_translation(model, translation_id(teacher))
    write_bytes(path, graph.SerializeToString(deterministic=True))
    return check_translation(read_bytes(Path(path), MAX_BYTES), Path(path), {}, teacher)


def check_translation(
    data: bytes, where: Path, card: Mapping[str, Any], teacher: str
) -> dict[str, Any]:
    """Check a file by its form: no sum can overflow, as a kernel is 1 at most and ends in a clip.

    Raises
    ------
    ArtefactError
        One line per rule that it breaks.
    """
    slots = card.get("trained_slots")
    trained = slots if isinstance(slots, dict) else None
    # Without a version that is known, the sidecar is refused anyway.
    vocab = vocab_of(card) or NEWEST_VOCAB
    return check_onnx(data, translation_rules(teacher, trained, vocab), where)


def translation_card(
    facts: Mapping[str, Any],
    found: Mapping[str, Any],
    corpus: Any,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the sidecar of a translation (``translation.schema.json``).

    Parameters
    ----------
    facts : mapping
        What :func:`export_translation` returned.
    found : mapping
        What :func:`fr_lib.evaluate.make_translation` measured.
    corpus : Corpus
    provenance : mapping
        Versions, platform, git revision.

    Raises
    ------
    ArtefactError
        If the parts do not make a valid sidecar.
    """
    teacher, model_id = found["teacher"], translation_id(found["teacher"])
    card = {
        "id": model_id,
        "kind": "fr",
        "onnx": f"{model_id}.onnx",
        **{key: facts[key] for key in ("opset", "sha256", "input_names", "output_names")},
        "notes": _notes(found),
        "feature_order": list(CANONICAL_6),
        "codec_aware": True,
        "encoder_vocab": list(NEWEST_VOCAB),
        "encoder_vocab_version": NEWEST_VOCAB_VERSION,
        "codec_block_layout": codec_block_layout(),
        "trained_slots": corpus.rows_per_slot(),
        "teacher": teacher,
        "read_from": V061.name,
        "score_range": list(TEACHERS[teacher].range),
        **{key: found[key] for key in ("method", "interval", "against_map", "map", "own_size")},
        "domain": {name: list(span) for name, span in found["domain"].items()},
        "training": {
            "n_rows": len(corpus.table),
            "loso_mean_rmse": found["summary"]["rmse"],
            "loso_mean_plcc": found["summary"]["plcc"],
            "loso_folds": found["folds"],
            "smoke": bool(corpus.synthetic),
        },
        "gate_passed": found["gate"]["gate_passed"],
        "gate": found["gate"]["clauses"],
        "not_applicable": {
            "block swap, stress set": f"{teacher} is no formula of the six features, so that no "
            "row says what its score should have been"
        },
        "recipe": {
            **{name: getattr(FIXED, name) for name in _CHOSEN},
            "chosen": "from a handful of round numbers, on held-out sources of the shipped corpus",
        },
        "license": LICENSE,
        "copyright": COPYRIGHT,
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "run_provenance": {**provenance, "synthetic": bool(corpus.synthetic)},
    }
    problems = translation_problems(card, f"{model_id}.json")
    if problems:
        raise ArtefactError("\n".join(problems))
    return card


def _notes(found: Mapping[str, Any]) -> str:
    title = TEACHERS[found["teacher"]].title
    return (
        f"{title} as far as six features of VMAF v0.6.1 tell it: an estimate, off by "
        f"{found['summary']['rmse']:.2f} points a frame on held-out sources (RMSE), by "
        f"{found['map']['rmse']:.2f} with a map of the score alone. Features go in raw; of the "
        "codec block the encoder alone counts; src_scale is 1 unless the source was scaled up."
    )


def translation_problems(card: Mapping[str, Any], where: str | Path) -> list[str]:
    """Return what is wrong with the sidecar of a translation, one line each."""
    problems = schema_problems(TRANSLATION_SCHEMA, card, where)
    if problems:
        return problems
    return [
        say(str(where), f"{what}: {found}", str(allowed), "make the translation again")
        for what, found, allowed in _disagreements(card)
        if found != allowed
    ]


def _disagreements(card: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a schema cannot say: (what, found, allowed), right where both are the same."""
    training, folds = card["training"], card["training"]["loso_folds"]
    yield "teacher", card["teacher"], TRANSLATED.get(card["id"])
    vocab = vocab_of(card)
    if vocab is None:
        known = ", ".join(map(str, VOCABULARIES))
        yield "encoder_vocab_version", card["encoder_vocab_version"], known
        return
    yield "encoder_vocab", card["encoder_vocab"], list(vocab)
    yield "codec_block_layout", card["codec_block_layout"], codec_block_layout(vocab)
    yield "trained_slots", sorted(card["trained_slots"]), sorted(vocab)
    yield "rows of trained_slots", sum(card["trained_slots"].values()), training["n_rows"]
    yield "rows held out", sum(fold["n_val"] for fold in folds), training["n_rows"]
    yield "score_range", card["score_range"], list(TEACHERS[card["teacher"]].range)
    for metric in ("rmse", "plcc"):
        stated = training[f"loso_mean_{metric}"]
        right = math.fsum(fold[metric] for fold in folds) / len(folds)
        close = math.isclose(stated, right, abs_tol=SAME)
        yield f"loso_mean_{metric}", stated, stated if close else right
    failed = any(clause["blocks"] and clause["status"] == "fail" for clause in card["gate"])
    yield "gate_passed", card["gate_passed"], not failed
