"""The networks of every source, kept in the run directory between training and export.

``02_loso`` trains them beside its folds, the gate and the chapter on what lies outside the corpus
ask them, and ``04_export`` writes them down: the file that ships is what was judged.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fr_lib.errors import ArtefactError, say
from fr_lib.files import sha256_of, write_bytes
from fr_lib.runs.rundir import RunDir

if TYPE_CHECKING:
    from fr_lib.train import Trained

FILE = "networks.pt"


def save_networks(run: RunDir, networks: Mapping[str, Trained]) -> str:
    """Write networks by arm, weights and scalers and no code; return the file's sha256."""
    import torch

    # Into memory first: in a file, torch keeps the file's own (temporary) name among the bytes.
    stored = io.BytesIO()
    torch.save({arm: _parts(net) for arm, net in networks.items()}, stored)
    with run.writing():
        write_bytes(run / FILE, stored.getvalue())
    return sha256_of(run / FILE)


def _parts(net: Trained) -> dict[str, Any]:
    import torch

    return {
        "weights": net.model.state_dict(),
        "mean": torch.from_numpy(net.scaler.mean),
        "std": torch.from_numpy(net.scaler.std),
        "columns": list(net.columns),
        "loss": float(net.loss),
    }


def load_networks(run: RunDir) -> dict[str, Trained]:
    """Read the networks that ``loso.json`` belongs to.

    Returns
    -------
    dict of str to Trained
        By arm.

    Raises
    ------
    ArtefactError
        If the file is missing, or is not the one that 02_loso wrote with ``loso.json``.
    """
    import torch

    path, wanted = run / FILE, run.read("loso.json").get("networks_sha256")
    if not path.is_file() or sha256_of(path) != wanted:
        found = "altered" if path.is_file() else "missing"
        raise ArtefactError(say(str(path), found, "the file of loso.json", "run 02_loso again"))
    stored = torch.load(path, weights_only=True)
    return {arm: _restored(parts) for arm, parts in stored.items()}


def _restored(parts: Mapping[str, Any]) -> Trained:
    from fr_lib.train import FRRegressor, Scaler, Trained

    hidden, width = parts["weights"]["layers.0.weight"].shape
    model = FRRegressor(width, hidden)
    model.load_state_dict(parts["weights"])
    scaler = Scaler(parts["mean"].numpy(), parts["std"].numpy())
    return Trained(model.eval(), scaler, tuple(parts["columns"]), parts["loss"])
