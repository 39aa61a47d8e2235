"""Dropout and the forward pass of one model, as the parity tests do them by hand."""

import numpy as np
import torch

from fr_lib.train import FRRegressor, Recipe


def masks_of(rng: np.random.Generator, plan: Recipe) -> torch.Tensor:
    """Draw what one layer keeps in one step: 32 random bits per unit, against 1 - p."""
    bits = np.frombuffer(rng.bytes(4 * plan.batch * plan.hidden), dtype=np.uint32)
    kept = torch.from_numpy(bits / 2**32 < 1 - plan.dropout)
    return (kept.float() / (1 - plan.dropout)).reshape(plan.batch, plan.hidden)


def forward(model: FRRegressor, x: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
    """Apply the model with these units dropped."""
    first, gelu, _, second, _, _, last = model.layers
    return last(gelu(second(gelu(first(x)) * masks[0])) * masks[1])
