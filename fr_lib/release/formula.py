"""VMAF v0.6.1 as one ONNX file: the teacher's own formula, for whoever has the six features.

It is the nu-SVR of :mod:`fr_lib.corpus.teachers`, one node per operation and the model file's own
numbers as weights. Whoever wants VMAF v0.6.1 and has its features needs this and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.corpus import (
    MODEL_FILE,
    MODEL_FOLDER,
    MODEL_PACKAGE,
    V061,
    svr_parameters,
    vmaf_from_features,
)
from fr_lib.errors import ArtefactError, say
from fr_lib.files import sha256_of, write_bytes
from fr_lib.release.graph import Fault, Graph, graph_faults
from fr_lib.release.onnx import MAX_BYTES, check_onnx, faults_of_ours, open_session
from fr_lib.release.strict import read_bytes
from fr_lib.schema import CANONICAL_6

if TYPE_CHECKING:
    import onnx

FORMULA_ID = f"{V061.name.replace('.', '_')}_formula"
FORMULA_INPUTS = {"features": ("N", len(CANONICAL_6))}
# Float32 inside would cost 5e-3: support vectors of weight 4 nearly cancel, and what is left is
# divided by 0.012. With double inside the rounding of ports costs 2e-5.
FORMULA_ATOL = 1e-3
LICENSE = "BSD-2-Clause-Patent"
COPYRIGHT = "Copyright (c) 2020 Netflix, Inc."
NOTES = (
    "VMAF v0.6.1 itself, not a network: its nu-SVR as a graph, within 1e-3 of libvmaf. Features go "
    "in raw, no scaler, no codec. Use it instead of fr_regressor_v3 wherever the six features are "
    "at hand and VMAF v0.6.1 is the score that is wanted."
)
_RANDOM_ROWS = 1000
_CONSTANTS = {"axis_of_rows", "axis_of_columns", "two", "lo", "hi"}


def _build() -> onnx.ModelProto:
    """Write the formula of ``fr_lib.corpus.teachers`` down as a graph."""
    from onnx import TensorProto

    graph = Graph()
    score = graph.node("Squeeze", [formula_nodes(graph), "axis_of_columns"], "score")
    graph.node("Cast", [score], "vmaf", to=TensorProto.FLOAT)
    return graph.model(FORMULA_ID, FORMULA_INPUTS)


def formula_nodes(graph: Graph) -> str:
    """Add the formula to a graph, step by step, and return the name of its [N, 1] double score.

    Nothing is worked out beforehand (the lengths of the support vectors, say), so the weights are
    the digits of the model file and the bytes are the same on any machine.
    """
    from onnx import TensorProto

    svr = svr_parameters()
    rows = graph.weight("axis_of_rows", np.array([0], dtype=np.int64))
    columns = graph.weight("axis_of_columns", np.array([1], dtype=np.int64))

    def length(x: str, axis: str, name: str) -> str:
        squares = graph.node("Mul", [x, x], f"{name}.squares")
        return graph.node("ReduceSum", [squares, axis], name, keepdims=1)

    def step(op: str, x: str, value: Any, name: str) -> str:
        weight = graph.weight(name, np.asarray(value, dtype=np.float64))
        return graph.node(op, [x, weight], f"after_{name}")

    z = graph.node("Cast", ["features"], "double", to=TensorProto.DOUBLE)
    z = step("Add", step("Mul", z, svr.slopes, "slopes"), svr.intercepts, "intercepts")
    kernel = step("MatMul", z, np.ascontiguousarray(svr.vectors.T), "vectors")
    kernel = step("Mul", kernel, 2.0, "two")
    kernel = graph.node("Sub", [kernel, length(z, columns, "z_length")], "less_z_length")
    kernel = graph.node("Sub", [kernel, length("vectors", rows, "lengths")], "less_lengths")
    kernel = graph.node("Exp", [step("Mul", kernel, svr.gamma, "gamma")], "kernel")
    score = step("MatMul", kernel, svr.weights[:, None], "weights")
    score = step("Sub", score, svr.rho, "rho")
    score = step("Sub", score, svr.score_intercept, "score_intercept")
    score = step("Div", score, svr.score_slope, "score_slope")
    bounds = [graph.weight(n, np.float64(v)) for n, v in zip(("lo", "hi"), svr.clip, strict=True)]
    return graph.node("Clip", [score, *bounds], "clipped")


def export_formula(path: str | Path) -> dict[str, Any]:
    """Write VMAF v0.6.1 as one ONNX file and check what was written.

    Parameters
    ----------
    path : path-like
        Written atomically; the same bytes each time.

    Returns
    -------
    dict
        The facts of :func:`fr_lib.release.onnx.check_onnx`.

    Raises
    ------
    ArtefactError
        If libvmaf's model file is not installed, or the file breaks a rule.
    """
    write_bytes(path, _build().SerializeToString(deterministic=True))
    return check_formula(path)


def check_rows() -> np.ndarray:
    """Return the rows on which a file is held against the formula.

    Returns
    -------
    (N, 6) float32
        Raw units: the place of every support vector, where its weight counts most, and 1,000 random
        rows with the five up to 1.5 and motion2 up to 100, half of which end in the clip.
    """
    svr = svr_parameters()
    places = (svr.vectors - svr.intercepts) / svr.slopes
    random = np.random.default_rng(0).uniform(0, [1.5] * 5 + [100.0], (_RANDOM_ROWS, 6))
    return np.concatenate([places, random]).astype(np.float32)


def formula_rules(model: onnx.ModelProto) -> Iterator[Fault]:
    """Yield (found, allowed) wherever a model is not the graph that is written here.

    The digits of its constants are judged by running it, so that another edition of libvmaf's model
    file is no fault by itself.
    """
    template = _build()
    ours = {tensor.name for tensor in template.graph.initializer}
    yield from faults_of_ours(model, FORMULA_INPUTS)
    yield from graph_faults(model, template, ours - _CONSTANTS)


def check_formula(source: str | Path | bytes, where: str | Path = "") -> dict[str, Any]:
    """Check that an ONNX file is VMAF v0.6.1, by its form and then by running it.

    Parameters
    ----------
    source, where
        As :func:`fr_lib.release.onnx.check_onnx` takes them.

    Returns
    -------
    dict
        The facts of :func:`fr_lib.release.onnx.check_onnx`.

    Raises
    ------
    ArtefactError
        One line per broken rule: those of a model of ours with the float32 ports
        ``features [N,6]`` -> ``vmaf [N]``, another graph than :func:`export_formula` writes, a
        score that is not within ``FORMULA_ATOL`` of the formula.
    """
    if not isinstance(source, bytes):
        where, source = source, read_bytes(Path(source), MAX_BYTES)
    facts = check_onnx(source, formula_rules, where)
    off = _largest_difference(source, check_rows(), where)
    if not off <= FORMULA_ATOL:
        found = f"differs from {V061.title} by {off:g} points"
        raise ArtefactError(say(str(where), found, f"{FORMULA_ATOL:g}", "release again"))
    return facts


def _largest_difference(model: bytes, rows: np.ndarray, where: str | Path) -> float:
    """Return the largest difference of a file's scores to the formula."""
    try:
        scores = open_session(model).run(["vmaf"], {"features": rows})[0]
    except Exception as broken:  # onnxruntime's own types
        why = str(broken).partition("\n")[0]
        raise ArtefactError(
            say(str(where), f"cannot be run ({why})", "a graph that runs", "release again")
        ) from None
    return float(np.abs(scores - vmaf_from_features(rows)).max())


def formula_card(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the sidecar of ``vmaf_v0_6_1_formula.onnx``.

    Parameters
    ----------
    facts : dict
        What :func:`export_formula` returned.
    """
    package, file = distribution(MODEL_PACKAGE), f"{MODEL_FOLDER}/{MODEL_FILE}"
    return {
        "id": FORMULA_ID,
        "kind": "fr",
        "onnx": f"{FORMULA_ID}.onnx",
        **{key: facts[key] for key in ("opset", "sha256", "input_names", "output_names")},
        "notes": NOTES,
        "feature_order": list(CANONICAL_6),
        "codec_aware": False,
        "teacher": V061.name,
        "source": {
            "package": package.name,
            "version": package.version,
            "file": file,
            "sha256": sha256_of(str(package.locate_file(f"{MODEL_PACKAGE}/{file}"))),
        },
        "license": LICENSE,
        "copyright": COPYRIGHT,
    }
