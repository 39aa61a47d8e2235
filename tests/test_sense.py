"""Model folders whose digests are right and whose content is not: named, and never loaded."""

from __future__ import annotations

import hashlib
import json
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile_models import BAD, CARD, GIB_256, NAME, TINY, Bad, loop_body, write
from onnx import TensorProto, helper, numpy_helper

from fr_lib.errors import ArtefactError
from fr_lib.release import Predictor, verdicts, verify
from fr_lib.release.checks import judge
from fr_lib.release.sense import OWN

# What a file claims must never be allocated; the address space of a test run is far below that.
LIMIT = 64 * 2**30


@pytest.fixture(scope="module", autouse=True)
def _limited():
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_folder_that_all_of_them_start_from_is_sound(tmp_path):
    assert verify(write(tmp_path / "tiny")) == []


def test_there_are_many_kinds_and_no_two_are_the_same():
    assert len({bad.name for bad in BAD}) == len(BAD) >= 80


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_what_is_wrong_is_named_and_the_model_is_not_loaded(bad: Bad, tmp_path):
    folder = write(tmp_path / "tiny", bad)
    problems = verify(folder)
    assert any(bad.says in line for line in problems), problems
    assert all(line.isprintable() and len(line) < 2000 for line in problems)
    with pytest.raises(ArtefactError):
        Predictor.load(folder, NAME)


# --- read once --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{NAME}.onnx", f"{NAME}.json", "registry.json"])
def test_a_file_that_is_swapped_after_it_was_hashed_has_no_effect(tmp_path, monkeypatch, name):
    """The swap comes as late as it can: when all was read and the session is about to be opened."""
    folder = write(tmp_path / "tiny")
    frames = np.array([[0.95, 0.5, 0.8, 0.9, 0.93, 5.0]])
    right = Predictor.load(folder).score(frames, "libx264", 30)
    other = write(tmp_path / "other", next(bad for bad in BAD if bad.name == "answers 500"))

    def swap_afterwards(*args, **more):
        verdict = judge(*args, **more)
        (folder / name).write_bytes((other / name).read_bytes())
        return verdict

    monkeypatch.setattr("fr_lib.release.predict.judge", swap_afterwards)
    loaded = Predictor.load(folder)
    assert loaded.score(frames, "libx264", 30) == right
    assert loaded.card["sha256"] == CARD["sha256"]
    assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("name", [f"{NAME}.onnx", f"{NAME}.json", "registry.json"])
def test_each_file_is_opened_once(tmp_path, monkeypatch, name):
    folder, opened = write(tmp_path / "tiny"), []
    real = Path.open

    def counting(path, *args, **more):
        opened.append(path.name)
        return real(path, *args, **more)

    monkeypatch.setattr(Path, "open", counting)
    Predictor.load(folder)
    assert opened.count(name) == 1


# --- models of others -------------------------------------------------------------------------


def foreign(folder: Path, name: str, nodes: list, weights: list, card: dict | None = None) -> dict:
    """Write a model x -> y of another project and return its row."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 6]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return put_foreign(folder, name, model.SerializeToString(), card or {})


def put_foreign(folder: Path, name: str, data: bytes, card: dict) -> dict:
    (folder / f"{name}.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"{name}.json").write_text(json.dumps({"id": name} | card | {"sha256": digest}))
    return {"id": name, "kind": "fr", "onnx": f"{name}.onnx", "opset": 17, "sha256": digest}


def registry(folder: Path, *rows: dict) -> Path:
    (folder / "registry.json").write_text(json.dumps({"schema_version": 1, "models": rows}))
    return folder


@pytest.mark.parametrize(
    ("steps", "says"), [(1024, None), (1025, "Loop"), (2**62, "Loop"), (None, "Loop")]
)
def test_a_loop_of_another_project_has_a_fixed_number_of_steps(tmp_path, steps, says):
    weights = [numpy_helper.from_array(np.array(True), "yes")]
    if steps is not None:
        weights.append(numpy_helper.from_array(np.array(steps), "steps"))
    inputs = ["steps" if steps is not None else "", "yes", "x"]
    loop = helper.make_node("Loop", inputs, ["y"], body=loop_body())
    problems = verify(registry(tmp_path, foreign(tmp_path, "other", [loop], weights)))
    assert [f"a {says} without a fixed number" in line for line in problems] == [True] * bool(says)


@pytest.mark.parametrize(("many", "fine"), [(2**28, True), (2**28 + 1, False), (GIB_256, False)])
@pytest.mark.parametrize("by", ["weight", "Constant"])
def test_a_constant_of_another_project_is_not_gigabytes(tmp_path, many, fine, by):
    shape = numpy_helper.from_array(np.array([many, 1]), "shape")
    made = helper.make_node("ConstantOfShape", ["shape"], ["c"])
    nodes = [made, helper.make_node("Relu", ["x"], ["y"])]
    weights = [shape] if by == "weight" else []
    if by == "Constant":
        nodes.insert(0, helper.make_node("Constant", [], ["shape"], value=shape))
    problems = verify(registry(tmp_path, foreign(tmp_path, "other", nodes, weights)))
    assert [f"ConstantOfShape to [{many}, 1]" in line for line in problems] == [True] * (not fine)


def function(name: str, calls: str) -> onnx.FunctionProto:
    """Return a function that calls another twice."""
    calls = [helper.make_node(calls, [a], [b], domain="own") for a, b in ("ab", "bc")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["c"], calls, opsets)


def test_functions_of_another_project_are_not_written_out(tmp_path):
    """Sixty that call the next one twice stand for 2^60 nodes."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 6]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("F0", ["x"], ["y"], domain="own")], "g", ports[:1], ports[1:]
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
        ir_version=8,
        functions=[function(f"F{n}", f"F{n + 1}") for n in range(60)],
    )
    row = put_foreign(tmp_path, "other", model.SerializeToString(), {})
    assert ["domains own" in line for line in verify(registry(tmp_path, row))] == [True, False]


