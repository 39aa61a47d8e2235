"""The hyper-parameters of a training, and the named sets of them.

The default is ADR-0319's: Adam, L2 weight decay, MSE on raw VMAF 0..100, batch 32, 200 epochs,
features standardised with training rows only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from fr_lib.errors import InputError, say


@dataclass(frozen=True)
class Recipe:
    """Every hyper-parameter of one training.

    Attributes
    ----------
    name : str
    hidden : int
        Width of both hidden layers.
    dropout : float
        0 <= p < 1, after each GELU.
    lr : float
        Adam's learning rate, at the start of the schedule.
    weight_decay : float
        L2 term added to the gradient (Adam, not AdamW).
    batch : int
        Rows per step; the last step of an epoch takes what is left.
    epochs : int
    schedule : {"constant", "cosine"}
        "cosine" lets the rate fall to 0 over the model's own steps.
    fold_constants : bool
        Make codec-block columns that were constant in training powerless afterwards
        (:func:`fold_constant_columns`). The reference code does not.
    """

    name: str = "adr0319"
    hidden: int = 64
    dropout: float = 0.0
    lr: float = 5e-4
    weight_decay: float = 1e-5
    batch: int = 32
    epochs: int = 200
    schedule: str = "constant"
    fold_constants: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden", "batch", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(
                    say(f"recipe {name}", str(getattr(self, name)), "1 or more", "raise it")
                )
        if not 0 <= self.dropout < 1:
            raise InputError(say("recipe dropout", str(self.dropout), "0 <= p < 1", "change it"))
        if not (self.lr > 0 and self.weight_decay >= 0):
            raise InputError(
                say(
                    "recipe lr / weight_decay",
                    f"{self.lr} / {self.weight_decay}",
                    "lr > 0, weight_decay >= 0",
                    "change them",
                )
            )
        if self.schedule not in ("constant", "cosine"):
            raise InputError(
                say("recipe schedule", repr(self.schedule), "constant, cosine", "choose one")
            )

    def as_dict(self) -> dict[str, object]:
        """Return all fields, for a sidecar."""
        return asdict(self)


# "reference" is what the public reference code does; "tuned" is our named better one, whose LOSO
# stands beside the default's and never in its place.
RECIPES = {
    "adr0319": Recipe(),
    "reference": Recipe(name="reference", dropout=0.1, fold_constants=False),
    "tuned": Recipe(name="tuned", lr=2e-3, schedule="cosine"),
}


def recipe(name: str = "adr0319", epochs: int | None = None) -> Recipe:
    """Return a named recipe, optionally with another number of epochs."""
    if name not in RECIPES:
        raise InputError(say("recipe", repr(name), ", ".join(RECIPES), "choose one"))
    return RECIPES[name] if epochs is None else replace(RECIPES[name], epochs=epochs)
