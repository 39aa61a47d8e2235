"""The shipped network as one ONNX file: written, checked, compared with torch.

The graph is put together by hand with ``onnx.helper``. It has two MLPs and one selection; torch's
own exporter takes seconds for it, warns, reaches opset 17 only by converting back from 18, and its
bytes change with its version. Here the same weights give the same bytes, on any machine, and
:func:`parity` shows on real rows that the graph is the module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.errors import ArtefactError, say
from fr_lib.files import sha256_of, write_bytes
from fr_lib.schema import (
    CANONICAL_6,
    MODEL_ID,
    N_CODEC_BLOCK,
    NEWEST_VOCAB,
    VMAF_RANGE,
    codec_block_layout,
)

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from torch import nn

    from fr_lib.train import FRRegressor, ShippedRegressor

OPSET = 17
IR_VERSION = 8  # the one that came with opset 17, so that runtimes of that age load the file
MAX_BYTES = 50 * 2**20
MIN_PARITY_ROWS = 1000
PARITY_ATOL = 1e-4
OUTPUTS = {"vmaf": ("N",)}


def codec_aware_inputs(vocab: Sequence[str]) -> dict[str, tuple]:
    """Return name and shape of the inputs of a codec-aware model of that vocabulary."""
    return {
        "features": ("N", len(CANONICAL_6)),
        "codec_block": ("N", len(codec_block_layout(vocab))),
    }


_OPS = """
Identity Reshape Flatten Squeeze Unsqueeze Transpose Concat Slice Gather Cast Shape Expand
Add Sub Mul Div Neg Abs Sqrt Pow Exp Log Clip Min Max Sum Mean
ReduceMean ReduceSum ReduceMax ReduceMin GlobalAveragePool GlobalMaxPool
Gemm MatMul Conv ConvTranspose MaxPool AveragePool Resize
BatchNormalization LayerNormalization InstanceNormalization
Relu LeakyRelu Sigmoid Tanh Softmax Elu Selu Softplus Softsign Gelu Erf HardSigmoid HardSwish
PRelu Dropout QuantizeLinear DequantizeLinear Constant ConstantOfShape Pad
Reciprocal ReduceProd GatherND ScatterND BitShift Loop If
"""
ALLOWED_OPS = frozenset(_OPS.split())


class Graph:
    """Nodes and weights of a graph under construction; a node is named after its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: Any) -> str:
        """Add a weight and return its name."""
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add an operation and return the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def model(self, name: str, inputs: Mapping[str, tuple]) -> onnx.ModelProto:
        """Return the whole as a model with float32 `inputs` and the output ``vmaf``."""
        from onnx import TensorProto, helper

        def ports(shapes: Mapping[str, tuple]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(port, TensorProto.FLOAT, shape)
                for port, shape in shapes.items()
            ]

        return helper.make_model(
            helper.make_graph(self.nodes, name, ports(inputs), ports(OUTPUTS), self.weights),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fr_lib",  # without its version: equal weights give equal bytes
        )

    def linear(self, layer: nn.Linear, x: str, name: str) -> str:
        """Add one layer of a network."""
        weight = self.weight(f"{name}.weight", layer.weight.detach().numpy())
        bias = self.weight(f"{name}.bias", layer.bias.detach().numpy())
        return self.node("Gemm", [x, weight, bias], name, transB=1)

    def gelu(self, x: str, name: str) -> str:
        """``x / 2 * (1 + erf(x / sqrt 2))``: opset 17 has no Gelu."""
        scaled = self.node("Div", [x, "sqrt2"], f"{name}.scaled")
        erf = self.node("Erf", [scaled], f"{name}.erf")
        gate = self.node("Add", [erf, "one"], f"{name}.gate")
        half = self.node("Mul", [x, "half"], f"{name}.half")
        return self.node("Mul", [half, gate], name)

    def mlp(self, net: FRRegressor, x: str, name: str) -> str:
        """Add a network, layer by layer; ArtefactError for a layer without translation."""
        from torch import nn

        for i, layer in enumerate(net.layers):
            at = f"{name}.{i}"
            if isinstance(layer, nn.Linear):
                x = self.linear(layer, x, at)
            elif isinstance(layer, nn.GELU) and layer.approximate == "none":
                x = self.gelu(x, at)
            elif not isinstance(layer, nn.Dropout):  # the identity at inference: no node
                raise ArtefactError(
                    say(
                        at,
                        f"layer {layer}",
                        "Linear, exact GELU, Dropout",
                        "extend fr_lib.release.onnx",
                    )
                )
        return x


