"""The hyper-parameters of a training, and the named sets of them.

``adr0319`` is ADR-0319's: Adam, L2 weight decay, MSE on raw VMAF 0..100, batch 32, 200 epochs,
features standardised with training rows only. ``taught``, which ships, has the same network, Adam
and weight decay, and adds rows that the teacher's formula labels (:mod:`fr_lib.train.made`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fr_lib.corpus import formula_applies
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
    steps : int
        Where not 0, the most that a training takes: :meth:`for_rows` lowers the epochs to it. A
        larger corpus then has more folds to train, but none takes longer.
    schedule : {"constant", "cosine"}
        "cosine" lets the rate fall to 0 over the model's own steps.
    fold_constants : bool
        Make codec-block columns that were constant in training powerless afterwards
        (:func:`fold_constant_columns`). The reference code does not.
    made_per_row : int
        Rows labelled by the teacher's formula, made for each training row
        (:func:`fr_lib.train.made.made_rows`).
    censored : bool
        Count no error where target and prediction are both at or beyond the same end of 0..100, as
        the graph clips there (a censored regression, Tobin 1958). The formula is smooth but for
        its clip; without this, the bend at 100 takes most of what a small network can do.
    """

    name: str = "adr0319"
    hidden: int = 64
    dropout: float = 0.0
    lr: float = 5e-4
    weight_decay: float = 1e-5
    batch: int = 32
    epochs: int = 200
    steps: int = 0
    schedule: str = "constant"
    fold_constants: bool = True
    made_per_row: int = 0
    censored: bool = False

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
        for name in ("made_per_row", "steps"):
            if getattr(self, name) < 0:
                raise InputError(
                    say(f"recipe {name}", str(getattr(self, name)), "0 or more", "raise it")
                )
        if self.schedule not in ("constant", "cosine"):
            raise InputError(
                say("recipe schedule", repr(self.schedule), "constant, cosine", "choose one")
            )

    def for_rows(self, n_rows: int) -> Recipe:
        """Return the recipe with no more epochs than its steps allow with so many corpus rows.

        Examples
        --------
        >>> Recipe(batch=128, epochs=75, steps=30_000, made_per_row=6).for_rows(12_800).epochs
        43
        """
        if not self.steps:
            return self
        per_epoch = math.ceil(n_rows * (1 + self.made_per_row) / self.batch)
        return replace(self, epochs=min(self.epochs, max(1, round(self.steps / per_epoch))))

    def as_dict(self) -> dict[str, object]:
        """Return all fields, for a sidecar."""
        return asdict(self)


# "adr0319" is measured beside every other one; "reference" is what the public reference code does.
RECIPES = {
    "taught": Recipe(
        name="taught",
        lr=1e-2,
        batch=128,
        epochs=75,
        steps=30_000,
        schedule="cosine",
        made_per_row=6,
        censored=True,
    ),
    "adr0319": Recipe(),
    "reference": Recipe(name="reference", dropout=0.1, fold_constants=False),
}
DEFAULT_RECIPE = "taught"


def named_recipe(name: str = DEFAULT_RECIPE, epochs: int = 0) -> Recipe:
    """Return a named recipe, with another number of epochs unless that is 0."""
    if name not in RECIPES:
        raise InputError(say("recipe", repr(name), ", ".join(RECIPES), "choose one"))
    return replace(RECIPES[name], epochs=epochs, steps=0) if epochs else RECIPES[name]


def recipe_for(
    teacher_check: Mapping[str, Any], name: str = DEFAULT_RECIPE, epochs: int = 0
) -> tuple[Recipe, str | None]:
    """Return the recipe that a corpus can be trained with, and why it is not the one asked for.

    A recipe with made rows needs a formula that holds on every row of the corpus; where it does
    not, ``adr0319`` takes its place.

    Parameters
    ----------
    teacher_check : mapping
        What :func:`fr_lib.corpus.audit.teacher_check` found.
    name, epochs
        As in :func:`recipe`; the recipe that stands in keeps the same share of its own epochs.

    Returns
    -------
    plan : Recipe
    refused : str or None
        Why it is not `name`.
    """
    plan = named_recipe(name, epochs)
    if not plan.made_per_row:
        return plan, None
    if not formula_applies(teacher_check):
        why = teacher_check["reason"]
    elif teacher_check["n_disagree"]:
        why = (
            f"{teacher_check['n_disagree']:,} of {teacher_check['n_rows']:,} rows disagree with "
            f"the formula of {teacher_check['teacher']}"
        )
    else:
        return plan.for_rows(teacher_check["n_rows"]), None
    return beside("adr0319", plan), f"{name} is refused: {why}"


def beside(name: str, plan: Recipe) -> Recipe:
    """Return a named recipe with the share of its own epochs that `plan` has of its own.

    So that a shortened run shortens what it is compared with as much. A plan of another name lends
    its number of epochs, and one whose epochs follow from its steps is not shortened.
    """
    if plan.steps:
        return named_recipe(name)
    usual = RECIPES[plan.name].epochs if plan.name in RECIPES else RECIPES[name].epochs
    return named_recipe(name, max(1, round(RECIPES[name].epochs * plan.epochs / usual)))
