"""The shipped network as a graph: written from its weights, and told apart from any other graph.

The graph is put together by hand with ``onnx.helper``. It has two MLPs and one selection; torch's
own exporter takes seconds for it, warns, reaches opset 17 only by converting back from 18, and its
bytes change with its version. Here the same weights give the same bytes, on any machine. What was
written once can be written again, so a file is ours if its graph is the one that its own weights
give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from fr_lib.errors import ArtefactError, say
from fr_lib.schema import CANONICAL_6, MODEL_ID, NEWEST_VOCAB, VMAF_RANGE, codec_block_layout

if TYPE_CHECKING:
    import onnx

    from fr_lib.train import FRRegressor, ShippedRegressor

OPSET = 17
IR_VERSION = 8  # the one that came with opset 17, so that runtimes of that age load the file
OUTPUTS = {"vmaf": ("N",)}
# The layers of a FRRegressor that leave nodes; a Dropout, the identity at inference, leaves none.
_LAYERS = {0: "Linear", 1: "GELU", 3: "Linear", 4: "GELU", 6: "Linear"}
_LINEAR = [at for at, kind in _LAYERS.items() if kind == "Linear"]
MAX_BLOCK = 2.0  # quality 100 of 63 is the largest number of a codec block
_NETWORKS = ("aware", "blind")
_PARTS = ("weight", "bias")
# What says something about a file and nothing about its scores.
_WORDS = ("producer_name", "producer_version", "doc_string", "metadata_props", "domain")

Fault = tuple[str, str]


def codec_aware_inputs(vocab: Sequence[str]) -> dict[str, tuple]:
    """Return name and shape of the inputs of a codec-aware model of that vocabulary."""
    return {
        "features": ("N", len(CANONICAL_6)),
        "codec_block": ("N", len(codec_block_layout(vocab))),
    }


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

    def gelu(self, x: str, name: str) -> str:
        """``x / 2 * (1 + erf(x / sqrt 2))``: opset 17 has no Gelu."""
        scaled = self.node("Div", [x, "sqrt2"], f"{name}.scaled")
        erf = self.node("Erf", [scaled], f"{name}.erf")
        gate = self.node("Add", [erf, "one"], f"{name}.gate")
        half = self.node("Mul", [x, "half"], f"{name}.half")
        return self.node("Mul", [half, gate], name)

    def mlp(self, weights: Mapping[str, np.ndarray], x: str, name: str) -> str:
        """Add a network, layer by layer."""
        for i, kind in _LAYERS.items():
            at = f"{name}.{i}"
            if kind == "GELU":
                x = self.gelu(x, at)
            else:
                own = [self.weight(f"{at}.{part}", weights[f"{at}.{part}"]) for part in _PARTS]
                x = self.node("Gemm", [x, *own], at, transB=1)
        return x


def weights_of(model: ShippedRegressor) -> dict[str, np.ndarray]:
    """Return mask, weights and biases of a model by their names in the graph, float32.

    Raises
    ------
    ArtefactError
        If a layer has no translation.
    """
    # Two zeros below the mask let preset_norm and crf_norm fall out without a Slice.
    weights = {"trained": np.vstack([model.trained.numpy(), np.zeros((2, 1), dtype=np.float32)])}
    for name in _NETWORKS:
        weights |= _layers_of(getattr(model, name), name)
    return weights


def _layers_of(net: FRRegressor, name: str) -> dict[str, np.ndarray]:
    from torch import nn

    weights = {}
    for i, layer in enumerate(net.layers):
        linear = isinstance(layer, nn.Linear)
        gelu = isinstance(layer, nn.GELU) and layer.approximate == "none"
        kind = "Linear" if linear else "GELU" if gelu else None
        if kind != _LAYERS.get(i) or not (kind or isinstance(layer, nn.Dropout)):
            allowed = "Linear, exact GELU, Dropout in the order of FRRegressor"
            raise ArtefactError(
                say(f"{name}.{i}", f"layer {layer}", allowed, "extend fr_lib.release.graph")
            )
        if linear:
            weights |= {
                f"{name}.{i}.{part}": getattr(layer, part).detach().numpy() for part in _PARTS
            }
    return weights


def build(weights: Mapping[str, np.ndarray], vocab: Sequence[str] = NEWEST_VOCAB) -> Any:
    """Write ``ShippedRegressor.forward`` down as a graph, one node per operation.

    Parameters
    ----------
    weights : mapping
        What :func:`weights_of` returned.
    vocab : sequence of str

    Returns
    -------
    onnx.ModelProto
    """
    graph = Graph()
    for name, value in (("sqrt2", 2**0.5), ("half", 0.5), ("one", 1.0)):
        graph.weight(name, np.float32(value))
    mask = graph.weight("trained", weights["trained"])
    t = graph.node("MatMul", ["codec_block", mask], "t")
    both = graph.node("Concat", ["features", "codec_block"], "both", axis=1)
    aware = graph.node("Mul", [t, graph.mlp(weights, both, "aware")], "t_aware")
    rest = graph.node("Sub", ["one", t], "rest")
    blind = graph.node("Mul", [rest, graph.mlp(weights, "features", "blind")], "rest_blind")
    score = graph.node("Add", [aware, blind], "score")
    bounds = [
        graph.weight(name, np.float32(v)) for name, v in zip(("lo", "hi"), VMAF_RANGE, strict=True)
    ]
    clipped = graph.node("Clip", [score, *bounds], "clipped")
    axis = graph.weight("axis", np.array([1], dtype=np.int64))
    graph.node("Squeeze", [clipped, axis], "vmaf")
    return graph.model(MODEL_ID, codec_aware_inputs(vocab))


# --- a file held against what would have been written -------------------------------------------


def network_faults(
    model: onnx.ModelProto,
    vocab: Sequence[str] = NEWEST_VOCAB,
    trained_slots: Mapping[str, int] | None = None,
    reach: np.ndarray | None = None,
) -> Iterator[Fault]:
    """Yield (found, allowed) wherever a model is not a network that :func:`build` writes.

    Nothing is run, and nothing larger than the file is allocated.

    Parameters
    ----------
    model : onnx.ModelProto
    vocab : sequence of str
        That its sidecar names.
    trained_slots : mapping, optional
        Of its sidecar; the mask inside the graph has to say the same.
    reach : (6,) array, optional
        The largest absolute value of each standardised feature: no score may overflow there.
    """
    shapes = _shapes(model, len(codec_block_layout(vocab)))
    template = build({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, vocab)
    faults = list(graph_faults(model, template, shapes))
    yield from faults
    if not faults and reach is not None:
        yield from _overflow_faults(model, reach)
    theirs, ours = (
        next((t for t in some.graph.initializer if t.name == "trained"), None)
        for some in (model, template)
    )
    if theirs and not list(_tensor_faults(theirs, ours, free=True)):
        yield from _mask_faults(_array(theirs)[:, 0].tolist(), vocab, trained_slots)


def _shapes(model: onnx.ModelProto, n_block: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the weights have to have; the file chooses the hidden width alone."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {"trained": (n_block, 1)}
    n_features = len(CANONICAL_6)
    for name, n_inputs in (("aware", n_features + n_block), ("blind", n_features)):
        square = tensors.get(f"{name}.3.weight")
        # As wide as the file has bytes for: its dims may claim any number.
        hidden = max(1, isqrt(len(square.raw_data) // 4)) if square else 1
        widths = (n_inputs, hidden, hidden, 1)
        for at, into, out in zip(_LINEAR, widths, widths[1:], strict=False):
            shapes |= {f"{name}.{at}.weight": (out, into), f"{name}.{at}.bias": (out,)}
    return shapes


def _overflow_faults(model: onnx.ModelProto, reach: np.ndarray) -> Iterator[Fault]:
    """Yield each layer that could give what float32 does not hold: there finite weights give NaN.

    A bound, not a search: no sum is larger than that of the absolute values, and GELU adds nothing.
    """
    size = {t.name: np.abs(_array(t).astype(np.float64)) for t in model.graph.initializer}
    block = np.full(len(size["trained"]), MAX_BLOCK)
    for name, x in (("aware", np.concatenate([reach, block])), ("blind", reach)):
        for at in _LINEAR:
            with np.errstate(over="ignore", invalid="ignore"):
                x = size[f"{name}.{at}.weight"] @ x + size[f"{name}.{at}.bias"]
            if not x.max() <= np.finfo(np.float32).max / 2:
                yield f"layer {name}.{at} may reach {x.max():.3g}", "what float32 holds"
                break


def _mask_faults(
    mask: Sequence[float], vocab: Sequence[str], trained_slots: Mapping[str, int] | None
) -> Iterator[Fault]:
    """Yield what the mask says otherwise than the sidecar; without one it has to be a mask."""
    allowed: list[tuple[float, ...]] = [
        (0, 1) if trained_slots is None else (float(trained_slots.get(name, 0) > 0),)
        for name in vocab
    ] + [(0,)] * 2
    columns = zip((*vocab, "preset_norm", "crf_norm"), mask, allowed, strict=True)
    off = [f"{value:g} for {name}" for name, value, may_be in columns if value not in may_be]
    if off:
        yield (
            f"mask of trained slots {', '.join(off)}",
            "1 for a slot to which trained_slots of the sidecar gives rows, 0 for any other column",
        )


def graph_faults(
    model: onnx.ModelProto, template: onnx.ModelProto, free: Container[str] = ()
) -> Iterator[Fault]:
    """Yield (found, allowed) wherever a model is not the template.

    Parameters
    ----------
    model, template : onnx.ModelProto
    free : container of str
        Weights that may have any finite values. Names and texts that change no score (of the
        producer, of a node, of the batch axis) may differ too.
    """
    yield from _node_faults(model.graph.node, template.graph.node)
    yield from _weight_faults(model.graph.initializer, template.graph.initializer, free)
    bare, ours = _bare(model), _bare(template)
    if bare != ours:
        where = _first_difference(bare, ours)
        yield f"{where} beside the graph is another", "what fr_lib writes"


def _node_faults(nodes: Sequence[Any], allowed: Sequence[Any]) -> Iterator[Fault]:
    known = {node.op_type for node in allowed}
    foreign = sorted({str(node.op_type) for node in nodes} - known)
    if foreign:
        yield f"operators {', '.join(foreign)}", f"those of this graph: {', '.join(sorted(known))}"
    theirs, ours = ([_plain(node) for node in some] for some in (nodes, allowed))
    unlike = (i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1])
    at = next(unlike, None)
    if at is not None:
        yield f"node {at} is {_shown(theirs[at])}", _shown(ours[at])
    elif len(theirs) != len(ours):
        yield f"{len(theirs)} nodes", f"{len(ours)}"


def _plain(node: Any) -> Any:
    """Return a copy of a node without what changes no score."""
    plain = type(node)()
    plain.CopyFrom(node)
    for word in ("name", "doc_string", "metadata_props"):
        plain.ClearField(word)
    return plain


def _shown(node: Any) -> str:
    attributes = "".join(f" {a.name}={a.i if a.type == a.INT else '...'}" for a in node.attribute)
    inputs, outputs = (", ".join(map(str, names)) for names in (node.input, node.output))
    return f"{node.op_type}({inputs}) -> {outputs}{attributes}"


def _weight_faults(
    tensors: Sequence[Any], allowed: Sequence[Any], free: Container[str]
) -> Iterator[Fault]:
    ours = {tensor.name: tensor for tensor in allowed}
    times = Counter(str(tensor.name) for tensor in tensors)
    named = {
        "missing": sorted(set(ours) - set(times)),
        "unknown": sorted(set(times) - set(ours)),
        "twice": sorted(name for name, n in times.items() if n > 1),
    }
    for what, names in named.items():
        if names:
            yield f"weights {what} ({', '.join(names)})", f"{', '.join(ours)}, once each"
    for tensor in tensors:
        if tensor.name in ours:
            yield from _tensor_faults(tensor, ours[tensor.name], tensor.name in free)


def _tensor_faults(tensor: Any, ours: Any, free: bool) -> Iterator[Fault]:
    form = [
        (t.data_type, list(t.dims), 0 if t.data_location else len(t.raw_data))
        for t in (tensor, ours)
    ]
    if form[0] != form[1]:
        found, allowed = (f"type {kind}, shape {shape}, {size} bytes" for kind, shape, size in form)
        yield f"weight {tensor.name} ({found})", allowed
        return
    values = _array(tensor)
    if not free and not np.array_equal(values, _array(ours)):
        yield f"{tensor.name} is {_few(values)}", _few(_array(ours))
    elif not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        yield f"weight {tensor.name} has {count} of {values.size} not finite", "finite numbers"


def _array(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def _few(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values.ravel()[:3])


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model without nodes, weights and what changes no score."""
    bare = type(model)()
    bare.CopyFrom(model)
    for word in _WORDS:
        bare.ClearField(word)
    # Inputs and outputs are judged by their shapes, which are told better.
    for part in ("node", "initializer", "input", "output", *_WORDS, "name"):
        if part in bare.graph.DESCRIPTOR.fields_by_name:
            bare.graph.ClearField(part)
    return bare


def _first_difference(bare: onnx.ModelProto, ours: onnx.ModelProto) -> str:
    for theirs, own in ((bare, ours), (bare.graph, ours.graph)):
        for field in theirs.DESCRIPTOR.fields:
            if field.name != "graph" and getattr(theirs, field.name) != getattr(own, field.name):
                return field.name
    return "unknown fields"