def _build(model: ShippedRegressor) -> onnx.ModelProto:
    """Write ``ShippedRegressor.forward`` down as a graph, one node per operation."""
    graph = Graph()
    for name, value in (("sqrt2", 2**0.5), ("half", 0.5), ("one", 1.0)):
        graph.weight(name, np.float32(value))
    # Two zeros below the mask let preset_norm and crf_norm fall out without a Slice.
    mask = np.zeros((N_CODEC_BLOCK, 1), dtype=np.float32)
    mask[: len(NEWEST_VOCAB)] = model.trained.numpy()
    t = graph.node("MatMul", ["codec_block", graph.weight("trained", mask)], "t")
    both = graph.node("Concat", ["features", "codec_block"], "both", axis=1)
    aware = graph.node("Mul", [t, graph.mlp(model.aware, both, "aware")], "t_aware")
    rest = graph.node("Sub", ["one", t], "rest")
    blind = graph.node("Mul", [rest, graph.mlp(model.blind, "features", "blind")], "rest_blind")
    score = graph.node("Add", [aware, blind], "score")
    bounds = [
        graph.weight(name, np.float32(v)) for name, v in zip(("lo", "hi"), VMAF_RANGE, strict=True)
    ]
    clipped = graph.node("Clip", [score, *bounds], "clipped")
    axis = graph.weight("axis", np.array([1], dtype=np.int64))
    graph.node("Squeeze", [clipped, axis], "vmaf")

    return graph.model(MODEL_ID, codec_aware_inputs(NEWEST_VOCAB))


def export_onnx(model: ShippedRegressor, path: str | Path) -> dict[str, Any]:
    """Write `model` as one ONNX file (docs/adr/0003) and check what was written.

    Parameters
    ----------
    model : ShippedRegressor
        On the CPU. Dropout leaves no node: the graph is the module in eval mode.
    path : path-like
        Written atomically. The same weights give the same bytes.

    Returns
    -------
    dict
        The facts of :func:`check_onnx`.

    Raises
    ------
    ArtefactError
        If a layer has no translation, or the file breaks a rule.
    """
    write_bytes(path, _build(model).SerializeToString(deterministic=True))
    return check_onnx(path, codec_aware_inputs(NEWEST_VOCAB))


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield the graph and the functions of `model`, and every graph inside them (Loop, If)."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += attribute.graphs
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for graph in _graphs(model) for node in graph.node]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of `model`: weights and attributes, dense and sparse."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())  # a function has none
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of the default domain, 0 if the file imports none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _ports(values: Any) -> dict[str, tuple]:
    """Return name -> shape of graph inputs or outputs; a port that is not float32 gets None."""
    from onnx import TensorProto

    return {
        v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)
        if v.type.tensor_type.elem_type == TensorProto.FLOAT
        else None
        for v in values
    }


def _faults_of_ours(
    model: onnx.ModelProto, n_bytes: int, wanted: Mapping[str, tuple]
) -> Iterator[tuple[str, str]]:
    """Yield (found, allowed) for each rule that only a model of ours has to keep."""
    if n_bytes > MAX_BYTES:
        yield f"{n_bytes} bytes", f"at most {MAX_BYTES}"
    if _opset(model) != OPSET:
        yield f"opset {_opset(model)}", f"opset {OPSET}"
    for domain in sorted({str(o.domain) for o in model.opset_import} - {"", "ai.onnx"}):
        yield f"imports the domain {domain!r}", "the default domain"
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = _ports(v for v in model.graph.input if v.name not in weights)
    for what, found, allowed in (
        ("inputs", inputs, wanted),
        ("outputs", _ports(model.graph.output), OUTPUTS),
    ):
        if list(found.items()) != list(allowed.items()):
            yield f"{what} {found}", f"float32 {allowed}"


