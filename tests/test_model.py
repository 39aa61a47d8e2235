"""The network and the pair of them that ships: which one answers for which slot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fr_lib.schema import N_CODEC_BLOCK, NEWEST_VOCAB, codec_block, trained_mask
from fr_lib.train import FRRegressor, ShippedRegressor

TRAINED = {"libx264": 100, "libvvenc": 40}


def networks(scale: float) -> ShippedRegressor:
    """Return random networks whose scores lie around 50; a large scale takes them out of 0..100."""
    torch.manual_seed(3)
    graph = ShippedRegressor(
        FRRegressor(6), FRRegressor(6 + N_CODEC_BLOCK), torch.from_numpy(trained_mask(TRAINED))
    )
    with torch.no_grad():
        for net in (graph.blind, graph.aware):
            net.layers[-1].weight.mul_(scale)
            net.layers[-1].bias.fill_(50.0)
    return graph.eval()


@pytest.fixture(params=[20.0, 20_000.0], ids=["inside", "beyond 0..100"])
def graph(request) -> ShippedRegressor:
    return networks(request.param)


def block_of(encoder: str, n: int) -> torch.Tensor:
    """Return n rows of one encoder, with presets and quality values from end to end."""
    steps = torch.linspace(0, 1, n).numpy()
    return torch.from_numpy(codec_block([encoder] * n, 9 * steps, 100 * steps[::-1]))


FEATURES = torch.randn(64, 6, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("encoder", NEWEST_VOCAB)
def test_trained_slots_are_v3_and_all_others_v1_to_the_last_digit(graph, encoder):
    block = block_of(encoder, 64)
    with torch.no_grad():
        aware = graph.aware(torch.cat([FEATURES, block], dim=1))
        own = aware if encoder in TRAINED else graph.blind(FEATURES)
        assert torch.equal(graph(FEATURES, block), own.squeeze(1).clamp(0, 100))


def test_the_zero_block_is_v1_whatever_preset_and_quality_say(graph):
    block = block_of("libx264", 64)
    block[:, :-2] = 0
    with torch.no_grad():
        blind = graph.blind(FEATURES).squeeze(1).clamp(0, 100)
        assert torch.equal(graph(FEATURES, torch.zeros(64, N_CODEC_BLOCK)), blind)
        assert torch.equal(graph(FEATURES, block), blind)


def test_scores_stay_within_the_range_of_vmaf():
    score = networks(20_000.0)(FEATURES, block_of("libx264", 64)).detach()
    assert score.shape == (64,)
    assert (score.min(), score.max()) == (0.0, 100.0)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_any_number_of_rows(graph, n):
    assert graph(FEATURES[:n], block_of("libx264", n)).shape == (n,)


def test_the_network_is_that_of_the_decision_record():
    model = FRRegressor(6 + N_CODEC_BLOCK)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert [tuple(p.shape) for p in model.parameters()] == [
        (64, 6 + N_CODEC_BLOCK),
        (64,),
        (64, 64),
        (64,),
        (1, 64),
        (1,),
    ]
    assert {layer.approximate for layer in model.layers if isinstance(layer, nn.GELU)} == {"none"}
    assert {layer.p for layer in model.layers if isinstance(layer, nn.Dropout)} == {0.0}


def test_dropout_is_off_when_scoring():
    model = FRRegressor(6, hidden=8, dropout=0.5)
    x = FEATURES[:4]
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
