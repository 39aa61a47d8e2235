"""The exported file: what is in it, that it is the torch module, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from modelkit import make_model, random_rows
from onnx import TensorProto, helper, numpy_helper

from fr_lib.errors import ArtefactError
from fr_lib.files import sha256_of
from fr_lib.release import open_session
from fr_lib.release.onnx import ALLOWED_OPS, check_onnx, export_onnx, network_rules, parity
from fr_lib.schema import N_CODEC_BLOCK, NEWEST_VOCAB, codec_block
from fr_lib.train import FRRegressor, ShippedRegressor

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def model() -> ShippedRegressor:
    return make_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "m.onnx"
    export_onnx(model, path)
    return path


def run(path: Path, features: np.ndarray, block: np.ndarray) -> np.ndarray:
    return open_session(path).run(None, {"features": features, "codec_block": block})[0]


def save(path: Path, nodes, *, weights=(), opsets=(("", 17),), functions=()) -> Path:
    """Write a graph x [N,6] -> y out of `nodes`, without any check."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6])],
        weights,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return path


def test_allow_list_has_seventy_names():
    assert len(ALLOWED_OPS) == 70
    assert {"Clip", "Erf", "Gemm", "If", "BitShift"} <= ALLOWED_OPS
    assert not {"Scan", "Einsum", "LSTM"} & ALLOWED_OPS


def test_facts_and_ports_are_those_that_hosts_know(model, tmp_path):
    facts = export_onnx(model, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert facts["sha256"] == sha256_of(tmp_path / "m.onnx")
    assert facts["n_bytes"] == (tmp_path / "m.onnx").stat().st_size < 100_000
    assert facts["opset"] == 17
    assert facts["input_names"] == ["features", "codec_block"]
    assert facts["output_names"] == ["vmaf"]
    assert {"Erf", "Clip"} <= set(facts["ops"]) <= ALLOWED_OPS
    session = open_session(tmp_path / "m.onnx")
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("features", ["N", 6], "tensor(float)"),
        ("codec_block", ["N", N_CODEC_BLOCK], "tensor(float)"),
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("vmaf", ["N"])]


def test_the_file_has_the_format_that_came_with_its_opset(exported):
    """A runtime refuses a format newer than itself; format 8 came with opset 17, in ONNX 1.12."""
    written = onnx.load(exported)
    assert written.ir_version == helper.find_min_ir_version_for(written.opset_import) == 8


def test_the_graph_gives_what_torch_gives(model, exported):
    features, block = random_rows(1000)
    with torch.no_grad():
        expected = model(torch.from_numpy(features), torch.from_numpy(block)).numpy()
    got = run(exported, features, block)
    assert got.dtype == np.float32
    assert got.shape == (1000,)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert expected.std() > 5


@pytest.mark.parametrize("n", [0, 1, 5])
def test_any_number_of_rows_can_be_scored(exported, n):
    assert run(exported, *random_rows(n)).shape == (n,)


@pytest.mark.parametrize("encoder", ["libx265", "h264_nvenc", "hevc_videotoolbox"])
@pytest.mark.parametrize(("ordinal", "quality"), [(0, 0), (9, 63), (4.5, 100)])
def test_an_untrained_slot_scores_exactly_like_the_zero_block(exported, encoder, ordinal, quality):
    features, _ = random_rows(50)
    block = codec_block([encoder] * 50, np.full(50, ordinal), np.full(50, quality))
    zero = run(exported, features, np.zeros_like(block))
    assert np.array_equal(run(exported, features, block), zero)


def test_a_trained_slot_is_scored_by_the_codec_aware_network_alone(model, exported):
    features, block = random_rows(50, ("libx264", "libsvtav1"))
    both = torch.from_numpy(np.hstack([features, block]))
    with torch.no_grad():
        aware = model.aware(both).clamp(0, 100).squeeze(1).numpy()
    np.testing.assert_allclose(run(exported, features, block), aware, rtol=0, atol=1e-4)
    assert np.abs(aware - run(exported, features, np.zeros_like(block))).max() > 1


