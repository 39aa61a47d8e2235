"""Train many small networks at once, each exactly as if it were alone.

LOSO needs one model per fold, arm and seed: dozens of tiny MLPs for which a plain loop spends its
time on overhead. Here models of the same input columns form a batch: weights carry a leading model
axis, one ``bmm`` serves all of them, and gradients are written out by hand, since the network is
three layers and autograd's bookkeeping costs more than its arithmetic. Every model keeps its own
initialisation, shuffle, dropout, epochs, last partial batch and Adam state. All start at step 0 and
count steps alike, whatever their number of rows, so Adam's bias correction is one number for the
batch; a model that has done its epochs leaves it.

The recipe is ADR-0319's: Adam, L2 weight decay, MSE on raw VMAF 0..100, batch 32, 200 epochs,
features standardised with training rows only.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fr_lib.errors import InputError, say
from fr_lib.model import FRRegressor
from fr_lib.schema import CANONICAL_6

N_FEATURES = len(CANONICAL_6)
MIN_STD = 1e-8
# Models per batch: enough to hide the cost of a call, few enough for the state to stay in cache.
MAX_BATCH_OF_MODELS = 16
# Steps whose row indices are drawn in one go.
CHUNK = 128


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


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of the six features over training rows, (6,) float32 each."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Scaler:
        """Fit on (N, 6) raw features: ddof 0, and std below 1e-8 counts as 1."""
        wide = np.asarray(features, dtype=np.float64)
        std = wide.std(axis=0)
        return cls(
            wide.mean(axis=0).astype(np.float32),
            np.where(std < MIN_STD, 1.0, std).astype(np.float32),
        )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise (N, 6) raw features to float32."""
        return (np.asarray(features, dtype=np.float32) - self.mean) / self.std


@dataclass(frozen=True)
class Job:
    """One model to train: the rows it may see, its input columns and its seed.

    Attributes
    ----------
    rows : (n,) int array
        Training rows. The scaler sees these and no others.
    columns : tuple of int
        Columns of the input table; the six features come first.
    seed : int
        Of initialisation and shuffles.
    """

    rows: np.ndarray
    columns: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Trained:
    """A trained model with its scaler, its input columns and the MSE of its last step's rows."""

    model: FRRegressor
    scaler: Scaler
    columns: tuple[int, ...]
    loss: float

    def inputs(self, table: np.ndarray) -> np.ndarray:
        """Pick and standardise this model's inputs from rows of the input table."""
        picked = np.asarray(table, dtype=np.float32)[:, list(self.columns)]
        picked[:, :N_FEATURES] = self.scaler(picked[:, :N_FEATURES])
        return picked

    def predict(self, table: np.ndarray) -> np.ndarray:
        """Map rows of the input table to (N,) float64 VMAF, not clipped."""
        with torch.no_grad():
            score = self.model(torch.from_numpy(self.inputs(table)))
        return score.squeeze(1).numpy().astype(np.float64)


class Stopped(KeyboardInterrupt):
    """Raised inside workers after Ctrl-C."""