def _faults(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Yield (found, allowed) for each rule that every model of a registry has to keep.

    A name that is not UTF-8, in a damaged file, comes as bytes, hence ``str``.
    """
    from onnx import TensorProto, checker

    outside = [str(t.name) for t in _tensors(model) if t.data_location == TensorProto.EXTERNAL]
    if outside:
        yield f"external data ({', '.join(outside)})", "weights inside the one file"
    nodes = _nodes(model)
    foreign = sorted({str(n.domain) for n in nodes if n.domain not in ("", "ai.onnx")})
    if foreign:
        yield f"operators of the domains {', '.join(foreign)}", "the default domain"
    refused = sorted({str(n.op_type) for n in nodes} - ALLOWED_OPS)
    if refused:
        yield f"operators {', '.join(refused)}", f"the {len(ALLOWED_OPS)} of ALLOWED_OPS"
    if outside:
        return  # the checker would look for those files in the working directory
    try:
        checker.check_model(model, full_check=True)
    except Exception as broken:  # on a damaged file also UnicodeDecodeError and the like
        yield f"not a valid model ({_first_line(broken)})", "valid ONNX"


def _read(path: Path) -> onnx.ModelProto:
    import onnx

    if not path.is_file():
        raise ArtefactError(say(str(path), "missing", "an ONNX file", "export the model again"))
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as broken:  # protobuf's own error type, from a package that onnx brings
        raise ArtefactError(
            say(
                str(path),
                f"not ONNX ({_first_line(broken)})",
                "an ONNX file",
                "export the model again",
            )
        ) from None


def check_onnx(path: str | Path, inputs: Mapping[str, tuple] | None = None) -> dict[str, Any]:
    """Check an ONNX file without running it and return its facts.

    Every file: readable, valid, weights inside the file, only operators of ``ALLOWED_OPS`` from the
    default domain, in inner graphs and functions too.

    Parameters
    ----------
    path : path-like
    inputs : mapping of str to tuple, optional
        Name and shape of the inputs that a model of ours has to have, :func:`codec_aware_inputs`
        for the codec-aware one. Given, it asks also for opset 17, at most 50 MiB, no other domain
        imported, ports of float32 and the output ``vmaf [N]``.

    Returns
    -------
    dict
        sha256 (str), opset (int, read from the file), n_bytes (int), ops (sorted list of str),
        input_names and output_names (lists of str).

    Raises
    ------
    ArtefactError
        One line per broken rule, each naming the file.
    """
    path = Path(path)
    model = _read(path)
    n_bytes = path.stat().st_size
    faults = list(_faults(model))
    if inputs is not None:
        faults += _faults_of_ours(model, n_bytes, inputs)
    if faults:
        # A damaged name may hold line ends; a problem is one line.
        lines = [(" ".join(found.split()), ok) for found, ok in faults]
        raise ArtefactError(
            "\n".join(say(str(path), found, ok, "export the model again") for found, ok in lines)
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        "sha256": sha256_of(path),
        "opset": _opset(model),
        "n_bytes": n_bytes,
        "ops": sorted({node.op_type for node in _nodes(model)}),
        "input_names": [v.name for v in model.graph.input if v.name not in weights],
        "output_names": [v.name for v in model.graph.output],
    }


def open_session(onnx_file: str | Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Return an onnxruntime session on the CPU that gives the same digits on each call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    source = onnx_file if isinstance(onnx_file, bytes) else str(onnx_file)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _spread(n: int, at_most: int) -> np.ndarray:
    """Return all of 0..n-1 if that is at most `at_most`, else 1,000 or more evenly spaced."""
    return np.arange(0, n, 1 if n <= at_most else n // MIN_PARITY_ROWS)


def parity(
    model: ShippedRegressor,
    path: str | Path,
    features: np.ndarray,
    codec_block: np.ndarray,
    *,
    atol: float = PARITY_ATOL,
    min_rows: int = MIN_PARITY_ROWS,
) -> dict[str, Any]:
    """Compare the ONNX file with the torch module on real rows, at batch 1, 7 and all.

    Parameters
    ----------
    model : ShippedRegressor
        In eval mode, on the CPU.
    path : path-like
        What :func:`export_onnx` wrote.
    features : (N, 6) float32
        Standardised, as the graph takes them.
    codec_block : (N, K) float32
        As wide as the model's.
    atol : float
        Largest absolute difference allowed, VMAF points.
    min_rows : int
        Fewest rows that count as evidence. Batches 1 and 7 go over every row up to 2,000, above
        that over 1,000 or more evenly spaced ones.

    Returns
    -------
    dict
        rows (int), atol, max_abs_diff {"1", "7", "all"} in VMAF points.

    Raises
    ------
    ArtefactError
        If there are fewer than `min_rows` rows, or a difference is above `atol` or not finite.
    """
    import torch

    n = len(features)
    if n < max(min_rows, 1):
        raise ArtefactError(
            say("parity", f"{n} rows", f"at least {min_rows}", "compare on more rows")
        )
    session = open_session(path)
    with torch.no_grad():
        expected = model(torch.from_numpy(features), torch.from_numpy(codec_block)).numpy()
    diffs = {}
    for label, batch in (("1", 1), ("7", 7), ("all", n)):
        rows = np.arange(n) if batch == n else _spread(n, 2 * MIN_PARITY_ROWS)
        parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        got = [
            session.run(None, {"features": features[p], "codec_block": codec_block[p]})[0]
            for p in parts
        ]
        diffs[label] = float(np.abs(np.concatenate(got) - expected[rows]).max())
    beyond = {label: diff for label, diff in diffs.items() if not diff <= atol}
    if beyond:
        raise ArtefactError(
            say(
                str(path),
                f"differs from torch by {beyond} (batch: points)",
                f"{atol:g}",
                "do not ship it; see whether torch or onnxruntime is another than the lock names",
            )
        )
    return {"rows": n, "atol": atol, "max_abs_diff": diffs}
