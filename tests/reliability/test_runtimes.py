"""One prediction in three runtimes: onnxruntime, OpenVINO and torch."""

from __future__ import annotations

import numpy as np
import onnx
import openvino
import pytest
import torch
from hostile_models import CARD, MODEL
from onnx import numpy_helper

from fr_lib.release import open_session
from fr_lib.train import FRRegressor, ShippedRegressor

pytestmark = pytest.mark.reliability

ROWS, ATOL = 10_000, 1e-4
SLOTS = CARD["encoder_vocab"]


def features() -> np.ndarray:
    """Return rows over the whole domain, standardised as a host does it."""
    spans = np.array([CARD["domain"][name] for name in CARD["feature_order"]])
    raw = np.random.default_rng(0).uniform(*spans.T, (ROWS, len(spans))).astype(np.float32)
    mean, std = (np.float32(CARD[key]) for key in ("feature_mean", "feature_std"))
    return (raw - mean) / std


def block(slot: int) -> np.ndarray:
    columns = np.random.default_rng(1).uniform(0, 1, (ROWS, len(SLOTS) + 2)).astype(np.float32)
    columns[:, : len(SLOTS)] = np.eye(len(SLOTS), dtype=np.float32)[slot]
    return columns


@pytest.fixture(scope="module")
def in_torch() -> ShippedRegressor:
    """The module, with the weights of the file."""
    weights = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load_model_from_string(MODEL).graph.initializer
    }
    hidden = CARD["recipe"]["hidden"]
    nets = {"blind": FRRegressor(6, hidden), "aware": FRRegressor(8 + len(SLOTS), hidden)}
    for name, net in nets.items():
        own = {k: v for k, v in weights.items() if k.startswith(f"{name}.")}
        net.layers.load_state_dict({k.removeprefix(f"{name}."): v for k, v in own.items()})
    return ShippedRegressor(**nets, trained=weights["trained"][: len(SLOTS)]).eval()


@pytest.fixture(scope="module")
def in_openvino() -> openvino.CompiledModel:
    core = openvino.Core()
    # The CPU plugin takes bf16 by itself where the processor has it.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(MODEL, b""), "CPU", precise)


@pytest.mark.parametrize("slot", range(len(SLOTS)), ids=SLOTS)
def test_three_runtimes_give_one_score(in_torch, in_openvino, slot):
    inputs = {"features": features(), "codec_block": block(slot)}
    here = open_session(MODEL).run(["vmaf"], inputs)[0]
    vino = in_openvino(inputs)["vmaf"]
    with torch.no_grad():
        module = in_torch(*(torch.from_numpy(value) for value in inputs.values())).numpy()
    off = {"openvino": np.abs(here - vino).max(), "torch": np.abs(here - module).max()}
    print(SLOTS[slot], {name: f"{value:.2g}" for name, value in off.items()})  # noqa: T201
    assert here.std() > 5
    assert max(off.values()) <= ATOL
