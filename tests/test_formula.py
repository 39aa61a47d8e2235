"""VMAF v0.6.1 as an ONNX file: exact, the same bytes each time, and nothing else passes for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from fr_lib.corpus import svr_parameters, vmaf_from_features
from fr_lib.errors import ArtefactError
from fr_lib.files import ROOT, sha256_of
from fr_lib.release import open_session
from fr_lib.release.formula import (
    FORMULA_ATOL,
    check_formula,
    check_rows,
    export_formula,
    formula_card,
)
from fr_lib.release.onnx import ALLOWED_OPS
from fr_lib.schema import CANONICAL_6

PERFECT = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("formula") / "f.onnx"
    export_formula(path)
    return path


def run(path: Path, rows) -> np.ndarray:
    features = np.asarray(rows, dtype=np.float32).reshape(-1, 6)
    return open_session(path).run(None, {"features": features})[0]


def random_rows(n: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(0, [1.5] * 5 + [100.0], (n, 6))


def altered(path: Path, target: Path, change) -> Path:
    """Write a copy of a model after `change` was applied to it."""
    model = onnx.load(path)
    change(model)
    target.write_bytes(model.SerializeToString())
    return target


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def with_value(name: str, change):
    """Return a change of one weight, given as a change of its array."""

    def apply(model: onnx.ModelProto) -> None:
        tensor = weight(model, name)
        value = numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(value)), name))

    return apply


# --- the scores -------------------------------------------------------------------------------


def test_it_is_the_formula_on_ten_thousand_random_rows(exported):
    rows = random_rows(10_000)
    expected = vmaf_from_features(rows)
    # Were most rows clipped, agreement would say little.
    assert ((expected > 0) & (expected < 100)).mean() > 0.4
    assert np.abs(run(exported, rows) - expected).max() <= 1e-4 < FORMULA_ATOL


def test_it_is_the_formula_and_the_logged_score_on_real_rows(exported):
    corpus = pd.read_json(ROOT / "data" / "corpus.jsonl.gz", lines=True)
    rows = corpus[list(CANONICAL_6)].to_numpy()
    scores = run(exported, rows)
    assert np.abs(scores - vmaf_from_features(rows)).max() <= 1e-4
    assert np.abs(scores - corpus["vmaf"].to_numpy()).max() <= FORMULA_ATOL


def test_known_values_and_both_ends_of_the_clip(exported):
    rows = [PERFECT, [0.9, 0.5, 0.8, 0.9, 0.93, 5.0], [1.0] * 5 + [15.0], [0.4] + [0.1] * 4 + [0.0]]
    expected = [97.42804, 72.68178, 100.0, 0.0]
    np.testing.assert_allclose(run(exported, rows), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_rows_can_be_scored_and_none_depends_on_the_others(exported, n):
    alone = run(exported, random_rows(n))
    assert (alone.shape, alone.dtype) == ((n,), np.float32)
    np.testing.assert_allclose(alone, run(exported, random_rows(40))[:n], rtol=0, atol=1e-5)


def test_nan_in_a_row_is_nan_in_its_score_alone(exported):
    assert np.isfinite(run(exported, [[np.nan] * 6, PERFECT])).tolist() == [False, True]


# --- the file ---------------------------------------------------------------------------------


def test_facts_and_ports(tmp_path):
    facts = export_formula(tmp_path / "f.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["f.onnx"]
    assert facts["sha256"] == sha256_of(tmp_path / "f.onnx")
    assert facts["n_bytes"] < 20_000
    assert facts["opset"] == 17
    assert {"Exp", "Clip"} <= set(facts["ops"]) <= ALLOWED_OPS
    session = open_session(tmp_path / "f.onnx")
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("features", ["N", 6], "tensor(float)")
    ]
    assert [(o.name, o.shape, o.type) for o in session.get_outputs()] == [
        ("vmaf", ["N"], "tensor(float)")
    ]


def test_the_bytes_are_the_same_in_another_process(exported, tmp_path):
    code = (
        "import sys; from fr_lib.release.formula import export_formula; export_formula(sys.argv[1])"
    )
    other = tmp_path / "other.onnx"
    subprocess.run([sys.executable, "-c", code, str(other)], check=True, cwd=ROOT)
    assert other.read_bytes() == exported.read_bytes()


def test_its_weights_are_the_model_files_own_numbers(exported):
    svr, model = svr_parameters(), onnx.load(exported)
    vectors, weights = (
        numpy_helper.to_array(weight(model, name)) for name in ("vectors", "weights")
    )
    assert np.array_equal(vectors.T, svr.vectors)
    assert np.array_equal(weights[:, 0], svr.weights)


def test_its_card_says_where_the_numbers_come_from(exported):
    card = formula_card(export_formula(exported))
    assert card["sha256"] == sha256_of(exported)
    assert card["feature_order"] == list(CANONICAL_6)
    assert card["codec_aware"] is False
    assert card["teacher"] == "vmaf_v0.6.1"
    assert card["source"]["package"] == "ffmpeg-quality-metrics"
    assert card["source"]["file"] == "vmaf_models/vmaf_v0.6.1.json"
    pins = (ROOT / "requirements.lock").read_text().splitlines()
    assert f"ffmpeg-quality-metrics=={card['source']['version']}" in pins
    assert (card["license"], "Netflix" in card["copyright"]) == ("BSD-2-Clause-Patent", True)


# --- what is not the formula ------------------------------------------------------------------


def test_the_rows_it_is_held_against_reach_both_ends_and_all_vectors():
    rows = check_rows()
    scores = vmaf_from_features(rows)
    assert rows.dtype == np.float32
    assert len(rows) == len(svr_parameters().vectors) + 1000
    assert (scores == 0).any()
    assert (scores == 100).any()
    assert ((scores > 0) & (scores < 100)).sum() > 500


@pytest.mark.parametrize(
    "name",
    "slopes intercepts vectors weights two gamma rho score_intercept score_slope lo hi".split(),
)
@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_another_weight_is_noticed(exported, tmp_path, name, factor):
    # The lower bound is 0, which no factor moves.
    change = with_value(name, lambda value: value * factor if name != "lo" else value + factor)
    message = rf"differs from VMAF v0\.6\.1 by .*0\.001|{name} is |weight {name} has .* not finite"
    with pytest.raises(ArtefactError, match=rf"a\.onnx: ({message})"):
        check_formula(altered(exported, tmp_path / "a.onnx", change))


@pytest.mark.parametrize("at", [0, 100, 210])
@pytest.mark.parametrize(("name", "by"), [("weights", 0.01), ("vectors", 0.01)])
def test_one_altered_number_of_one_support_vector_is_noticed(exported, tmp_path, name, by, at):
    def change(value: np.ndarray) -> np.ndarray:
        value[(at, 0) if name == "weights" else (1, at)] += by
        return value

    with pytest.raises(ArtefactError, match="differs from VMAF"):
        check_formula(altered(exported, tmp_path / "a.onnx", with_value(name, change)))


def test_a_difference_below_the_tolerance_is_none(exported, tmp_path):
    change = with_value("score_intercept", lambda value: value - 1.1e-5)
    assert check_formula(altered(exported, tmp_path / "a.onnx", change))["opset"] == 17
    change = with_value("score_intercept", lambda value: value - 1.3e-5)
    with pytest.raises(ArtefactError, match="differs from VMAF"):
        check_formula(altered(exported, tmp_path / "a.onnx", change))


def test_a_loop_is_refused_before_it_is_run(exported, tmp_path):
    def endless(model: onnx.ModelProto) -> None:
        ports = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in (
                ("i", TensorProto.INT64, []),
                ("go", TensorProto.BOOL, []),
                ("x", TensorProto.FLOAT, ["N"]),
                ("same", TensorProto.BOOL, []),
                ("y", TensorProto.FLOAT, ["N"]),
            )
        ]
        steps = [helper.make_node("Identity", [a], [b]) for a, b in (("go", "same"), ("x", "y"))]
        body = helper.make_graph(steps, "body", ports[:3], ports[3:])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(
            helper.make_node("Loop", ["", "yes", "before"], ["vmaf"], body=body)
        )

    with pytest.raises(ArtefactError, match=r"a\.onnx: operators Loop; allowed: .*Add"):
        check_formula(altered(exported, tmp_path / "a.onnx", endless))


def test_an_operator_that_the_formula_does_not_have_is_named(exported, tmp_path):
    def negated(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Neg", ["score"], ["unused"]))

    with pytest.raises(ArtefactError, match=r"a\.onnx: operators Neg; allowed: .*Add, Cast"):
        check_formula(altered(exported, tmp_path / "a.onnx", negated))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("slopes", lambda value: value[:5], "weight slopes (type 11, shape [5], 40 bytes)"),
        ("axis_of_rows", lambda value: value + 1, "axis_of_rows is 1; allowed: 0"),
    ],
)
def test_weights_whose_shapes_do_not_fit_are_one_line(exported, tmp_path, name, change, message):
    with pytest.raises(ArtefactError) as refused:
        check_formula(altered(exported, tmp_path / "a.onnx", with_value(name, change)))
    assert f"a.onnx: {message}" in str(refused.value)


def test_another_models_file_is_refused_by_its_ports(tmp_path, exported):
    def renamed(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5

    with pytest.raises(ArtefactError, match=r"inputs .*'features': \('N', 5\)"):
        check_formula(altered(exported, tmp_path / "a.onnx", renamed))