@pytest.mark.parametrize(("bias", "score"), [(-50.0, 0.0), (60.0, 60.0), (150.0, 100.0)])
def test_scores_are_clipped_to_the_range_of_vmaf(tmp_path, bias, score):
    model = make_model()
    with torch.no_grad():
        model.blind.layers[-1].weight.zero_()
        model.blind.layers[-1].bias.fill_(bias)
    export_onnx(model, tmp_path / "m.onnx")
    features, block = random_rows(3, ("h264_qsv",))
    assert run(tmp_path / "m.onnx", features, block).tolist() == [score] * 3


def test_equal_weights_give_equal_bytes_in_another_process(exported, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from modelkit import make_model\n"
        "from fr_lib.release.onnx import export_onnx\n"
        "export_onnx(make_model(), sys.argv[2])\n"
    )
    other = tmp_path / "another name.onnx"
    subprocess.run([sys.executable, "-c", code, str(HERE), str(other)], check=True, cwd=HERE.parent)
    assert other.read_bytes() == exported.read_bytes()


def test_other_weights_give_other_bytes(exported, tmp_path):
    assert export_onnx(make_model(seed=1), tmp_path / "m.onnx")["sha256"] != sha256_of(exported)


def test_the_file_tells_nothing_about_the_machine(exported):
    model = onnx.load(exported)
    assert not model.metadata_props
    assert not model.doc_string
    assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
    assert str(Path.home()).encode() not in exported.read_bytes()


def test_a_layer_without_translation_is_named(tmp_path):
    model = make_model()
    model.blind.layers[1] = torch.nn.GELU(approximate="tanh")
    with pytest.raises(ArtefactError, match=r"blind\.1: layer GELU\(approximate='tanh'\)"):
        export_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


# --- check_onnx -------------------------------------------------------------------------------


def test_external_data_is_refused(exported, tmp_path):
    path = tmp_path / "e.onnx"
    onnx.save(
        onnx.load(exported),
        path,
        save_as_external_data=True,
        location="e.onnx.data",
        size_threshold=1024,
    )
    with pytest.raises(ArtefactError, match=r"e\.onnx: external data \(.*aware\.3\.weight"):
        check_onnx(path)


def test_external_data_in_an_attribute_is_refused(tmp_path):
    tensor = numpy_helper.from_array(np.ones(6, dtype=np.float32), "hidden")
    onnx.external_data_helper.set_external_data(tensor, "elsewhere")
    tensor.data_location = TensorProto.EXTERNAL
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(ArtefactError, match=r"external data \(hidden\)"):
        check_onnx(save(tmp_path / "e.onnx", nodes))


def test_an_operator_outside_the_list_is_named(tmp_path):
    path = save(tmp_path / "e.onnx", [helper.make_node("Sin", ["x"], ["y"])])
    with pytest.raises(ArtefactError, match=r"e\.onnx: operators Sin"):
        check_onnx(path)


def test_an_operator_inside_a_branch_is_found(tmp_path):
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 6])
        return helper.make_graph([helper.make_node(op, ["x"], ["b"])], op, [], [out])

    flag = numpy_helper.from_array(np.array(True), "flag")

    def chosen(op: str) -> Path:
        node = helper.make_node(
            "If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch(op)
        )
        return save(tmp_path / "e.onnx", [node], weights=[flag])

    assert check_onnx(chosen("Neg"))["ops"] == ["If", "Neg", "Relu"]
    with pytest.raises(ArtefactError, match="operators Cos"):
        check_onnx(chosen("Cos"))


def test_another_domain_is_refused_by_its_nodes(tmp_path):
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.example")
    path = save(tmp_path / "e.onnx", [node], opsets=(("", 17), ("com.example", 1)))
    with pytest.raises(ArtefactError, match=r"operators of the domains com\.example"):
        check_onnx(path)


def test_the_body_of_a_function_is_searched(tmp_path):
    body = [helper.make_node("Sin", ["a"], ["b"])]
    function = helper.make_function(
        "local", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 17)]
    )
    node = helper.make_node("Relu", ["x"], ["y"], domain="local")
    path = save(tmp_path / "e.onnx", [node], opsets=(("", 17), ("local", 1)), functions=[function])
    with pytest.raises(ArtefactError) as refused:
        check_onnx(path)
    assert "operators Sin" in str(refused.value)
    assert "domains local" in str(refused.value)


