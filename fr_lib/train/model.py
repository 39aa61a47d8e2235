"""The network: a small MLP, and the pair of them that ships.

The shipped graph holds a codec-blind network (v1: six features) and a codec-aware one (v3: six
features and the codec block). A slot of the vocabulary that had training rows is scored by v3;
every other slot, and the all-zero block, by v1. The choice is arithmetic inside the graph, so each
consumer of the ONNX file gets it. Without it, a one-hot column that never was 1 in training holds
whatever weight decay left there, and its codec is scored far off.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fr_lib.schema import VMAF_RANGE


class FRRegressor(nn.Module):
    """MLP ``n_inputs -> hidden -> hidden -> 1`` with exact (erf) GELU, after ADR-0319.

    Parameters
    ----------
    n_inputs : int
        6 for v1 (features); v2 and v3 have the columns of a codec block besides.
    hidden : int
        Width of both hidden layers, at least 1.
    dropout : float
        Probability 0 <= p < 1 after each GELU. ADR-0323 names none; the reference code uses 0.1.
    """

    def __init__(self, n_inputs: int, hidden: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, n_inputs) float32, standardised features first, to (N, 1) VMAF, not clipped."""
        return self.layers(x)


class ShippedRegressor(nn.Module):
    """v3 for trained slots, v1 for all others, clipped to 0..100: the graph that is exported.

    Parameters
    ----------
    blind : FRRegressor
        v1, 6 inputs.
    aware : FRRegressor
        v3, 6 inputs and those of the codec block.
    trained : (S,) float32 Tensor, one per slot
        1 for a slot with training rows, else 0.
    """

    def __init__(self, blind: FRRegressor, aware: FRRegressor, trained: Tensor) -> None:
        super().__init__()
        self.blind = blind
        self.aware = aware
        self.register_buffer("trained", trained.reshape(-1, 1).float())

    def forward(self, features: Tensor, codec_block: Tensor) -> Tensor:
        """Map standardised (N, 6) and (N, S + 2) float32 to (N,) VMAF in 0..100.

        ``t * v3 + (1 - t) * v1`` with t in {0, 1} keeps both answers to the last digit, which
        ``v1 + t * (v3 - v1)`` would not.
        """
        t = codec_block[:, : self.trained.shape[0]] @ self.trained
        aware = self.aware(torch.cat([features, codec_block], dim=1))
        score = t * aware + (1.0 - t) * self.blind(features)
        return torch.clamp(score, *VMAF_RANGE).squeeze(1)
