"""Model folders that verify by their digests and are wrong: the shipped model with one change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "model" / "tiny"
NAME = "fr_regressor_v3"
MODEL = (TINY / f"{NAME}.onnx").read_bytes()
CARD = json.loads((TINY / f"{NAME}.json").read_text())
(ROW,) = (r for r in json.loads((TINY / "registry.json").read_text())["models"] if r["id"] == NAME)
# Rows of the corpus, those of two encoders, and the names of three held-out sources.
N = CARD["training"]["n_rows"]
X264, X265 = (CARD["trained_slots"][name] for name in ("libx264", "libx265"))
FIRST, OTHER, FOURTH = (CARD["training"]["loso_folds"][i]["held_out"] for i in (0, 5, 3))
SPAN = float(np.diff(CARD["domain"]["vif_scale1"])[0])
LOW, HIGH = CARD["domain"]["adm2"]
GIB_256 = 2**36  # float32 numbers

Graph = Callable[[onnx.ModelProto], None]
Card = Callable[[dict], None]


@dataclass(frozen=True)
class Bad:
    """One change of a sound folder, and what verification has to say of it.

    ``graph`` and ``card`` change parsed values, after which digests are made right again; ``files``
    replaces the text of a file at the end.
    """

    name: str
    says: str
    graph: Graph | None = None
    card: Card | None = None
    row: Card | None = None
    files: Callable[[Path], None] | None = None


def write(folder: Path, bad: Bad | None = None) -> Path:
    """Write a model folder, sound without `bad`, with right digests."""
    folder.mkdir(parents=True, exist_ok=True)
    data, card, row = MODEL, json.loads(json.dumps(CARD)), dict(ROW)
    if bad and bad.graph:
        model = onnx.load_model_from_string(MODEL)
        bad.graph(model)
        data = model.SerializeToString()
    card["sha256"] = row["sha256"] = hashlib.sha256(data).hexdigest()
    for change, value in ((bad and bad.card, card), (bad and bad.row, row)):
        if change:
            change(value)
    (folder / f"{NAME}.onnx").write_bytes(data)
    (folder / f"{NAME}.json").write_text(json.dumps(card, indent=1))
    (folder / "registry.json").write_text(json.dumps({"schema_version": 1, "models": [row]}))
    if bad and bad.files:
        bad.files(folder)
    return folder


# --- graphs -----------------------------------------------------------------------------------


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def value(name: str, change: Callable[[np.ndarray], object]) -> Graph:
    """Return a change of one weight, given as a change of its array."""

    def apply(model: onnx.ModelProto) -> None:
        old = tensor(model, name)
        new = np.asarray(change(numpy_helper.to_array(old).copy()))
        old.CopyFrom(numpy_helper.from_array(new, name))

    return apply


def first(number: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(array: np.ndarray) -> np.ndarray:
        array.ravel()[0] = number
        return array

    return put


def before_the_end(op: str, inputs: list[str], extra: list | None = None, **attributes) -> Graph:
    """Put a node between the clip and the output; "x" in `inputs` is what was clipped."""

    def apply(model: onnx.ModelProto) -> None:
        model.graph.initializer.extend(extra or [])
        last = model.graph.node[-1]
        node = helper.make_node(op, [i if i != "x" else "clipped" for i in inputs], ["put_in"])
        for key, attribute in attributes.items():
            node.attribute.append(helper.make_attribute(key, attribute))
        model.graph.node.insert(len(model.graph.node) - 1, node)
        last.input[0] = "put_in"

    return apply


def loop_body() -> onnx.GraphProto:
    kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "v": TensorProto.FLOAT}
    ports = [helper.make_tensor_value_info(n, k, None) for n, k in kinds.items()]
    out = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, None),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
    ]
    steps = [helper.make_node("Identity", [a], [b]) for a, b in (("go", "still"), ("v", "w"))]
    return helper.make_graph(steps, "body", ports, out)


def branch(name: str) -> onnx.GraphProto:
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
    return helper.make_graph([helper.make_node("Identity", ["clipped"], [name])], name, [], out)


YES = numpy_helper.from_array(np.array(True), "yes")
HUGE = numpy_helper.from_array(np.array([GIB_256], dtype=np.int64), "huge")


def node(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.output[0] == output)


def rewire(output: str, at: int, to: str) -> Graph:
    return lambda model: node(model, output).input.__setitem__(at, to)


def no_clip(model: onnx.ModelProto) -> None:
    model.graph.node.remove(node(model, "clipped"))
    model.graph.node[-1].input[0] = "score"


def dims(name: str, *new: int) -> Graph:
    def apply(model: onnx.ModelProto) -> None:
        del tensor(model, name).dims[:]
        tensor(model, name).dims.extend(new)

    return apply


def as_floats(model: onnx.ModelProto) -> None:
    """Keep a weight as a list of floats, which other readers take for another weight."""
    old = tensor(model, "blind.6.bias")
    number = numpy_helper.to_array(old)[0]
    old.ClearField("raw_data")
    old.float_data.append(number)


def external(model: onnx.ModelProto) -> None:
    old = tensor(model, "blind.6.bias")
    onnx.external_data_helper.set_external_data(old, "elsewhere")
    old.data_location = TensorProto.EXTERNAL


def add_sparse(model: onnx.ModelProto) -> None:
    numbers = numpy_helper.from_array(np.ones(1, np.float32), "few")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(numbers, places, [GIB_256]))


def add_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("local", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )


def swap_networks(model: onnx.ModelProto) -> None:
    node(model, "t_aware").input[1], node(model, "rest_blind").input[1] = "blind.6", "aware.6"


def unsorted(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def mask(change: Callable[[np.ndarray], object]) -> Graph:
    return value("trained", change)


def port(kind: str, at: int, change: Callable) -> Graph:
    return lambda model: change(getattr(model.graph, kind)[at])


def narrower(model: onnx.ModelProto) -> None:
    """Make the second layer narrower than the first: a sound graph, and none of this package."""
    for name, cut in (
        ("aware.3.weight", np.s_[:32]),
        ("aware.3.bias", np.s_[:32]),
        ("aware.6.weight", np.s_[:, :32]),
    ):
        value(name, lambda array, cut=cut: np.ascontiguousarray(array[cut]))(model)


PARAMETERS = [
    f"{net}.{at}.{part}"
    for net in ("aware", "blind")
    for at in (0, 3, 6)
    for part in ("weight", "bias")
]
SLOT = {name: i for i, name in enumerate(CARD["encoder_vocab"])}
GRAPHS = [
    Bad(
        "loop without end",
        "operators Loop",
        before_the_end("Loop", ["", "yes", "x"], [YES], body=loop_body()),
    ),
    Bad(
        "loop of 2^62 steps",
        "operators Loop",
        before_the_end(
            "Loop",
            ["many", "", "x"],
            [numpy_helper.from_array(np.array(2**62), "many")],
            body=loop_body(),
        ),
    ),
    Bad(
        "if",
        "operators If",
        before_the_end("If", ["yes"], [YES], then_branch=branch("a"), else_branch=branch("b")),
    ),
    Bad(
        "256 GiB by ConstantOfShape",
        "operators ConstantOfShape",
        before_the_end("ConstantOfShape", ["huge"], [HUGE]),
    ),
    Bad("256 GiB by Expand", "operators Expand", before_the_end("Expand", ["x", "huge"], [HUGE])),
    Bad(
        "256 GiB by Constant", "operators Constant", before_the_end("Constant", [], value_float=1.0)
    ),
    Bad("256 GiB by broadcasting", "node 33 is Mul", before_the_end("Mul", ["x", "trained"])),
    Bad(
        "256 GiB claimed by dims",
        "weight blind.0.bias (type 1, shape [68719476736], 256 bytes)",
        dims("blind.0.bias", GIB_256),
    ),
    Bad(
        "dims of another shape",
        "weight aware.3.weight (type 1, shape [32, 128]",
        dims("aware.3.weight", 32, 128),
    ),
    Bad("negative dims", "weight blind.6.bias (type 1, shape [-1]", dims("blind.6.bias", -1)),
    Bad("no clip", "node 32 is Squeeze(score, axis)", no_clip),
    Bad("answers 500", "lo is 500; allowed: 0", value("lo", lambda _: np.float32(500))),
    Bad("clip up to 500", "hi is 500; allowed: 100", value("hi", lambda _: np.float32(500))),
    Bad("clip up to inf", "hi is inf; allowed: 100", value("hi", lambda _: np.float32("inf"))),
    Bad("clip from nan", "lo is nan; allowed: 0", value("lo", lambda _: np.float32("nan"))),
    Bad(
        "clip with swapped ends",
        "node 32 is Clip(score, hi, lo)",
        lambda m: (rewire("clipped", 1, "hi")(m), rewire("clipped", 2, "lo")(m)),
    ),
    Bad(
        "clip without upper end",
        "node 32 is Clip(score, lo)",
        lambda m: node(m, "clipped").input.pop(),
    ),
    *(
        Bad(f"nan in {name}", f"weight {name} has 1 of", value(name, first(np.nan)))
        for name in PARAMETERS
    ),
    *(
        Bad(f"{n} in {name}", f"weight {name} has 1 of", value(name, first(n)))
        for name, n in (("aware.3.weight", np.inf), ("blind.6.bias", -np.inf))
    ),
    Bad(
        "weights that overflow",
        "layer aware.3 may reach ",
        value("aware.3.weight", lambda array: np.sign(array) * np.float32(3e36)),
    ),
    Bad(
        "one weight that overflows",
        "layer aware.0 may reach ",
        value("aware.0.weight", first(3e38)),
    ),
    Bad(
        "one that overflows far off",
        "layer blind.0 may reach ",
        value("blind.0.weight", first(1e34)),
    ),
    Bad("mask all 0", "0 for libx264, 0 for libaom-av1", mask(np.zeros_like)),
    Bad("mask all 1", "1 for h264_nvenc", mask(np.ones_like)),
    Bad(
        "mask without one trained slot",
        "mask of trained slots 0 for libsvtav1;",
        mask(lambda a: np.where(np.arange(18)[:, None] == SLOT["libsvtav1"], np.float32(0), a)),
    ),
    Bad(
        "mask with one untrained slot",
        "mask of trained slots 1 for av1_qsv;",
        mask(lambda a: np.where(np.arange(18)[:, None] == SLOT["av1_qsv"], np.float32(1), a)),
    ),
    Bad("mask of halves", "0.5 for libx264", mask(lambda a: a / 2)),
    Bad("mask of nan", "weight trained has 1 of 18 not finite", mask(first(np.nan))),
    Bad(
        "mask over preset_norm",
        "1 for preset_norm",
        mask(lambda a: np.where(np.arange(18)[:, None] == 16, np.float32(1), a)),
    ),
    Bad("mask of another length", "weight trained (type 1, shape [17, 1]", mask(lambda a: a[:17])),
    *(
        Bad(f"another {name}", f"{name} is {shown}; allowed: ", value(name, lambda _, n=new: n))
        for name, new, shown in (
            ("sqrt2", np.float32(2), "2"),
            ("half", np.float32(1), "1"),
            ("one", np.float32(0), "0"),
            ("axis", np.array([0]), "0"),
        )
    ),
    Bad("networks swapped", "node 15 is Mul(t, blind.6)", swap_networks),
    Bad(
        "selection turned round",
        "node 16 is Sub(t, one)",
        lambda m: (rewire("rest", 0, "t")(m), rewire("rest", 1, "one")(m)),
    ),
    Bad(
        "one more node",
        "operators Identity",
        lambda m: m.graph.node.append(helper.make_node("Identity", ["score"], ["unused"])),
    ),
    Bad(
        "one more node of a known kind",
        "35 nodes; allowed: 34",
        lambda m: m.graph.node.append(helper.make_node("Add", ["score", "score"], ["unused"])),
    ),
    Bad("no node", "0 nodes; allowed: 34", lambda m: m.graph.ClearField("node")),
    Bad("nodes in another order", "node 0 is Squeeze", unsorted),
    Bad(
        "Gemm times two",
        "node 2 is Gemm",
        lambda m: node(m, "aware.0").attribute.append(helper.make_attribute("alpha", 2.0)),
    ),
    Bad(
        "Gemm not transposed",
        "node 8 is Gemm",
        lambda m: node(m, "aware.3").ClearField("attribute"),
    ),
    Bad(
        "an operator of another domain",
        "operators of the domains com.example",
        lambda m: (
            m.opset_import.add(domain="com.example", version=1),
            node(m, "score").__setattr__("domain", "com.example"),
        ),
    ),
    Bad(
        "a weight twice",
        "weights twice (hi)",
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.float32(500), "hi")),
    ),
    Bad(
        "a weight missing",
        "weights missing (hi)",
        lambda m: m.graph.initializer.remove(tensor(m, "hi")),
    ),
    Bad(
        "a weight too many",
        "weights unknown (ballast)",
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "ballast")),
    ),
    Bad("a weight as a list", "weight blind.6.bias (type 1, shape [1], 0 bytes)", as_floats),
    Bad(
        "a weight of half precision",
        "weight blind.6.bias (type 10",
        value("blind.6.bias", lambda a: a.astype(np.float16)),
    ),
    Bad("a weight elsewhere", "external data (blind.6.bias)", external),
    Bad("a sparse weight of 256 GiB", "sparse_initializer beside the graph", add_sparse),
    Bad("a function", "functions beside the graph", add_function),
    Bad("steps of training", "training_info beside the graph", lambda m: m.training_info.add()),
    Bad(
        "quantisation",
        "quantization_annotation beside the graph",
        lambda m: m.graph.quantization_annotation.add(tensor_name="score"),
    ),
    Bad(
        "shapes inside",
        "value_info beside the graph",
        lambda m: m.graph.value_info.append(
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [5])
        ),
    ),
    Bad("another width inside", "weight aware.3.weight", narrower),
    Bad(
        "opset 18",
        "opset 18; allowed: opset 17",
        lambda m: m.opset_import[0].__setattr__("version", 18),
    ),
    Bad(
        "two opsets",
        "opset_import beside the graph",
        lambda m: m.opset_import.add(domain="", version=13),
    ),
    Bad(
        "a format of tomorrow",
        "ir_version beside the graph",
        lambda m: m.__setattr__("ir_version", 99),
    ),
    Bad(
        "a fixed number of rows",
        "inputs {'features': (4, 6)",
        port("input", 0, lambda p: p.type.tensor_type.shape.dim[0].__setattr__("dim_value", 4)),
    ),
    Bad(
        "seven features",
        "inputs {'features': ('N', 7)",
        port("input", 0, lambda p: p.type.tensor_type.shape.dim[1].__setattr__("dim_value", 7)),
    ),
    Bad(
        "a port of float64",
        "'features': None",
        port("input", 0, lambda p: p.type.tensor_type.__setattr__("elem_type", TensorProto.DOUBLE)),
    ),
    Bad(
        "an input too many",
        "inputs {'features'",
        lambda m: m.graph.input.append(helper.make_tensor_value_info("hi", TensorProto.FLOAT, [])),
    ),
    Bad(
        "an output of another name",
        "outputs {'score'",
        port("output", 0, lambda p: p.__setattr__("name", "score")),
    ),
    Bad(
        "a name that writes to the terminal",
        "is Concat(features, codec_block) -> x [2J y",
        lambda m: node(m, "both").output.__setitem__(0, "x\x1b[2J\ny"),
    ),
    Bad(
        "an output too many",
        "outputs {'vmaf'",
        lambda m: m.graph.output.append(
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])
        ),
    ),
]

# --- sidecars ---------------------------------------------------------------------------------


def put(*path, to) -> Card:
    def apply(card: dict) -> None:
        for step in path[:-1]:
            card = card[step]
        card[path[-1]] = to

    return apply


def folds(card: dict) -> list[dict]:
    return card["training"]["loso_folds"]


def figures(card: dict) -> None:
    """Make the figures those of the folds, as whoever lies with care would."""
    training, rows = card["training"], folds(card)
    for metric in ("plcc", "srocc", "rmse"):
        numbers = [fold[metric] for fold in rows]
        for name in ("mean", "std", "min", "max"):
            key = f"loso_{name}_{metric}"
            if key in training:
                training[key] = None if None in numbers else float(getattr(np, name)(numbers))
    card["loso_mean_plcc"] = training["loso_mean_plcc"]


def every_fold(**new) -> Card:
    return lambda card: ([fold.update(new) for fold in folds(card)], figures(card))


def one_fold(**new) -> Card:
    return lambda card: (folds(card)[3].update(new), figures(card))


def fewer_folds(n: int) -> Card:
    """Leave `n` folds that hold all rows between them."""

    def apply(card: dict) -> None:
        rows = folds(card)
        del rows[n:]
        for i, fold in enumerate(rows):
            fold["n_val"] = N // n + (i < N % n)
            fold["n_train"] = N - fold["n_val"]
        figures(card)

    return apply


def short_fold(card: dict) -> None:
    some, other = folds(card)[:2]
    other["n_val"] += some["n_val"] - 19
    some["n_val"] = 19
    for fold in (some, other):
        fold["n_train"] = N - fold["n_val"]


def minmax(low: float, high: float) -> Card:
    return lambda card: card.update(codec_crf_norm="minmax", codec_crf_min=low, codec_crf_max=high)


def older(change: Card) -> Card:
    """Take the key that older sidecars do not have, so that the fault is not all that is wrong."""
    return lambda card: (change(card), card.pop("domain"))


CARDS = [
    *(
        Bad(f"std {std:g}", f"feature_std: {std:g}", card=put("feature_std", 2, to=std))
        for std in (1e-46, 1e-30, 9e-9, 1e5)
    ),
    *(
        Bad(f"std {std}", "$.feature_std[2]", card=put("feature_std", 2, to=std))
        for std in (0, -1, None, "1", True)
    ),
    Bad(
        "std wider than the domain",
        f"feature_std of vif_scale1: 5.0; allowed: at most {SPAN / 2:g}",
        card=put("feature_std", 2, to=5.0),
    ),
    *(
        Bad(
            f"std {std:g} of {N:,} rows over the domain",
            f"feature_std of vif_scale1: {std}; allowed: at least {SPAN / (2 * N) ** 0.5:g}",
            card=put("feature_std", 2, to=std),
        )
        for std in (1e-8, 0.99 * SPAN / (2 * N) ** 0.5)
    ),
    Bad(
        "mean outside the domain",
        f"feature_mean of adm2: 1.5; allowed: {LOW:g}..{HIGH:g}",
        card=put("feature_mean", 0, to=1.5),
    ),
    Bad("mean 1e30", "feature_mean: 1e+30", card=put("feature_mean", 0, to=1e30)),
    Bad("five means", "length of feature_mean: 5", card=lambda c: c["feature_mean"].pop()),
    Bad("min = max", "codec_crf_min, codec_crf_max: 30, 30", card=minmax(30, 30)),
    Bad("min above max", "codec_crf_min, codec_crf_max: 63, 0", card=minmax(63, 0)),
    Bad("another norm", "codec_crf_norm: minmax; allowed: div63, which", card=minmax(0, 63)),
    Bad(
        "norms without ends",
        '"codec_crf_min" is a required',
        card=put("codec_crf_norm", to="minmax"),
    ),
    Bad(
        "constant preset",
        "codec_preset_norm: constant; allowed: ordinal",
        card=lambda c: c.update(codec_preset_norm="constant", codec_preset_value=0.5),
    ),
    Bad("PLCC 0.1", "loso_mean_plcc is: 0.1", card=every_fold(plcc=0.1)),
    Bad("mean PLCC 0.949", "loso_mean_plcc is: 0.949", card=every_fold(plcc=0.949)),
    Bad(
        "PLCC 0.1 by its figure alone",
        "training.loso_mean_plcc: 0.1; allowed: 0.99",
        card=(lambda c: (c["training"].update(loso_mean_plcc=0.1), c.update(loso_mean_plcc=0.1))),
    ),
    Bad(
        "figures better than the folds",
        f"training.loso_min_plcc: 0.9999999; allowed: {CARD['training']['loso_min_plcc']}",
        card=put("training", "loso_min_plcc", to=0.9999999),
    ),
    *(
        Bad(f"another {key}", f"training.{key}: 0.5; allowed: ", card=put("training", key, to=0.5))
        for key in ("loso_std_plcc", "loso_max_plcc", "loso_mean_srocc", "loso_mean_rmse")
    ),
    Bad("worst PLCC 0.8", "a fold has PLCC: 0.8; allowed: at least 0.85", card=one_fold(plcc=0.8)),
    Bad("a fold without PLCC", f"folds are not finite: ['{FOURTH}']", card=one_fold(plcc=None)),
    Bad("a fold without RMSE", f"folds are not finite: ['{FOURTH}']", card=one_fold(rmse=None)),
    Bad(
        "no folds", "loso_folds has: 0; allowed: at least 3 folds", card=lambda c: folds(c).clear()
    ),
    Bad("two folds", "loso_folds has: 2; allowed: at least 3 folds", card=fewer_folds(2)),
    Bad("a fold of 19 rows", f"folds have fewer than 20 rows: ['{FIRST}']", card=short_fold),
    Bad("a fold twice", f"sources held out twice: ['{OTHER}']", card=one_fold(held_out=OTHER)),
    Bad(
        "a fold with its own rows in training",
        f"n_train and n_val are not the {N} rows",
        card=one_fold(n_train=N),
    ),
    Bad(
        "rows that no fold holds out",
        f"rows held out, together: {N - 40}; allowed: {N}",
        card=lambda card: one_fold(
            n_train=folds(card)[3]["n_train"] + 40, n_val=folds(card)[3]["n_val"] - 40
        )(card),
    ),
    Bad("PLCC 1.5", "1.5 is greater than the maximum", card=one_fold(plcc=1.5)),
    Bad("RMSE -1", "-1 is less than the minimum of 0", card=one_fold(rmse=-1)),
    Bad(
        "a limit of its own",
        "ship_gate_mean_plcc is: 0.05; allowed: 0.95",
        card=put("training", "ship_gate_mean_plcc", to=0.05),
    ),
    Bad(
        "passed here, failed there",
        "training.gate_passed: False",
        card=put("training", "gate_passed", to=False),
    ),
    Bad(
        "failed and not said so",
        "notes say 'v3 retrain pending'",
        card=lambda c: (
            c.update(gate_passed=False),
            c["training"].update(gate_passed=False, smoke=True),
        ),
    ),
    Bad(
        "smoke in the sidecar alone", "training.smoke: True", card=put("training", "smoke", to=True)
    ),
    Bad(
        "synthetic and not smoke",
        "training.smoke: False; allowed: True",
        card=put("run_provenance", "synthetic", to=True),
    ),
    Bad(
        "a trained slot by the sidecar alone",
        "mask of trained slots 0 for av1_amf",
        card=(lambda c: c["trained_slots"].update(av1_amf=1, libx264=1623)),
    ),
    Bad(
        "counts of slots that are whole floats, and a mask of zeros",
        "mask of trained slots 0 for libx264",
        graph=mask(np.zeros_like),
        card=lambda c: c.update(trained_slots={k: float(n) for k, n in c["trained_slots"].items()}),
    ),
    *(
        Bad(
            f"{key} {value!r:.9} in the recipe",
            f"$.recipe.{key}: ",
            card=put("recipe", key, to=value),
        )
        for key, value in (
            ("epochs", 0),
            ("epochs", True),
            ("hidden", 64.5),
            ("lr", "0.01"),
            ("lr", 0),
            ("batch", None),
            ("dropout", 1),
            ("seed", [0]),
            ("schedule", "linear"),
            ("name", ""),
            ("censored", 1),
        )
    ),
    *(
        Bad(
            f"{key} in the provenance",
            f"$.run_provenance.{key}",
            card=put("run_provenance", key, to=to),
        )
        for key, to in (("python", 3.11), ("platform", []), ("versions", {"torch": {}}))
    ),
    Bad(
        "a slot without rows by the sidecar alone",
        "mask of trained slots 1 for libx264",
        card=lambda c: c["trained_slots"].update({"libx264": 0, "libx265": X264 + X265}),
    ),
    Bad(
        "rows that no slot has",
        f"rows of trained_slots, together: {N + 1}; allowed: {N}",
        card=lambda c: c["trained_slots"].update(libx264=X264 + 1),
    ),
    Bad("an unknown slot", "trained_slots: [", card=lambda c: c["trained_slots"].update(x=0)),
    Bad(
        "a slot of -1 rows",
        "-1 is less than the minimum of 0",
        card=lambda c: c["trained_slots"].update(libx264=-1),
    ),
    Bad("another order of slots", "encoder_vocab: [", card=lambda c: c["encoder_vocab"].reverse()),
    Bad(
        "another order of features", "feature_order: [", card=lambda c: c["feature_order"].reverse()
    ),
    Bad(
        "a vocabulary of tomorrow",
        "encoder_vocab_version: 99",
        card=put("encoder_vocab_version", to=99),
    ),
    Bad(
        "a domain upside down",
        "not from least to greatest or not finite: ['adm2']",
        card=put("domain", "adm2", to=[1.0, 0.3]),
    ),
    Bad(
        "an endless domain",
        "not from least to greatest or not finite: ['adm2']",
        card=put("domain", "adm2", to=[-1e308, 1e308]),
    ),
    Bad(
        "a text that writes to the terminal",
        "training.dataset: x [2J y; allowed",
        card=put("training", "dataset", to="x\x1b[2J\ny"),
    ),
    Bad(
        "another id",
        "id fr_regressor_v4; allowed: fr_regressor_v3",
        card=put("id", to="fr_regressor_v4"),
    ),
    Bad(
        "another file", "onnx x.onnx; allowed: fr_regressor_v3.onnx", card=put("onnx", to="x.onnx")
    ),
    Bad("the digest of another file", "sha256 000", card=put("sha256", to="0" * 64)),
    Bad("older: no folds", "loso_folds has: 0", card=older(lambda c: folds(c).clear())),
    Bad("older: std 1e-46", "feature_std: 1e-46", card=older(put("feature_std", 0, to=1e-46))),
    Bad("older: min = max", "codec_crf_min, codec_crf_max: 9, 9", card=older(minmax(9, 9))),
    Bad("older: PLCC 0.1", "loso_mean_plcc is: 0.1", card=older(every_fold(plcc=0.1))),
    Bad("older, and nothing else", '"domain" is a required property', card=older(lambda c: None)),
]

# --- texts and files --------------------------------------------------------------------------


def text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = (folder / name).read_text()
        assert old in content
        (folder / name).write_text(content.replace(old, new, 1))

    return apply


def content(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data)


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: ((folder / name).unlink(), make(folder / name))


def sparse(path: Path) -> None:
    """A terabyte of zeros that takes no room."""
    with path.open("wb") as stream:
        stream.truncate(2**40)


SIDECAR, REGISTRY, ONNX = f"{NAME}.json", "registry.json", f"{NAME}.onnx"
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
DEEP_101 = b'{"a":' * 101 + b"1" + b"}" * 101
FILES = [
    Bad(
        "smoke twice in a row",
        "the same key twice in one object ('smoke')",
        files=text(REGISTRY, '"smoke": false', '"smoke": true, "smoke": false'),
    ),
    Bad(
        "sha256 twice in a row",
        "the same key twice in one object ('sha256')",
        files=text(REGISTRY, '"sha256": "', f'"sha256": "{"0" * 64}", "sha256": "'),
    ),
    Bad(
        "models twice",
        "the same key twice in one object ('models')",
        files=text(REGISTRY, '"models": [', '"models": [], "models": ['),
    ),
    Bad(
        "gate_passed twice",
        "the same key twice in one object ('gate_passed')",
        files=text(SIDECAR, '"gate_passed": true', '"gate_passed": false, "gate_passed": true'),
    ),
    Bad(
        "a key twice, deep inside",
        "the same key twice in one object ('plcc')",
        files=text(SIDECAR, '"plcc": 0', '"plcc": 0.1, "plcc": 0'),
    ),
    *(
        Bad(f"{word} in {name}", f"{name}: not JSON ({said}", files=text(name, old, new))
        for word, name, old, new, said in (
            ("nan", SIDECAR, f'"n_rows": {N}', '"n_rows": NaN', "NaN is not JSON"),
            ("1e400", SIDECAR, f'"n_rows": {N}', '"n_rows": 1e400', "1e400 is beyond"),
            (
                "10^30",
                SIDECAR,
                f'"n_rows": {N}',
                '"n_rows": 1' + "0" * 30,
                "an integer of 31 digits",
            ),
            ("half a character", SIDECAR, '"notes": "', r'"notes": "\ud800', "'utf-8' codec"),
            ("infinity", REGISTRY, '"opset": 17', '"opset": Infinity', "Infinity is not JSON"),
        )
    ),
    *(
        Bad(f"{what} as {name}", f"{name}: {said}", files=content(name, data))
        for name in (SIDECAR, REGISTRY)
        for what, data, said in (
            ("nothing", b"", "not JSON"),
            ("a list", b"[]", "a JSON list"),
            ("100,000 levels", DEEP, "not JSON (nested too deeply)"),
            ("101 levels", DEEP_101, "not JSON (nested too deeply)"),
            ("UTF-16", '{"id": 1}'.encode("utf-16"), "not UTF-8"),
            ("XML", b"<xml/>", "not JSON"),
        )
    ),
    *(
        Bad(f"a terabyte as {name}", f"{name}: more than ", files=instead(name, sparse))
        for name in (SIDECAR, REGISTRY, ONNX)
    ),
    *(
        Bad(f"a folder as {name}", f"{name}: no regular file", files=instead(name, Path.mkdir))
        for name in (SIDECAR, REGISTRY, ONNX)
    ),
    *(
        Bad(
            f"a link to itself as {name}",
            f"{name}: ",
            files=instead(name, lambda path: path.symlink_to(path.name)),
        )
        for name in (SIDECAR, ONNX)
    ),
    *(
        Bad(f"{what} as a model", f"{ONNX}: not ONNX", files=content(ONNX, data))
        for what, data in (("half a file", MODEL[: len(MODEL) // 2]), ("text", b"{}"))
    ),
    Bad(
        "a row twice",
        "several rows fr_regressor_v3",
        files=lambda folder: (folder / REGISTRY).write_text(
            json.dumps({"models": json.loads((folder / REGISTRY).read_text())["models"] * 2})
        ),
    ),
    *(
        Bad(f"a path with {what}", said, row=put("onnx", to=path))
        for what, path, said in (
            ("NUL", "a\0b.onnx", "lies outside"),
            ("300 characters", "a" * 300, "cannot be read"),
            ("..", "a/../../b.onnx", "does not match"),
            ("a root", "/b.onnx", "does not match"),
        )
    ),
    Bad(
        "an id that writes to the terminal",
        "$.models[0].id: ",
        row=put("id", to="x\x1b[2J\ny"),
    ),
    Bad(
        "a bundle that is not there",
        "x.sigstore.json: missing",
        row=put("sigstore_bundle", to="x.sigstore.json"),
    ),
]
BAD = [*GRAPHS, *CARDS, *FILES]
