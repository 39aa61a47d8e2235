"""The shipped network as one ONNX file: exported, checked, opened, compared with torch.

:mod:`fr_lib.release.graph` writes the graph; :func:`parity` shows on real rows that it is the
module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.errors import ArtefactError, say
from fr_lib.files import write_bytes
from fr_lib.release.graph import (
    OPSET,
    OUTPUTS,
    Fault,
    build,
    codec_aware_inputs,
    network_faults,
    weights_of,
)
from fr_lib.release.strict import one_line, read_bytes
from fr_lib.schema import NEWEST_VOCAB

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from fr_lib.train import ShippedRegressor

MAX_BYTES = 50 * 2**20
MAX_PROTOBUF = 2**31 - 1
MAX_STEPS, MAX_CONSTANT, MAX_RANK = 1024, 2**28, 64
MIN_PARITY_ROWS = 1000
PARITY_ATOL = 1e-4


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
    write_bytes(path, build(weights_of(model)).SerializeToString(deterministic=True))
    return check_onnx(path, network_rules(NEWEST_VOCAB))


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
    """Return name -> shape of graph inputs or outputs; a port that is not float32 gets None.

    An axis without a fixed length is "N", whatever the file calls it.
    """
    from onnx import TensorProto

    return {
        v.name: tuple(
            d.dim_value if d.HasField("dim_value") else "N" for d in v.type.tensor_type.shape.dim
        )
        if v.type.tensor_type.elem_type == TensorProto.FLOAT
        else None
        for v in values
    }


def faults_of_ours(model: onnx.ModelProto, inputs: Mapping[str, tuple]) -> Iterator[Fault]:
    """Yield (found, allowed) for each rule that any model of ours has to keep, and no other."""
    if _opset(model) != OPSET:
        yield f"opset {_opset(model)}", f"opset {OPSET}"
    for domain in sorted({str(o.domain) for o in model.opset_import} - {"", "ai.onnx"}):
        yield f"imports the domain {domain!r}", "the default domain"
    for what, found, allowed in (
        ("inputs", _ports(model.graph.input), inputs),
        ("outputs", _ports(model.graph.output), OUTPUTS),
    ):
        if list(found.items()) != list(allowed.items()):
            yield f"{what} {found}", f"float32 {allowed}"


def network_rules(
    vocab: Sequence[str],
    trained_slots: Mapping[str, int] | None = None,
    reach: np.ndarray | None = None,
) -> Callable[[onnx.ModelProto], Iterator[Fault]]:
    """Return what :func:`check_onnx` asks of a codec-aware model of ours.

    Parameters
    ----------
    vocab, trained_slots, reach
        As in :func:`fr_lib.release.graph.network_faults`.
    """

    def rules(model: onnx.ModelProto) -> Iterator[Fault]:
        yield from faults_of_ours(model, codec_aware_inputs(vocab))
        yield from network_faults(model, vocab, trained_slots, reach)

    return rules


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
    yield from _unbounded(model)
    if outside or foreign or refused:
        # The checker would look for those files in the working directory, and writes out functions:
        # forty that call the next one twice are 2^40 nodes.
        return
    try:
        checker.check_model(model, full_check=True)
    except Exception as broken:  # on a damaged file also UnicodeDecodeError and the like
        yield f"not a valid model ({_first_line(broken)})", "valid ONNX"


def _unbounded(model: onnx.ModelProto) -> Iterator[Fault]:
    """Yield each loop without a fixed number of steps and each constant that is made too large."""
    from onnx import numpy_helper

    fixed = {t.name: t for graph in _graphs(model) for t in getattr(graph, "initializer", ())}
    for node in _nodes(model):
        if node.op_type == "Constant":
            made = (attribute.t for attribute in node.attribute if attribute.name == "value")
            fixed |= dict(zip(node.output, made, strict=False))

    def numbers(name: str) -> list[int] | None:
        """Return a constant's numbers; None where it is none, or longer than any shape."""
        if name not in fixed or len(fixed[name].raw_data) > 8 * MAX_RANK:
            return None
        try:
            return [int(n) for n in numpy_helper.to_array(fixed[name]).ravel()]
        except Exception:  # dims and bytes that do not fit: the checker says so
            return None

    for node in _nodes(model):
        if node.op_type == "Loop":
            steps = numbers(node.input[0]) if node.input else None
            if steps is None or len(steps) != 1 or not 0 <= steps[0] <= MAX_STEPS:
                yield "a Loop without a fixed number of steps", f"at most {MAX_STEPS} steps"
        elif node.op_type in ("ConstantOfShape", "Expand") and node.input:
            shape = numbers(node.input[-1])
            if shape and prod(max(1, n) for n in shape) > MAX_CONSTANT:
                found = f"{node.op_type} to {shape}"
                yield found, f"at most {MAX_CONSTANT} numbers"


def check_onnx(
    source: str | Path | bytes,
    ours: Callable[[onnx.ModelProto], Iterator[Fault]] | None = None,
    where: str | Path = "",
) -> dict[str, Any]:
    """Check an ONNX file without running it and return its facts.

    Every file: readable, valid, weights inside the file, only operators of ``ALLOWED_OPS`` from the
    default domain, in inner graphs and functions too.

    Parameters
    ----------
    source : path-like or bytes
        The file, or its bytes, which are then what is judged.
    ours : callable, optional
        Yields (found, allowed) for the rules of a model of ours, :func:`network_rules` for the
        codec-aware one. Given, the file may have at most 50 MiB.
    where : path-like
        The name of bytes, for messages.

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
    import onnx

    if isinstance(source, bytes):
        data = source
    else:
        where, data = source, read_bytes(Path(source), MAX_BYTES if ours else MAX_PROTOBUF)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as broken:  # protobuf's own error type, from a package that onnx brings
        found = f"not ONNX ({_first_line(broken)})"
        raise ArtefactError(
            say(str(where), found, "an ONNX file", "export the model again")
        ) from None
    faults = [*(ours(model) if ours else ()), *_faults(model)]
    if faults:
        raise ArtefactError(
            "\n".join(
                say(str(where), one_line(found), allowed, "export the model again")
                for found, allowed in faults
            )
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "opset": _opset(model),
        "n_bytes": len(data),
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
