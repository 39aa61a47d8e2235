"""Columns of the codec block that never varied, folded into a network after training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fr_lib.schema import N_FEATURES
from fr_lib.train.model import FRRegressor


def fold_constant_columns(model: FRRegressor, block: np.ndarray) -> None:
    """Make codec-block columns that taught nothing powerless, without change on training rows.

    A constant column c with weight w acts on training rows as a bias of c * w. Moved into the bias,
    the column can be set to anything later and moves no prediction: an untrained one-hot slot, or a
    preset that never varied. A preset that differs between encoders but never varied within one
    acts as a bias per encoder, and is first moved into their one-hot weights in the same way.

    Parameters
    ----------
    model : FRRegressor
        Changed in place.
    block : (n, B) float32
        The model's codec block on its training rows: one-hot slots, preset, quality.
    """
    if not block.shape[1]:
        return
    rows = torch.from_numpy(block)
    first = model.layers[0]
    with torch.no_grad():
        weight = first.weight[:, N_FEATURES:]
        _fold_into_slots(weight, rows)
        constant = (rows == rows[0]).all(dim=0)
        first.bias += weight[:, constant] @ rows[0][constant]
        weight[:, constant] = 0.0


def _fold_into_slots(weight: Tensor, rows: Tensor) -> None:
    """Move columns after the one-hot slots that are constant within each slot into the slots."""
    slots = rows[:, :-2]
    if not (slots.sum(dim=1) == 1).all():
        return
    for column in range(slots.shape[1], rows.shape[1]):
        values = rows[:, column]
        own = (slots * values[:, None]).amax(dim=0)
        if torch.equal(slots @ own, values):
            weight[:, :-2] += torch.outer(weight[:, column], own)
            weight[:, column] = 0.0