@pytest.mark.parametrize("row", [{}, {"kind": "fr", "onnx": "a.onnx", "sha256": "0" * 64}])
def test_a_registry_of_many_rows_is_judged_row_by_row(tmp_path, row):
    rows = [{"id": f"m{n:05d}"} | row for n in range(2_000)]
    found = list(verdicts(registry(tmp_path, *rows)))
    assert [v.name for v in found[1:]] == [r["id"] for r in rows]
    assert all(v.problems for v in found[1:])


def test_the_reference_project_is_reported_row_by_row_in_plain_words(tmp_path):
    """Its v1, v2, v3: weights in a second file, a foreign sidecar, a bundle that is not there."""
    weight = numpy_helper.from_array(np.ones((6, 6), np.float32), "net.0.weight")
    nodes = [helper.make_node("Gemm", ["x", "net.0.weight"], ["y"])]
    plain = foreign(tmp_path, "fr_regressor_v1", nodes, [weight])
    onnx.external_data_helper.set_external_data(weight, "fr_regressor_v2.onnx.data")
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    split = foreign(tmp_path, "fr_regressor_v2", nodes, [weight])
    data = (tmp_path / "fr_regressor_v1.onnx").read_bytes()
    published = {k: CARD[k] for k in CARD if k not in OWN}
    third = put_foreign(tmp_path, NAME, data, published)
    signed = third | {"sigstore_bundle": "fr_regressor_v3.onnx.sigstore.json"}
    fourth = foreign(tmp_path, "fr_regressor_v9", nodes, []) | {"colour": "red"}
    folder = registry(tmp_path, plain, split, signed, fourth)
    found = {v.name: v.problems for v in verdicts(folder)}
    assert list(found) == ["registry.json", *(f"fr_regressor_v{n}" for n in (1, 2, 3, 9))]
    assert found["registry.json"] == found["fr_regressor_v1"] == []
    assert ["v2.onnx: external data (net.0.weight)" in p for p in found["fr_regressor_v2"]] == [
        True
    ]
    first, second = found[NAME]
    assert "v3.json: of another project (no trained_slots, domain, recipe, run_provenance)" in first
    assert "v3.onnx.sigstore.json: missing" in second
    assert ["'colour' was unexpected" in line for line in found["fr_regressor_v9"]] == [True]
    assert verify(folder, "fr_regressor_v1") == []
    assert verify(folder, NAME) == found[NAME]
    with pytest.raises(ArtefactError, match="no row fr_regressor_v8; allowed: fr_regressor_v1, fr"):
        verify(folder, "fr_regressor_v8")
    with pytest.raises(ArtefactError, match="of another project"):
        Predictor.load(folder)


def test_the_shipped_folder_row_by_row():
    assert [(v.name, v.problems) for v in verdicts(TINY)] == [
        ("registry.json", []),
        (NAME, []),
        ("vmaf_v0_6_1_formula", []),
        ("vmaf_v1_0_16_3d0h_from_v0_6_1", []),
        ("vmaf_v1_0_16_5d0h_from_v0_6_1", []),
    ]