def test_another_models_ports_are_refused_only_when_asked(tmp_path):
    path = save(tmp_path / "e.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    assert check_onnx(path)["input_names"] == ["x"]
    with pytest.raises(ArtefactError) as refused:
        check_onnx(path, network_rules(NEWEST_VOCAB))
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[1].split(" ")[0] for line in lines[:2]] == ["inputs", "outputs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.opset_import[0].__setattr__("version", 18), "opset 18; allowed: opset 17"),
        (lambda m: m.opset_import.add(domain="x", version=1), "imports the domain 'x'"),
        (
            lambda m: m.graph.input[1].type.tensor_type.shape.dim[0].__setattr__("dim_value", 4),
            f"inputs .*'codec_block': \\(4, {N_CODEC_BLOCK}\\)",
        ),
    ],
)
def test_a_broken_rule_of_our_models_is_named(exported, tmp_path, change, message):
    altered = onnx.load(exported)
    change(altered)
    path = tmp_path / "a.onnx"
    path.write_bytes(altered.SerializeToString())
    with pytest.raises(ArtefactError, match=message):
        check_onnx(path, network_rules(NEWEST_VOCAB))


@pytest.mark.parametrize("name", ["B", "batch_size", ""])
def test_a_dynamic_axis_may_have_any_name(exported, tmp_path, name):
    altered = onnx.load(exported)
    for port in (*altered.graph.input, *altered.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = name
    (tmp_path / "a.onnx").write_bytes(altered.SerializeToString())
    assert check_onnx(tmp_path / "a.onnx", network_rules(NEWEST_VOCAB))["opset"] == 17


def test_a_float64_port_is_refused(tmp_path):
    features = helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["N", 6])
    out = helper.make_tensor_value_info("vmaf", TensorProto.DOUBLE, ["N", 6])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["features"], ["vmaf"])], "g", [features], [out]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "d.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="'features': None"):
        check_onnx(tmp_path / "d.onnx", network_rules(NEWEST_VOCAB))


def test_a_file_above_fifty_mebibytes_is_refused(exported, tmp_path):
    big = onnx.load(exported)
    ballast = np.zeros(50 * 2**18, dtype=np.float32)  # 50 MiB before anything else
    big.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    (tmp_path / "big.onnx").write_bytes(big.SerializeToString())
    with pytest.raises(ArtefactError, match=r"big\.onnx: more than 52428800 bytes"):
        check_onnx(tmp_path / "big.onnx", network_rules(NEWEST_VOCAB))


@pytest.mark.parametrize("content", [b"", b"\x00garbage", b"{}"])
def test_what_is_not_onnx_is_refused(tmp_path, content):
    (tmp_path / "n.onnx").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"n\.onnx: not "):
        check_onnx(tmp_path / "n.onnx")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"gone\.onnx: missing"):
        check_onnx(tmp_path / "gone.onnx")


# --- parity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1000, 2000, 2001, 4001])
def test_parity_is_reported_per_batch_size(model, exported, n):
    report = parity(model, exported, *random_rows(n))
    assert report["rows"] == n
    assert report["atol"] == 1e-4
    assert list(report["max_abs_diff"]) == ["1", "7", "all"]
    assert all(0 <= diff <= 1e-4 for diff in report["max_abs_diff"].values())


def test_too_few_rows_are_no_evidence(model, exported):
    with pytest.raises(ArtefactError, match="999 rows; allowed: at least 1000"):
        parity(model, exported, *random_rows(999))
    assert parity(model, exported, *random_rows(16), min_rows=16)["rows"] == 16
    with pytest.raises(ArtefactError, match="0 rows"):
        parity(model, exported, *random_rows(0), min_rows=0)


@pytest.mark.parametrize("value", [60.001, float("nan")])
def test_other_weights_than_those_exported_are_noticed(exported, value):
    other = make_model()
    with torch.no_grad():
        other.blind.layers[-1].bias.fill_(value)
    with pytest.raises(ArtefactError, match="differs from torch"):
        parity(other, exported, *random_rows(1000))


def test_widths_come_from_the_module(tmp_path):
    mask = torch.ones(len(NEWEST_VOCAB))
    model = ShippedRegressor(
        FRRegressor(6, hidden=5), FRRegressor(6 + N_CODEC_BLOCK, hidden=3), mask
    ).eval()
    export_onnx(model, tmp_path / "m.onnx")
    parity(model, tmp_path / "m.onnx", *random_rows(1000))