def pick_device(device: str = "auto") -> str:
    """Return "cuda" if `device` is "auto" and one is there, else "cpu" or what was named.

    Raises
    ------
    InputError
        For another name, or for "cuda" where there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InputError(say("device", repr(device), "auto, cpu, cuda", "choose one"))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(say("device", "no CUDA device here", "auto, cpu", "choose one"))
    return device


def train_many(
    table: np.ndarray,
    target: np.ndarray,
    jobs: Sequence[Job],
    recipe: Recipe,
    device: str = "auto",
    progress: Callable[[str, float], None] | None = None,
) -> list[Trained]:
    """Train one model per job; the result is that of training them one after another.

    Parameters
    ----------
    table : (N, C) float32
        Raw features and codec blocks; each job names its columns.
    target : (N,) float32
        VMAF, 0..100.
    jobs : sequence of Job
    recipe : Recipe
    device : {"auto", "cpu", "cuda"}
    progress : callable, optional
        Called with a message and the share done, 0..1.

    Returns
    -------
    list of Trained, in the order of `jobs`.

    Raises
    ------
    InputError
        If a job has no rows.
    """
    if any(len(job.rows) == 0 for job in jobs):
        raise InputError(say("training", "a model without rows", "at least one row", "add sources"))
    where = pick_device(device)
    stop = threading.Event()
    cores = (os.cpu_count() or 1) if where == "cpu" else 1
    batches = _batches(jobs, MAX_BATCH_OF_MODELS if where == "cpu" else len(jobs), cores)
    meter = _Meter(len(jobs), recipe.epochs, progress)
    x = torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32)).to(where)
    y = torch.from_numpy(np.ascontiguousarray(target, dtype=np.float32)).to(where)
    results: list[Trained | None] = [None] * len(jobs)

    def work(members: list[int]) -> None:
        batch = [jobs[i] for i in members]
        for i, done in zip(members, _train_batch(x, y, batch, recipe, meter, stop), strict=True):
            results[i] = done

    # Batches are independent, so threads without any intra-op parallelism use the cores best, and
    # the same call on the same machine gives the same bytes.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores) as pool:
            try:
                list(pool.map(work, batches))
            except BaseException:
                stop.set()
                raise
    finally:
        torch.set_num_threads(threads)
    return [r for r in results if r is not None]


def _batches(jobs: Sequence[Job], size: int, cores: int) -> list[list[int]]:
    """Group job numbers by input columns, longest training first, at most `size` together.

    One group alone is cut so that every core has a batch.
    """
    by_columns: dict[tuple[int, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        by_columns.setdefault(job.columns, []).append(i)
    batches = []
    for members in by_columns.values():
        members.sort(key=lambda i: -len(jobs[i].rows))
        parts = max(math.ceil(len(members) / size), math.ceil(cores / len(by_columns)))
        each = math.ceil(len(members) / parts)
        batches += [members[k : k + each] for k in range(0, len(members), each)]
    return sorted(batches, key=lambda b: -sum(len(jobs[i].rows) for i in b))


class _Meter:
    """Adds up the work of all threads and reports it."""

    def __init__(self, models: int, epochs: int, report: Callable[[str, float], None] | None):
        self.models, self.epochs, self.report = models, epochs, report
        self.done = 0.0
        self.lock = threading.Lock()

    def add(self, share_of_models: float, loss: float) -> None:
        """Count `share_of_models` finished models, in steps of a chunk."""
        with self.lock:
            self.done += share_of_models
            if self.report:
                share = self.done / self.models
                self.report(f"epoch {share * self.epochs:.0f}/{self.epochs}, MSE {loss:.3g}", share)


class _Feed:
    """Row numbers and loss weights of every step, for one model, in its own shuffled epochs."""

    def __init__(self, job: Job, batch: int):
        self.rows, self.batch = np.asarray(job.rows), batch
        self.rng = np.random.default_rng(job.seed)
        self.per_epoch = math.ceil(len(self.rows) / batch)
        self.left = np.empty((0, batch), dtype=np.int64)
        pad = self.per_epoch * batch - len(self.rows)
        self.pad = np.repeat(self.rows[:1], pad)
        self.weights = np.full((self.per_epoch, batch), 1.0 / batch, dtype=np.float32)
        if pad:
            # Padded places count for nothing, and the rest form the mean of a shorter batch.
            self.weights[-1] = np.where(np.arange(batch) < batch - pad, 1.0 / (batch - pad), 0.0)
        self.at = 0

    def take(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (steps, batch) row numbers and weights, and move on."""
        while len(self.left) < steps:
            order = np.concatenate([self.rng.permutation(self.rows), self.pad])
            self.left = np.concatenate([self.left, order.reshape(-1, self.batch)])
        taken, self.left = self.left[:steps], self.left[steps:]
        weights = self.weights[(self.at + np.arange(steps)) % self.per_epoch]
        self.at += steps
        return taken, weights


class _Stack:
    """Weights of several models, their gradients and Adam moments, in four flat buffers."""

    def __init__(self, width: int, hidden: int, models: int, device: torch.device):
        self.shapes = (
            (models, width, hidden),
            (models, 1, hidden),
            (models, hidden, hidden),
            (models, 1, hidden),
            (models, hidden, 1),
            (models, 1, 1),
        )
        size = sum(math.prod(s) for s in self.shapes)
        self.flat, self.grad, self.m, self.v = torch.zeros(4, size, device=device).unbind()
        self.weights = self._split(self.flat)
        self.grads = self._split(self.grad)

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split([math.prod(s) for s in self.shapes])
        return [p.view(s) for p, s in zip(parts, self.shapes, strict=True)]

    def put(self, i: int, model: FRRegressor) -> None:
        for mine, theirs in zip(self.weights, model.parameters(), strict=True):
            mine[i] = theirs.detach().T if theirs.ndim == 2 else theirs.detach()

    def get(self, i: int, model: FRRegressor) -> FRRegressor:
        with torch.no_grad():
            for mine, theirs in zip(self.weights, model.parameters(), strict=True):
                theirs.copy_(mine[i].T if theirs.ndim == 2 else mine[i, 0])
        return model.eval()

    def first(self, models: int) -> _Stack:
        """Return a copy that holds the first `models` models and their Adam moments."""
        _, width, hidden = self.shapes[0]
        small = _Stack(width, hidden, models, self.flat.device)
        for name in ("flat", "m", "v"):
            pairs = zip(
                small._split(getattr(small, name)), self._split(getattr(self, name)), strict=True
            )
            for mine, theirs in pairs:
                mine.copy_(theirs[:models])
        return small


def new_model(width: int, recipe: Recipe, seed: int) -> FRRegressor:
    """Return a model with PyTorch's default initialisation from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FRRegressor(width, recipe.hidden, recipe.dropout)


_INIT_LOCK = threading.Lock()


def _train_batch(
    x: Tensor, y: Tensor, jobs: list[Job], recipe: Recipe, meter: _Meter, stop: threading.Event
) -> list[Trained]:
    """Train jobs of the same columns, sorted by falling number of rows."""
    device = x.device
    table = x[:, list(jobs[0].columns)]
    scalers = [Scaler.fit(x[job.rows][:, list(job.columns[:N_FEATURES])].cpu()) for job in jobs]
    width = len(jobs[0].columns)
    with _INIT_LOCK:
        models = [new_model(width, recipe, job.seed) for job in jobs]
    stack = _Stack(width, recipe.hidden, len(jobs), device)
    for i, model in enumerate(models):
        stack.put(i, model)
    feeds = [_Feed(job, recipe.batch) for job in jobs]
    totals = [feed.per_epoch * recipe.epochs for feed in feeds]
    losses = [math.nan] * len(jobs)
    generators = [torch.Generator(device=device).manual_seed(job.seed) for job in jobs]
    step, active = 0, len(jobs)
    net = _Net(stack, scalers, recipe, generators)
    while active:
        chunk = min(CHUNK, totals[active - 1] - step)
        drawn = [feed.take(chunk) for feed in feeds[:active]]
        rows = torch.from_numpy(np.stack([d[0] for d in drawn], axis=1)).to(device)
        weights = torch.from_numpy(np.stack([d[1] for d in drawn], axis=1)).to(device)
        xs, ys = table[rows.reshape(chunk, -1)], y[rows]
        net.standardise(xs.view(chunk, active, recipe.batch, width))
        for k in range(chunk):
            if stop.is_set():
                raise Stopped
            net.step(xs[k].view(active, recipe.batch, width), ys[k], weights[k], step + k, totals)
        step += chunk
        loss = net.last_loss()
        losses[:active] = loss.tolist()
        meter.add(sum(chunk / n for n in totals[:active]), float(loss.mean()))
        finished = sum(total <= step for total in totals[:active])
        if finished:
            for i in range(active - finished, active):
                stack.get(i, models[i])
            active -= finished
            if active:
                stack = stack.first(active)
                net = _Net(stack, scalers[:active], recipe, generators)
    return [
        Trained(_finished(m.cpu(), x, job, recipe), s, job.columns, loss)
        for m, job, s, loss in zip(models, jobs, scalers, losses, strict=True)
    ]


class _Net:
    """Forward, backward and Adam for a stack; every buffer is made once."""

    def __init__(
        self,
        stack: _Stack,
        scalers: list[Scaler],
        recipe: Recipe,
        generators: list[torch.Generator],
    ):
        self.s, self.recipe, self.generators = stack, recipe, generators
        device = stack.flat.device
        models = stack.shapes[0][0]
        self.mean = torch.stack([torch.from_numpy(s.mean) for s in scalers])[:, None].to(device)
        self.std = torch.stack([torch.from_numpy(s.std) for s in scalers])[:, None].to(device)
        shape = (models, recipe.batch, recipe.hidden)
        self.h1, self.a1, self.h2, self.a2, self.g1, self.g2 = (
            torch.empty(shape, device=device) for _ in range(6)
        )
        self.out, self.gout = (torch.empty(models, recipe.batch, 1, device=device) for _ in "ab")
        self.denominator = torch.empty_like(stack.flat)
        self.weight = torch.zeros(models, recipe.batch, 1, device=device)
        self.masks: list[Tensor] = []

    def standardise(self, xs: Tensor) -> None:
        """Standardise the features of (steps, models, batch, width) inputs in place."""
        features = xs[..., :N_FEATURES]
        features.sub_(self.mean).div_(self.std)

    def _drop(self, a: Tensor) -> None:
        keep = 1.0 - self.recipe.dropout
        mask = torch.empty_like(a)
        # A generator each: what a model drops does not depend on its neighbours in the batch.
        for own, generator in zip(mask, self.generators, strict=False):
            own.bernoulli_(keep, generator=generator)
        mask.div_(keep)
        self.masks.append(mask)
        a.mul_(mask)

    def forward(self, x: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3 = self.s.weights
        torch.baddbmm(b1, x, w1, out=self.h1)
        torch.ops.aten.gelu.out(self.h1, out=self.a1)
        self.masks = []
        if self.recipe.dropout:
            self._drop(self.a1)
        torch.baddbmm(b2, self.a1, w2, out=self.h2)
        torch.ops.aten.gelu.out(self.h2, out=self.a2)
        if self.recipe.dropout:
            self._drop(self.a2)
        return torch.baddbmm(b3, self.a2, w3, out=self.out)

    def step(self, x: Tensor, y: Tensor, weight: Tensor, t: int, totals: Sequence[int]) -> None:
        """Take one Adam step on (models, batch, width) inputs; `weight` sums to 1 per model."""
        _, _, w2, _, w3, _ = self.s.weights
        gw1, gb1, gw2, gb2, gw3, gb3 = self.s.grads
        out = self.forward(x)
        torch.sub(out, y.unsqueeze(2), out=self.gout)
        self.weight = weight.unsqueeze(2)
        self.residual = self.gout
        gout = self.gout * self.weight * 2.0
        torch.bmm(self.a2.transpose(1, 2), gout, out=gw3)
        torch.sum(gout, dim=1, keepdim=True, out=gb3)
        torch.mul(gout, w3.transpose(1, 2), out=self.g2)
        if self.masks:
            self.g2.mul_(self.masks[1])
        torch.ops.aten.gelu_backward.grad_input(self.g2, self.h2, grad_input=self.g2)
        torch.bmm(self.a1.transpose(1, 2), self.g2, out=gw2)
        torch.sum(self.g2, dim=1, keepdim=True, out=gb2)
        torch.bmm(self.g2, w2.transpose(1, 2), out=self.g1)
        if self.masks:
            self.g1.mul_(self.masks[0])
        torch.ops.aten.gelu_backward.grad_input(self.g1, self.h1, grad_input=self.g1)
        torch.bmm(x.transpose(1, 2), self.g1, out=gw1)
        torch.sum(self.g1, dim=1, keepdim=True, out=gb1)
        self._adam(t, totals)

    def _adam(self, t: int, totals: Sequence[int]) -> None:
        """Adam with torch's defaults (0.9, 0.999, eps 1e-8) and L2 decay in the gradient."""
        s, r = self.s, self.recipe
        if r.weight_decay:
            s.grad.add_(s.flat, alpha=r.weight_decay)
        s.m.lerp_(s.grad, 0.1)
        s.v.mul_(0.999).addcmul_(s.grad, s.grad, value=0.001)
        torch.sqrt(s.v, out=self.denominator)
        correction1, correction2 = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
        self.denominator.div_(math.sqrt(correction2)).add_(1e-8)
        if r.schedule == "constant":
            s.flat.addcdiv_(s.m, self.denominator, value=-r.lr / correction1)
            return
        models = s.shapes[0][0]
        rates = [r.lr * 0.5 * (1 + math.cos(math.pi * t / n)) for n in totals[:models]]
        rate = torch.tensor(rates, device=s.flat.device).view(-1, 1, 1)
        update = s.m.div(self.denominator)
        for w, u in zip(s.weights, s._split(update), strict=True):
            w.addcmul_(u, rate, value=-1.0 / correction1)

    def last_loss(self) -> Tensor:
        """Return the MSE of the last step, (models,)."""
        return (self.residual.square() * self.weight).sum(dim=(1, 2))


def _finished(model: FRRegressor, table: Tensor, job: Job, recipe: Recipe) -> FRRegressor:
    return fold_constant_columns(model, table, job) if recipe.fold_constants else model


def fold_constant_columns(model: FRRegressor, table: Tensor, job: Job) -> FRRegressor:
    """Make codec-block columns that taught nothing powerless, without change on training rows.

    A constant column c with weight w acts on training rows as a bias of c * w. Moved into the bias,
    the column can be set to anything later and moves no prediction: an untrained one-hot slot, or a
    preset that never varied. A preset that differs between encoders but never varied within one
    acts as a bias per encoder, and is first moved into their one-hot weights in the same way.
    """
    block = list(job.columns[N_FEATURES:])
    if not block:
        return model
    rows = table[job.rows][:, block].cpu()
    first = model.layers[0]
    with torch.no_grad():
        weight = first.weight[:, N_FEATURES:]
        _fold_into_slots(weight, rows)
        constant = (rows == rows[0]).all(dim=0)
        first.bias += weight[:, constant] @ rows[0][constant]
        weight[:, constant] = 0.0
    return model


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
